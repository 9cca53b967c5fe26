package kis

import (
	"sync"
	"time"
)

// Cache keeps values in memory, each until it expires. The zero value is ready for use. A Cache is safe for concurrent use.
type Cache struct {
	mu      sync.Mutex
	entries map[string]cached // guarded by mu
	swept   time.Time         // when expired values were last dropped; guarded by mu
}

// cached is one value in a Cache, with the time at which it expires.
type cached struct {
	value   any
	expires time.Time // zero means never
}

// sweepInterval is the least time between two sweeps, in which a Cache drops all values that have expired.
const sweepInterval = 5 * time.Minute

// Get returns the value of a key. false means that there is none, or that it has expired.
func (c *Cache) Get(key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.expired(time.Now) {
		return nil, false
	}
	return e.value, true
}

// Set keeps a value under a key for the time keep. A keep of 0 or less means without end: for as long as the copy of the
// flow lives.
func (c *Cache) Set(key string, value any, keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]cached)
	}
	e := cached{value: value}
	if keep > 0 {
		now := time.Now()
		e.expires = now.Add(keep)
		c.sweep(now)
	}
	c.entries[key] = e
}

// Delete removes the value of a key, if there is one.
func (c *Cache) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}

// sweep drops all values that have expired, unless the last sweep was less than sweepInterval ago. The caller holds c.mu.
func (c *Cache) sweep(now time.Time) {
	if now.Sub(c.swept) < sweepInterval {
		return
	}
	c.swept = now
	for key, e := range c.entries {
		if e.expired(func() time.Time { return now }) {
			delete(c.entries, key)
		}
	}
}

// expired reports whether the value has expired. now returns the present time; it is called only if the value can expire.
func (e cached) expired(now func() time.Time) bool {
	return !e.expires.IsZero() && !now().Before(e.expires)
}

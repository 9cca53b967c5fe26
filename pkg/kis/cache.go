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

// cached is one value of a Cache.
type cached struct {
	value   any
	expires time.Time // zero means never
}

// sweepInterval is how often Set drops the values that have expired.
const sweepInterval = 5 * time.Minute

// Get returns a value, and whether there is one that has not expired.
func (c *Cache) Get(key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.expired(time.Now) {
		return nil, false
	}
	return e.value, true
}

// Set keeps a value for a time. 0 means for as long as the copy of the flow lives.
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

// Delete forgets a value.
func (c *Cache) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}

// sweep drops the values that have expired, if it is time to. c.mu is held.
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

// expired reports whether a value has expired. It calls now only if the value can expire.
func (e cached) expired(now func() time.Time) bool {
	return !e.expires.IsZero() && !now().Before(e.expires)
}

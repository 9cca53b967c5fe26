package kis

import (
	"sync"
	"time"
)

// Cache keeps values in memory until they expire. The zero value is ready for use; it is safe for concurrent use.
type Cache struct {
	mu      sync.Mutex
	entries map[string]cached // guarded by mu
	swept   time.Time         // guarded by mu
}

type cached struct {
	value   any
	expires time.Time // zero: never
}

const sweepInterval = 5 * time.Minute

// Get finds a value that has not expired.
func (c *Cache) Get(key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.expired(time.Now) {
		return nil, false
	}
	return e.value, true
}

// Set keeps a value for that long; 0 means as long as the copy of the flow lives.
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

// sweep drops what has expired, from time to time; c.mu is held.
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

// expired asks for the time only where it matters.
func (e cached) expired(now func() time.Time) bool {
	return !e.expires.IsZero() && !now().Before(e.expires)
}

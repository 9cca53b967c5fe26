package devcluster

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// RedisConfig says where an embedded Redis listens. The zero value will do.
type RedisConfig struct {
	// Address is host:port. Default: a free port of 127.0.0.1.
	Address string
}

// Redis is a Redis in this process, with all its data in memory: a stand-in that knows the commands KisGrid uses. It prints
// nothing.
type Redis struct {
	server  *miniredis.Miniredis
	address string
	stop    chan struct{}
	clock   sync.WaitGroup
	close   sync.Once
}

// clockTick is how exact expiry is. Each tick looks at every key that expires.
const clockTick = 100 * time.Millisecond

// StartRedis starts an empty Redis.
func StartRedis(c RedisConfig) (*Redis, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := r.server.StartAddr(c.Address); err != nil {
		return nil, fmt.Errorf("start the embedded Redis at %s: %w", c.Address, err)
	}
	r.address = r.server.Addr()
	r.addAsRedis()
	r.clock.Go(r.passTime)
	return r, nil
}

// passTime lets keys expire: the stand-in has no clock of its own.
func (r *Redis) passTime() {
	ticker := time.NewTicker(clockTick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C:
			now := time.Now()
			r.server.FastForward(now.Sub(last))
			last = now
		case <-r.stop:
			return
		}
	}
}

// Address is where it serves clients, host:port.
func (r *Redis) Address() string { return r.address }

// Close stops it, with all its data gone, and waits until it has stopped. It is safe twice.
func (r *Redis) Close() error {
	r.close.Do(func() {
		close(r.stop)
		r.clock.Wait()
		r.server.Close()
	})
	return nil
}

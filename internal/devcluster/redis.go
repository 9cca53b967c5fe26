package devcluster

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/redisnumbers"
)

// RedisConfig says where an embedded Redis listens. The zero value is usable.
type RedisConfig struct {
	// Address is where the Redis serves clients, as host:port. Default: a free port of 127.0.0.1.
	Address string
}

// Redis is a stand-in for a Redis server, in this process and with all its data in memory. It knows the commands that KisGrid uses, and
// prints nothing. Its methods may be called from several goroutines.
type Redis struct {
	server  *miniredis.Miniredis
	address string
	stop    chan struct{}  // closed by Close
	clock   sync.WaitGroup // waits for passTime
	close   sync.Once
}

// clockTick is the time between two steps of the stand-in's clock. A key may expire so much too late.
const clockTick = 100 * time.Millisecond

// StartRedis starts an empty Redis. It is an error when the address is taken.
func StartRedis(c RedisConfig) (*Redis, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := r.server.StartAddr(c.Address); err != nil {
		return nil, fmt.Errorf("start the embedded Redis at %s: %w", c.Address, err)
	}
	r.address = r.server.Addr()
	s := r.server.Server()
	s.SetPreHook(redisnumbers.Hook(s))
	r.clock.Go(r.passTime)
	return r, nil
}

// passTime lets the time of the stand-in go on, in steps of clockTick, until Close. Otherwise no key would expire, because the stand-in
// has no clock.
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

// Address returns the address (host:port) at which the Redis serves clients.
func (r *Redis) Address() string { return r.address }

// Close stops the Redis, deletes its data, and waits until it has stopped. It is safe to call twice, and always returns nil.
func (r *Redis) Close() error {
	r.close.Do(func() {
		close(r.stop)
		r.clock.Wait()
		r.server.Close()
	})
	return nil
}

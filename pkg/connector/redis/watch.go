package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// watchedKeys knows the keys that the Watchers of one connection wait for, and wakes the Watchers. It finds out about a key in
// three ways: it reads the key once when Redis has confirmed the subscription to the key's channel; it is notified over that
// channel when another process saves the key; and it reads all keys once a second, for programs that write to Redis without
// KisGrid. A key goes through these states:
//
//	          Add                 SUBSCRIBE confirmed
//	(none) ---------> subscribing -------------------> watched <----------+
//	                     |                              |  |              |
//	                     | Remove: the      read finds, |  | Remove: the  | Add
//	                     | Load timed out  notified, or |  | Load timed   |
//	                     |                  poll finds: |  | out          |
//	                     |                       wake   +--+              |
//	                     |                              v                 |
//	                     +--------------------------> unwatched ----------+
//	                                                    |
//	                                                    | next tick: UNSUBSCRIBE
//	                                                    v
//	                                                  (none)
//
// An unwatched key stays subscribed until the next tick, so that waiting for it again costs little. When go-redis reconnects, it
// subscribes again; each new confirmation has the key read again, since a notification may have been lost.
//
// Three goroutines work here: tend sends subscriptions, and reads the keys whose subscription is confirmed; listen takes what Redis
// sends over the subscription; recheck polls. A fourth one, publish, tells other processes of keys that this one saved.
type watchedKeys struct {
	conn          *Connection
	channelPrefix string          // a key's channel is named by this and the key
	presence      string          // the channel to which a process subscribes while it waits for any key
	savedKeys     chan []string   // from saved to publish
	work          chan struct{}   // tells tend that toSubscribe or toRead has grown; buffers one
	pubsub        *goredis.PubSub // tend sends over it, listen receives
	watching      atomic.Int64    // number of keys with a Watcher; a Save reads it without the lock
	warned        sync.Once       // the log has said that this user may not publish

	mu             sync.Mutex             // guards everything below
	keys           map[string]*watchedKey // by key with the connector's prefix
	unconfirmed    int                    // keys in state subscribing
	presenceKnown  bool                   // Redis has confirmed the subscription to presence
	toSubscribe    []string               // keys for tend to subscribe to
	toRead         []string               // keys for tend to read: their subscription has just been confirmed
	maybeUnwatched []string               // keys that lost their last Watcher since the last tick
}

// watchedKey is a key that is subscribed to, or about to be. It is guarded by watchedKeys.mu.
type watchedKey struct {
	watchers  []*watcher // the Watchers that wait for it; none in state unwatched
	confirmed bool       // Redis has confirmed the subscription
}

// watcher is the connector.Watcher of this package.
type watcher struct {
	wake    func(key string) // the caller's; key is without the connector's prefix
	watched *watchedKeys
}

// Watch makes a Watcher. A key that it waits for takes some 200 bytes beside its own length here, and as many in Redis: 100,000 keys
// may wait.
func (c *Connection) Watch(wake func(key string)) connector.Watcher {
	return &watcher{wake: wake, watched: &c.watched}
}

// Add implements connector.Watcher.
func (w *watcher) Add(keys ...string) { w.watched.add(w, w.withPrefix(keys)) }

// Remove implements connector.Watcher.
func (w *watcher) Remove(keys ...string) { w.watched.remove(w, w.withPrefix(keys)) }

// withPrefix returns the keys with the connector's prefix before each.
func (w *watcher) withPrefix(keys []string) []string {
	whole := make([]string, len(keys))
	for i, key := range keys {
		whole[i] = w.watched.conn.prefix + key
	}
	return whole
}

// start starts the goroutines of watchedKeys for a connection. They end with ctx; Connection.Close waits for them.
func (w *watchedKeys) start(ctx context.Context, c *Connection) {
	db := strconv.Itoa(c.options.client.DB) // a Redis has the same channels in all its databases, so their names have the number
	w.conn, w.channelPrefix, w.presence = c, "kisgrid:saved:"+db+":", "kisgrid:waiting:"+db
	w.keys, w.savedKeys, w.work = map[string]*watchedKey{}, make(chan []string, 2*senders), make(chan struct{}, 1)
	w.pubsub = c.client.Subscribe(ctx)
	c.goroutines.Go(func() { w.tend(ctx) })
	c.goroutines.Go(func() { w.publish(ctx) })
	if c.tick > 0 {
		c.goroutines.Go(func() { w.recheck(ctx) })
	}
}

// add registers a Watcher for keys. A key that is new is subscribed to, and a key that is subscribed to already is read at once.
func (w *watchedKeys) add(who *watcher, keys []string) {
	added := 0
	w.mu.Lock()
	for _, key := range keys {
		k := w.keys[key]
		switch {
		case k == nil:
			k = &watchedKey{}
			w.keys[key] = k
			w.unconfirmed++
			w.toSubscribe = append(w.toSubscribe, key)
		case k.confirmed:
			w.toRead = append(w.toRead, key)
		}
		if len(k.watchers) == 0 {
			added++
		}
		k.watchers = append(k.watchers, who)
	}
	w.mu.Unlock()
	w.count(added)
	w.signal()
}

// remove takes a Watcher off keys. A key without another Watcher becomes unwatched.
func (w *watchedKeys) remove(who *watcher, keys []string) {
	left := 0
	w.mu.Lock()
	for _, key := range keys {
		k := w.keys[key]
		if k == nil || len(k.watchers) == 0 {
			continue // it was woken in the meantime
		}
		if k.watchers = slices.DeleteFunc(k.watchers, func(other *watcher) bool { return other == who }); len(k.watchers) == 0 {
			w.maybeUnwatched = append(w.maybeUnwatched, key)
			left++
		}
	}
	w.mu.Unlock()
	w.count(-left)
}

// wake tells the Watchers of keys that these may be there, and makes the keys unwatched. It calls the Watchers without the lock.
func (w *watchedKeys) wake(keys []string) {
	type call struct {
		who *watcher
		key string
	}
	var calls []call
	woken := 0
	w.mu.Lock()
	for _, key := range keys {
		k := w.keys[key]
		if k == nil || len(k.watchers) == 0 {
			continue
		}
		for _, who := range k.watchers {
			calls = append(calls, call{who, strings.TrimPrefix(key, w.conn.prefix)})
		}
		k.watchers = nil
		w.maybeUnwatched = append(w.maybeUnwatched, key)
		woken++
	}
	w.mu.Unlock()
	w.count(-woken)
	for _, c := range calls {
		c.who.wake(c.key)
	}
}

// count adds more, which may be negative, to the number of keys that have a Watcher, in the field watching and in the metric.
func (w *watchedKeys) count(more int) {
	if more != 0 {
		w.watching.Add(int64(more))
		w.conn.metrics.Waiting(w.conn.name, more)
	}
}

// signal tells the goroutine tend that there are keys to subscribe to or to read. It does not block.
func (w *watchedKeys) signal() {
	select {
	case w.work <- struct{}{}:
	default: // it has been told already
	}
}

// recheck reads all keys with a Watcher once per tick, for programs that write to Redis without KisGrid. If there are none, it pings
// Redis, so that the metric and the log tell whether Redis is there. Each minute it looks at Redis's settings.
func (w *watchedKeys) recheck(ctx context.Context) {
	tick := time.NewTicker(w.conn.tick)
	defer tick.Stop()
	look := time.NewTicker(inspectEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			w.conn.settings.inspect(ctx)
			continue
		case <-tick.C:
		}
		if keys := w.allWatched(); len(keys) > 0 {
			_ = w.lookFor(ctx, keys) // the next tick reads again
		} else {
			_ = w.conn.Ping(ctx) // it reports to the connection's health
		}
		w.conn.retryFailing(ctx)
	}
}

// allWatched returns the keys that have a Watcher.
func (w *watchedKeys) allWatched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]string, 0, w.watching.Load())
	for key, k := range w.keys {
		if len(k.watchers) > 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

// retryFailing tries once more, at a key of KisGrid's own, each aspect that fails, so that Redis is seen to be back also when nobody saves or
// loads. It takes at most dial_timeout.
func (c *Connection) retryFailing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.options.client.DialTimeout)
	defer cancel()
	if slot, letter, failing := c.health.failingSaves(); failing {
		_ = c.saves.do(ctx, c.probe(slot, letter), "saving") // the result shows in the health
	}
	if c.health.reason(loads) != nil {
		_, _ = c.load(ctx, []string{c.probeKey(0)}) // the result shows in the health
	}
}

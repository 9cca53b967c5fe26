package redis

import (
	"cmp"
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

// waitChunk is how many keys one command names: it keeps Redis, and who waits for the lock, from being held up.
const waitChunk = 512

// waits are the keys that callers of this connection wait for. A key's way: wanted by a waiter, subscribed to, confirmed,
// read, woken; unsubscribed at the first tick at which nobody wants it any more, so that waiting again costs little.
type waits struct {
	conn     *Connection
	channels string          // what the name of a key's channel begins with
	anybody  string          // the channel whose subscribers say that somebody waits
	news     chan []string   // keys that were saved, for publish
	kick     chan struct{}   // there is work for tend; holds one
	pubsub   *goredis.PubSub // tend alone sends over it
	waiting  atomic.Int64    // keys with a waiter: a Save asks without the lock
	denied   sync.Once       // that publishing is not allowed has been said

	mu        sync.Mutex
	keys      map[string]*waited // by key with prefix; guarded by mu, as all below
	open      int                // keys that Redis has not said to be subscribed to
	known     bool               // it has said so of anybody
	subscribe []string           // keys to subscribe to
	read      []string           // keys to read, their subscription being confirmed
	idle      []string           // keys that had no waiter at some time since the last tick
}

// waited is a key that is subscribed to, or will be. Guarded by waits.mu.
type waited struct {
	waiters   []*waiter
	confirmed bool // Redis has said that it is subscribed to
}

// waiter is one caller of Wait, or a Watcher.
type waiter struct {
	woken chan struct{} // nil: a Watcher
	once  sync.Once
	tell  func(key string) // of a Watcher
	waits *waits           // of a Watcher
}

// Watch makes a Watcher. A key costs as much as with Wait.
func (c *Connection) Watch(wake func(key string)) connector.Watcher {
	return &waiter{tell: wake, waits: &c.waits}
}

// Add implements connector.Watcher.
func (w *waiter) Add(keys ...string) { w.waits.add(w, w.waits.conn.full(keys)) }

// Remove implements connector.Watcher.
func (w *waiter) Remove(keys ...string) { w.waits.remove(w, w.waits.conn.full(keys)) }

// full is the keys with the connector's prefix.
func (c *Connection) full(keys []string) []string {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = c.prefix + key
	}
	return full
}

// Wait blocks until one of the keys may be there. A key takes some 200 bytes here beside its own, and as many in Redis:
// 100,000 may wait.
func (c *Connection) Wait(ctx context.Context, keys []string) error {
	if c.isClosing() {
		return connector.Closed(c.name)
	}
	if len(keys) == 0 {
		return nil
	}
	full := c.full(keys)
	w := &waiter{woken: make(chan struct{})}
	c.waits.add(w, full)
	defer c.waits.remove(w, full)
	select {
	case <-w.woken:
		return nil
	case <-ctx.Done():
		return connector.Ended(ctx, c.name, "waiting for "+describe(full))
	case <-c.closing:
		return connector.Closed(c.name)
	}
}

// describe names keys in an error, not all of many.
func describe(keys []string) string {
	if len(keys) > 3 {
		return strconv.Quote(keys[0]) + " and " + strconv.Itoa(len(keys)-1) + " other keys"
	}
	quoted := make([]string, len(keys))
	for i, key := range keys {
		quoted[i] = strconv.Quote(key)
	}
	return strings.Join(quoted, ", ")
}

func (w *waits) start(ctx context.Context, c *Connection) {
	// Channels are not divided by database in Redis.
	db := strconv.Itoa(c.options.client.DB)
	w.conn, w.channels, w.anybody = c, "kisgrid:saved:"+db+":", "kisgrid:waiting:"+db
	w.keys, w.news, w.kick = map[string]*waited{}, make(chan []string, 2*senders), make(chan struct{}, 1)
	w.pubsub = c.client.Subscribe(ctx)
	c.goroutines.Go(func() { w.tend(ctx) })
	c.goroutines.Go(func() { w.publish(ctx) })
	if c.tick > 0 {
		c.goroutines.Go(func() { w.recheck(ctx) })
	}
}

// add registers who for keys, and has them subscribed to or, where they are already, read.
func (w *waits) add(who *waiter, keys []string) {
	fresh := 0
	w.mu.Lock()
	for _, key := range keys {
		e := w.keys[key]
		switch {
		case e == nil:
			e = &waited{}
			w.keys[key] = e
			w.open++
			w.subscribe = append(w.subscribe, key)
		case e.confirmed:
			w.read = append(w.read, key)
		}
		if len(e.waiters) == 0 {
			fresh++
		}
		e.waiters = append(e.waiters, who)
	}
	w.mu.Unlock()
	w.count(fresh)
	w.rouse()
}

// remove takes who off all its keys. Those that nobody else waits for stay subscribed until the next tick.
func (w *waits) remove(who *waiter, keys []string) {
	left := 0
	w.mu.Lock()
	for _, key := range keys {
		e := w.keys[key]
		if e == nil || len(e.waiters) == 0 {
			continue // woken
		}
		if e.waiters = slices.DeleteFunc(e.waiters, func(o *waiter) bool { return o == who }); len(e.waiters) == 0 {
			w.idle = append(w.idle, key)
			left++
		}
	}
	w.mu.Unlock()
	w.count(-left)
}

// count keeps the number of keys with a waiter.
func (w *waits) count(more int) {
	if more != 0 {
		w.waiting.Add(int64(more))
		w.conn.metrics.Waiting(w.conn.name, more)
	}
}

func (w *waits) rouse() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// wake wakes who waits for these keys.
func (w *waits) wake(keys []string) {
	woken := 0
	type telling struct {
		who *waiter
		key string
	}
	var tell []telling
	w.mu.Lock()
	for _, key := range keys {
		e := w.keys[key]
		if e == nil || len(e.waiters) == 0 {
			continue
		}
		for _, who := range e.waiters {
			if who.woken == nil {
				tell = append(tell, telling{who, strings.TrimPrefix(key, w.conn.prefix)})
				continue
			}
			who.once.Do(func() { close(who.woken) })
		}
		e.waiters = nil
		w.idle = append(w.idle, key)
		woken++
	}
	w.mu.Unlock()
	w.count(-woken)
	for _, t := range tell {
		t.who.tell(t.key)
	}
}

// tend takes keys along their way.
func (w *waits) tend(ctx context.Context) {
	defer func() { _ = w.pubsub.Close() }() // nothing is left to be done about an error
	listening, told := false, false         // told: this process asked to be among anybody's subscribers
	late := lateness{}
	tick := time.NewTicker(cmp.Or(max(w.conn.tick, 0), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
			subscribe, read := w.work()
			if len(subscribe) > 0 && !told {
				// First, so that whoever saves a key after its confirmation knows of us.
				subscribe, told = slices.Insert(subscribe, 0, w.anybody), true
			}
			w.send(ctx, w.pubsub.Subscribe, subscribe)
			if len(subscribe) > 0 && !listening {
				w.conn.goroutines.Go(w.listen)
				listening = true
			}
			_ = w.find(ctx, read) // a failure shows in the connection's state; subscribing again, or the next tick, reads again
		case <-tick.C:
			unsubscribe, none := w.sweep()
			if none && told {
				unsubscribe, told = append(unsubscribe, w.anybody), false
			}
			w.send(ctx, w.pubsub.Unsubscribe, unsubscribe)
			if w.conn.Down() == nil {
				w.send(ctx, w.pubsub.Subscribe, w.unheard(&late))
			}
		}
	}
}

// work takes what there is to do: channels to subscribe to, keys to read.
func (w *waits) work() (subscribe, read []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.subscribe {
		if w.keys[key] != nil { // else nobody wants it any more
			subscribe = append(subscribe, w.channels+key)
		}
	}
	read = w.read
	w.subscribe, w.read = nil, nil
	return subscribe, read
}

// sweep forgets the keys that nobody wants, and says whether none is left.
func (w *waits) sweep() (unsubscribe []string, none bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.idle {
		if e := w.keys[key]; e != nil && len(e.waiters) == 0 {
			delete(w.keys, key)
			if !e.confirmed {
				w.open--
			}
			unsubscribe = append(unsubscribe, w.channels+key)
		}
	}
	w.idle = nil
	if len(w.keys) == 0 {
		w.known = false
	}
	return unsubscribe, len(w.keys) == 0
}

// lateness counts the ticks since subscriptions are open. They are asked for again at the second, the fourth, the eighth, and so on.
type lateness struct{ ticks, next int }

// mostLate is how many ticks lie between two questions at the most.
const mostLate = 64

// unheard are the channels that Redis did not confirm when it was asked, but answered something else, and that are to be asked for
// again now.
func (w *waits) unheard(l *lateness) (channels []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == 0 {
		*l = lateness{}
		return nil
	}
	if l.ticks++; l.ticks == 1 {
		l.next = 2
	}
	if l.ticks < l.next {
		return nil
	}
	l.next += min(l.next, mostLate)
	if !w.known {
		channels = append(channels, w.anybody) // first, as ever
	}
	for key, e := range w.keys {
		if !e.confirmed {
			channels = append(channels, w.channels+key)
		}
	}
	return channels
}

// send subscribes to channels, or unsubscribes. When it fails the client does it once it is connected again.
func (w *waits) send(ctx context.Context, do func(context.Context, ...string) error, channels []string) {
	for chunk := range slices.Chunk(channels, waitChunk) {
		if err := do(ctx, chunk...); err != nil {
			w.conn.log.Debug("subscriptions to keys are waiting for redis", "error", err)
		}
	}
}

// listen takes what Redis says about channels, until tend closes the subscription.
func (w *waits) listen() {
	for message := range w.pubsub.ChannelWithSubscriptions() {
		switch m := message.(type) {
		case *goredis.Message:
			w.wake([]string{strings.TrimPrefix(m.Channel, w.channels)})
		case *goredis.Subscription:
			if m.Kind == "subscribe" {
				w.confirm(strings.TrimPrefix(m.Channel, w.channels))
			}
		}
	}
}

// confirm has a key read, as nothing that happens to it from now on is missed; after each reconnection too.
func (w *waits) confirm(key string) {
	w.mu.Lock()
	w.known = w.known || key == w.anybody
	e := w.keys[key]
	if e != nil {
		if !e.confirmed {
			w.open--
		}
		e.confirmed = true
		w.read = append(w.read, key)
	}
	w.mu.Unlock()
	if e != nil {
		w.rouse()
	}
}

// find wakes who waits for those of the keys that are there. A key that can't be read by its own fault costs no other one.
func (w *waits) find(ctx context.Context, keys []string) error {
	var failure error
	for chunk := range slices.Chunk(keys, waitChunk) {
		if w.conn.cluster == nil {
			// Mostly none is there, and one command can say so.
			args := []any{"exists"}
			for i := range chunk {
				args = append(args, &chunk[i])
			}
			count := goredis.NewIntCmd(ctx, args...)
			if err := w.conn.attempt(ctx, "wait", []goredis.Cmder{count}); err != nil {
				return err
			}
			if count.Err() == nil && count.Val() == 0 {
				continue
			}
		}
		counts, commands := make([]*goredis.IntCmd, len(chunk)), make([]goredis.Cmder, len(chunk))
		for i := range chunk {
			counts[i] = goredis.NewIntCmd(ctx, "exists", &chunk[i])
			commands[i] = counts[i]
		}
		missed := w.conn.attempt(ctx, "wait", commands)
		var found []string
		for i, count := range counts {
			if count.Err() == nil && count.Val() > 0 {
				found = append(found, chunk[i])
			}
			failure = cmp.Or(failure, count.Err())
		}
		w.wake(found)
		if missed != nil {
			return missed
		}
	}
	return failure
}

// recheck reads all keys waited for once a second, for what writers save that publish nothing. Without such keys it asks
// whether Redis is there. Now and then it looks at Redis's settings.
func (w *waits) recheck(ctx context.Context) {
	tick := time.NewTicker(w.conn.tick)
	defer tick.Stop()
	settings := time.NewTicker(inspectEvery)
	defer settings.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-settings.C:
			w.conn.inspect(ctx)
			continue
		case <-tick.C:
		}
		if keys := w.wanted(); len(keys) > 0 {
			_ = w.find(ctx, keys) // the next tick reads again
		} else {
			_ = w.conn.Ping(ctx) // for the metric and the log
		}
		w.conn.tryFailing(ctx)
	}
}

// wanted are the keys that somebody waits for.
func (w *waits) wanted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]string, 0, w.waiting.Load())
	for key, e := range w.keys {
		if len(e.waiters) > 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

// saved tells who waits of the keys that a round trip of Saves has written: here at once, and elsewhere if somebody may be
// waiting.
func (w *waits) saved(ctx context.Context, calls []*call, elsewhere bool) {
	here := w.waiting.Load() > 0
	if !here && !elsewhere {
		return
	}
	var keys []string
	for _, call := range calls {
		for _, s := range call.shares {
			for _, i := range s.effects {
				if s.answered && !s.givenUp && (call.verdicts == nil || call.verdicts[i] == nil) {
					keys = append(keys, call.keys[i])
				}
			}
		}
	}
	if here {
		w.wake(keys)
	}
	if elsewhere {
		select {
		case w.news <- keys:
		case <-ctx.Done():
		}
	}
}

// publish tells other processes which keys were saved. The Saves' callers have their answers by then; should it fail, the
// waiting side's next tick finds the keys.
func (w *waits) publish(ctx context.Context) {
	for {
		var keys []string
		select {
		case <-ctx.Done():
			return
		case keys = <-w.news:
		}
		for range len(w.news) {
			keys = append(keys, <-w.news...)
		}
		if w.conn.cluster != nil && !w.anybodyInCluster(ctx) {
			continue
		}
		for chunk := range slices.Chunk(slices.Compact(keys), waitChunk) {
			commands := make([]goredis.Cmder, len(chunk))
			for i, key := range chunk {
				commands[i] = goredis.NewIntCmd(ctx, "publish", w.channels+key, "")
			}
			_ = w.conn.attempt(ctx, "publish", commands) // it shows in the connection's state
			for _, command := range commands {
				w.allowed(command.Err())
			}
		}
	}
}

// anybodyInCluster asks every master for subscribers: a message reaches all nodes, but each counts its own only.
func (w *waits) anybodyInCluster(ctx context.Context) bool {
	var subscribers atomic.Int64
	err := w.conn.cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
		counts, err := node.PubSubNumSub(ctx, w.anybody).Result()
		subscribers.Add(counts[w.anybody])
		return err
	})
	w.allowed(err)
	return subscribers.Load() > 0 || err != nil && !goredis.IsPermissionError(err) // a node that did not say may have some
}

// allowed warns, once, when the user may not tell others of its Saves.
func (w *waits) allowed(err error) {
	if goredis.IsPermissionError(err) {
		w.denied.Do(func() {
			w.conn.log.Warn("redis does not let this user publish: a Load in another process sees a Save up to a second late; "+
				"give the user the commands pubsub, publish and subscribe and the channels kisgrid:*", "error", err)
		})
	}
}

package redis

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// maxKeysPerCommand is the limit for the keys in one command about watched keys, so that no command keeps Redis from other work for
// long.
const maxKeysPerCommand = 512

// tend moves keys from state to state: it sends subscriptions, reads keys whose subscription was confirmed, and unsubscribes from
// unwatched keys at each tick. It is the only goroutine that sends over pubsub.
func (w *watchedKeys) tend(ctx context.Context) {
	defer func() { _ = w.pubsub.Close() }() // it makes listen return; nothing can be done about an error
	listening := false                      // listen runs
	present := false                        // this process has subscribed to presence
	late := retryTicks{}
	tick := time.NewTicker(cmp.Or(max(w.conn.tick, 0), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.work:
			channels, read := w.takeWork()
			if len(channels) > 0 && !present {
				// The presence channel comes first: a process that saves a key after the key's own confirmation sees that we wait.
				channels, present = slices.Insert(channels, 0, w.presence), true
			}
			w.send(ctx, w.pubsub.Subscribe, channels)
			if len(channels) > 0 && !listening {
				w.conn.goroutines.Go(w.listen)
				listening = true
			}
			_ = w.lookFor(ctx, read) // an error shows in the connection's health, and the next confirmation or tick reads again
		case <-tick.C:
			channels, empty := w.dropUnwatched()
			if empty && present {
				channels, present = append(channels, w.presence), false
			}
			w.send(ctx, w.pubsub.Unsubscribe, channels)
			if w.conn.Down() == nil {
				w.send(ctx, w.pubsub.Subscribe, w.unconfirmedChannels(&late))
			}
		}
	}
}

// takeWork returns the channels to subscribe to and the keys to read, and empties both lists.
func (w *watchedKeys) takeWork() (channels, read []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.toSubscribe {
		if w.keys[key] != nil { // else it was dropped in the meantime
			channels = append(channels, w.channelPrefix+key)
		}
	}
	read = w.toRead
	w.toSubscribe, w.toRead = nil, nil
	return channels, read
}

// dropUnwatched forgets the keys in state unwatched. It returns their channels, from which the caller unsubscribes. empty is true if
// no key is left in any state.
func (w *watchedKeys) dropUnwatched() (channels []string, empty bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.maybeUnwatched {
		if k := w.keys[key]; k != nil && len(k.watchers) == 0 {
			delete(w.keys, key)
			if !k.confirmed {
				w.unconfirmed--
			}
			channels = append(channels, w.channelPrefix+key)
		}
	}
	w.maybeUnwatched = nil
	if len(w.keys) == 0 {
		w.presenceKnown = false
	}
	return channels, len(w.keys) == 0
}

// retryTicks counts the ticks for which some subscription has been without confirmation. Subscriptions are sent again at the second
// tick, the fourth, the eighth and so on.
type retryTicks struct{ ticks, next int }

// maxRetryTicks is the largest number of ticks between two times that subscriptions are sent again.
const maxRetryTicks = 64

// unconfirmedChannels returns the channels to subscribe to once more, because Redis answered the first SUBSCRIBE with an error. It
// returns none at ticks at which nothing is to be sent.
func (w *watchedKeys) unconfirmedChannels(late *retryTicks) (channels []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unconfirmed == 0 {
		*late = retryTicks{}
		return nil
	}
	if late.ticks++; late.ticks == 1 {
		late.next = 2
	}
	if late.ticks < late.next {
		return nil
	}
	pointSubscribedAgain.Hit()
	late.next += min(late.next, maxRetryTicks)
	if !w.presenceKnown {
		channels = append(channels, w.presence) // first, as in tend
	}
	for key, k := range w.keys {
		if !k.confirmed {
			channels = append(channels, w.channelPrefix+key)
		}
	}
	return channels
}

// send calls do, which subscribes to channels or unsubscribes from them, for at most maxKeysPerCommand channels at a time. If that
// fails, go-redis does it when it has reconnected.
func (w *watchedKeys) send(ctx context.Context, do func(context.Context, ...string) error, channels []string) {
	for chunk := range slices.Chunk(channels, maxKeysPerCommand) {
		if err := do(ctx, chunk...); err != nil {
			w.conn.log.Debug("subscriptions to keys are not sent yet: redis can't be reached; they are sent when it can", "error", err)
		}
	}
}

// listen takes the messages and confirmations that Redis sends, until tend closes pubsub.
func (w *watchedKeys) listen() {
	for message := range w.pubsub.ChannelWithSubscriptions() {
		switch m := message.(type) {
		case *goredis.Message:
			pointTold.Hit()
			w.wake([]string{strings.TrimPrefix(m.Channel, w.channelPrefix)})
		case *goredis.Subscription:
			if m.Kind == "subscribe" {
				w.confirm(strings.TrimPrefix(m.Channel, w.channelPrefix))
			}
		}
	}
}

// confirm notes that Redis confirmed a subscription, and has the key read: a Save before this moment sent no message, and a Save after
// it sends one. It is called again after each reconnection.
func (w *watchedKeys) confirm(key string) {
	w.mu.Lock()
	w.presenceKnown = w.presenceKnown || key == w.presence
	k := w.keys[key]
	if k != nil {
		if !k.confirmed {
			w.unconfirmed--
		}
		k.confirmed = true
		w.toRead = append(w.toRead, key)
	}
	w.mu.Unlock()
	if k != nil {
		w.signal()
	}
}

// lookFor asks Redis which of the keys are there, and wakes their Watchers. If Redis refuses to look for a key, the other keys are
// looked for all the same. It returns the first refusal, or the error with which Redis could not be asked at all, which ends it.
func (w *watchedKeys) lookFor(ctx context.Context, keys []string) error {
	var failure error
	for chunk := range slices.Chunk(keys, maxKeysPerCommand) {
		if w.conn.cluster == nil {
			// Mostly no key is there, and one command can say so. On a Cluster the keys of one command must be in one slot.
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
		unanswered := w.conn.attempt(ctx, "wait", commands)
		var found []string
		for i, count := range counts {
			if count.Err() == nil && count.Val() > 0 {
				found = append(found, chunk[i])
			}
			failure = cmp.Or(failure, count.Err())
		}
		if len(found) > 0 {
			pointFound.Hit()
		}
		w.wake(found)
		if unanswered != nil {
			return unanswered
		}
	}
	return failure
}

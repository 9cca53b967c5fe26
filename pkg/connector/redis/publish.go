package redis

import (
	"context"
	"slices"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"
)

// saved wakes the Watchers of the keys that a round trip of Saves has written. It wakes the Watchers of this connection at once. If
// elsewhere is true, it hands the keys to publish, which wakes those of other processes; then it blocks while publish is behind, or
// until ctx ends.
func (w *watchedKeys) saved(ctx context.Context, reqs []*request, elsewhere bool) {
	here := w.watching.Load() > 0
	if !here && !elsewhere {
		return
	}
	var keys []string
	for _, req := range reqs {
		for _, part := range req.parts {
			for _, i := range part.effects {
				if part.answered && !part.givenUp && (req.verdicts == nil || req.verdicts[i] == nil) {
					keys = append(keys, req.keys[i])
				}
			}
		}
	}
	if here {
		w.wake(keys)
	}
	if elsewhere {
		select {
		case w.savedKeys <- keys:
		case <-ctx.Done():
		}
	}
}

// publish sends a message for each saved key over the key's channel. The Saves have been answered by then. If a message is lost, the
// waiting process finds the key when it polls.
func (w *watchedKeys) publish(ctx context.Context) {
	for {
		var keys []string
		select {
		case <-ctx.Done():
			return
		case keys = <-w.savedKeys:
		}
		for range len(w.savedKeys) {
			keys = append(keys, <-w.savedKeys...)
		}
		if w.conn.cluster != nil && !w.anybodyInCluster(ctx) {
			continue
		}
		for chunk := range slices.Chunk(slices.Compact(keys), maxKeysPerCommand) {
			commands := make([]goredis.Cmder, len(chunk))
			for i, key := range chunk {
				commands[i] = goredis.NewIntCmd(ctx, "publish", w.channelPrefix+key, "")
			}
			_ = w.conn.attempt(ctx, "publish", commands) // an error shows in the connection's health
			for _, command := range commands {
				w.warnIfDenied(command.Err())
			}
		}
	}
}

// anybodyInCluster asks every master of a Cluster whether a process waits for keys: a published message reaches all nodes, but each
// node counts its own subscribers only. If a node could not be asked, it returns true, except if this user may not ask.
func (w *watchedKeys) anybodyInCluster(ctx context.Context) bool {
	var subscribers atomic.Int64
	err := w.conn.cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
		counts, err := node.PubSubNumSub(ctx, w.presence).Result()
		subscribers.Add(counts[w.presence])
		return err
	})
	w.warnIfDenied(err)
	return subscribers.Load() > 0 || err != nil && !goredis.IsPermissionError(err)
}

// warnIfDenied logs a warning, once per connection, if err says that this user may not publish.
func (w *watchedKeys) warnIfDenied(err error) {
	if goredis.IsPermissionError(err) {
		w.warned.Do(func() {
			w.conn.log.Warn("redis does not let this user publish: a Load in another process notices a Save up to a second late; "+
				"give the user the commands pubsub, publish and subscribe and the channels kisgrid:*", "error", err)
		})
	}
}

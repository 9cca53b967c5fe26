package simredis

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// subscribe answers SUBSCRIBE: one confirmation for each channel. r.mu is held.
func (r *Redis) subscribe(c *conn, channels []string) []byte {
	var b []byte
	for _, channel := range channels {
		if c.channels == nil {
			c.channels = map[string]struct{}{}
		}
		c.channels[channel] = struct{}{}
		if r.channels[channel] == nil {
			r.channels[channel] = map[*conn]struct{}{}
		}
		r.channels[channel][c] = struct{}{}
		b = append(b, c.pushed("subscribe", channel, len(c.channels))...)
	}
	return b
}

// unsubscribeAll answers UNSUBSCRIBE: one confirmation for each channel. No channels mean all of the connection's. r.mu is held.
func (r *Redis) unsubscribeAll(c *conn, channels []string) []byte {
	if len(channels) == 0 {
		channels = slices.Sorted(maps.Keys(c.channels))
	}
	var b []byte
	for _, channel := range channels {
		r.unsubscribe(c, channel)
		b = append(b, c.pushed("unsubscribe", channel, len(c.channels))...)
	}
	return b
}

// unsubscribe ends one subscription. r.mu is held.
func (r *Redis) unsubscribe(c *conn, channel string) {
	delete(c.channels, channel)
	delete(r.channels[channel], c)
	if len(r.channels[channel]) == 0 {
		delete(r.channels, channel)
	}
}

// publish sends a message to the subscribers of a channel, and returns their number. r.mu is held.
func (r *Redis) publish(channel, message string) int {
	subscribers := slices.SortedFunc(maps.Keys(r.channels[channel]), func(a, b *conn) int { return cmp.Compare(a.number, b.number) })
	for _, c := range subscribers {
		b := c.pushHead(3)
		c.send(appendBulk(appendBulk(appendBulk(b, "message"), channel), message), false)
	}
	return len(subscribers)
}

// pushed is a confirmation of a subscription.
func (c *conn) pushed(kind, channel string, left int) []byte {
	return appendLength(appendBulk(appendBulk(c.pushHead(3), kind), channel), ':', left)
}

// pushHead is the beginning of a message that is no answer to a command.
func (c *conn) pushHead(n int) []byte {
	if c.resp3 {
		return appendLength(nil, '>', n)
	}
	return appendLength(nil, '*', n)
}

// countSubscribers answers PUBSUB NUMSUB. r.mu is held.
func (r *Redis) countSubscribers(args []string) []byte {
	if len(args) == 0 || !strings.EqualFold(args[0], "numsub") {
		return appendError(nil, "ERR unknown subcommand or wrong number of arguments for '"+strings.Join(args, " ")+"'. Try PUBSUB HELP.")
	}
	b := appendLength(nil, '*', 2*len(args[1:]))
	for _, channel := range args[1:] {
		b = appendLength(appendBulk(b, channel), ':', len(r.channels[channel]))
	}
	return b
}

// Subscriptions returns the number of subscriptions of all connections.
func (r *Redis) Subscriptions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, subscribers := range r.channels {
		n += len(subscribers)
	}
	return n
}

package redis

import (
	"cmp"
	"context"
	"errors"
	"runtime"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Limits of one batch of requests, so that no round trip takes long: a batch that holds as much takes no further request.
const (
	tripCommands = 8 << 10 // effects of Saves, or keys of Loads
	tripBytes    = 4 << 20 // bytes of their keys, fields and values
)

// senders is the number of round trips of one kind (Saves, Loads) that may be under way at once: this process encodes and decodes one
// while Redis works on the other.
const senders = 2

// request is one caller's Save or Load on its way to Redis. The caller owns it until a sender takes it. The sender owns it until done
// is closed. Then the caller owns it again, and reads verdicts and err.
type request struct {
	keys     []string        // whole keys, with the connector's prefix: one for each effect, or each key to load
	commands []goredis.Cmder // of a Load: one for each key
	parts    []*scriptPart   // of a Save
	lastTurn int             // of a Save: the largest turn of its parts
	verdicts []error         // errors of single effects or keys, one entry for each of keys; nil means that none has an error
	bytes    int             // estimated size, for tripBytes
	unsure   error           // of a Save: Redis carried it out, but too few replicas have it
	err      error           // why Redis could not be asked; set before done is closed
	done     chan struct{}
	gone     <-chan struct{} // closed when the caller's context ended
}

// abandoned reports whether the caller waits no longer, since its context has ended.
func (r *request) abandoned() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

// refuse sets the verdict on the i-th effect of a Save, or on the i-th key of a Load: why is the error that this effect or key itself
// is to blame for.
func (r *request) refuse(i int, why error) {
	if r.verdicts == nil {
		r.verdicts = make([]error, len(r.keys))
	}
	r.verdicts[i] = why
}

// errUnsent is the error of a command that has not been sent yet.
var errUnsent = errors.New("it was not sent to Redis")

// failure returns why some effect or key of the request was neither done nor refused; nil means that each was done or refused.
func (r *request) failure() error {
	for i, command := range r.commands {
		if !r.settled(i) {
			return command.Err()
		}
	}
	for _, part := range r.parts {
		if !part.answered {
			return cmp.Or(part.err, errUnsent)
		}
	}
	return r.unsure
}

// settled reports whether one key of a Load has its value or its verdict.
func (r *request) settled(i int) bool {
	return r.commands[i].Err() == nil || r.verdicts != nil && r.verdicts[i] != nil
}

// batcher sends requests to Redis in batches. While its senders are busy with a round trip, further requests wait; they go together
// as the next round trip. So the batches grow by themselves when there is much to do, and a single request is sent at once.
type batcher struct {
	conn     *Connection
	requests chan *request                     // unbuffered, so that a request which no sender has taken can be given up
	send     func(context.Context, []*request) // makes one round trip, and finishes the requests; called by the senders
}

// start starts the senders, which call send for each batch. They end with ctx; Connection.Close waits for them.
func (b *batcher) start(ctx context.Context, c *Connection, send func(context.Context, []*request)) {
	b.conn, b.send, b.requests = c, send, make(chan *request)
	for range senders {
		c.goroutines.Go(func() { b.run(ctx) })
	}
}

// do sends a request, and blocks until its round trip is over, ctx has ended or the connection is closed. doing describes the
// call in errors: "saving". If ctx ends while the request is being sent, the round trip goes on, but is not retried: the caller
// may be saving the same again, or something newer.
func (b *batcher) do(ctx context.Context, r *request, doing string) error {
	switch {
	case b.conn.isClosing():
		return connector.Closed(b.conn.name)
	case ctx.Err() != nil:
		return b.conn.ended(ctx, doing)
	}
	r.done, r.gone = make(chan struct{}), ctx.Done()
	select {
	case b.requests <- r:
	case <-ctx.Done():
		return b.conn.ended(ctx, doing)
	case <-b.conn.closing:
		return connector.Closed(b.conn.name)
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return b.conn.ended(ctx, doing)
	}
}

// run is one of the senders: it waits for a request, adds those that wait already, sends them as one batch, and begins again.
func (b *batcher) run(ctx context.Context) {
	var batch []*request
	for {
		select {
		case first := <-b.requests:
			batch = b.fill(append(batch[:0], first))
		case <-ctx.Done():
			return
		}
		b.send(ctx, batch)
		clear(batch)
	}
}

// fill adds the requests that wait already to a batch, up to its limits. It does not block.
func (b *batcher) fill(batch []*request) []*request {
	// Callers that the last round trip let go may be about to call again. Letting them run first makes batches of small requests a
	// quarter larger.
	runtime.Gosched()
	commands, bytes := 0, 0
	for {
		last := batch[len(batch)-1]
		commands, bytes = commands+len(last.keys), bytes+last.bytes
		if commands >= tripCommands || bytes >= tripBytes {
			return batch
		}
		select {
		case next := <-b.requests:
			batch = append(batch, next)
		default:
			return batch
		}
	}
}

// finish ends requests whose round trip is over: it sets their errors and wakes their callers. From here on nobody writes to
// them.
func (b *batcher) finish(reqs []*request, doing string) {
	for _, req := range reqs {
		if err := req.failure(); err != nil {
			req.err = b.conn.unavailable(doing, err)
		}
		close(req.done)
	}
}

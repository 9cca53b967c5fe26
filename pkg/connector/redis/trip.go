package redis

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/cenkalti/backoff/v5"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// What goes into one round trip: no call is added to one that holds this much already, so that none takes long.
const (
	tripCommands = 8 << 10
	tripBytes    = 4 << 20
)

// senders is how many round trips of one kind may be under way: one is read and written here while Redis works on another.
const senders = 2

// call is one caller's commands on their way to Redis. It is the caller's until a sender takes it, then the sender's until
// done is closed, then the caller's again, if that still waits.
type call struct {
	keys     []string        // with prefix: of what is to be done, in order
	commands []goredis.Cmder // of a Load, by key
	shares   []*share        // of a Save
	turns    int             // the last turn of a share
	verdicts []error         // on a Save's effects, or on the keys of a Load; nil: there is nothing against any
	bytes    int             // roughly what it weighs
	unsure   error           // of a Save: it may not be where it must be, although Redis carried it out
	err      error           // why Redis could not be asked
	done     chan struct{}
	gone     <-chan struct{} // closed when the caller's ctx ended
}

// abandoned reports that nobody waits for the call any more.
func (c *call) abandoned() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// gatherer carries calls to Redis: while its senders are busy calls gather, and go together as the next round trip.
type gatherer struct {
	conn  *Connection
	calls chan *call // unbuffered: who has not been taken can still leave
	send  func(context.Context, []*call)
}

func (g *gatherer) start(ctx context.Context, c *Connection, send func(context.Context, []*call)) {
	g.conn, g.send, g.calls = c, send, make(chan *call)
	for range senders {
		c.goroutines.Go(func() { g.run(ctx) })
	}
}

// do blocks until the call's round trip is over, ctx is, or the connection is closed. What a sender is sending goes on
// without a caller that left, but is not tried again: its caller may be saving the same anew, or something newer.
func (g *gatherer) do(ctx context.Context, c *call, doing string) error {
	switch {
	case g.conn.isClosing():
		return connector.Closed(g.conn.name)
	case ctx.Err() != nil:
		return g.conn.ended(ctx, doing)
	}
	c.done, c.gone = make(chan struct{}), ctx.Done()
	select {
	case g.calls <- c:
	case <-ctx.Done():
		return g.conn.ended(ctx, doing)
	case <-g.conn.closing:
		return connector.Closed(g.conn.name)
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return g.conn.ended(ctx, doing)
	}
}

// run is a sender.
func (g *gatherer) run(ctx context.Context) {
	var calls []*call
	for {
		select {
		case first := <-g.calls:
			calls = g.gather(append(calls[:0], first))
		case <-ctx.Done():
			return
		}
		g.send(ctx, calls)
		clear(calls)
	}
}

// gather adds the calls that wait already, up to the bounds of a round trip.
func (g *gatherer) gather(calls []*call) []*call {
	runtime.Gosched() // whom the last round trip let go may be about to call again: small calls gather a quarter better
	commands, bytes := 0, 0
	for {
		last := calls[len(calls)-1]
		commands, bytes = commands+len(last.keys), bytes+last.bytes
		if commands >= tripCommands || bytes >= tripBytes {
			return calls
		}
		select {
		case next := <-g.calls:
			calls = append(calls, next)
		default:
			return calls
		}
	}
}

// refuse notes that one effect, or one key's Load, failed by its own fault.
func (c *call) refuse(i int, why error) {
	if c.verdicts == nil {
		c.verdicts = make([]error, len(c.keys))
	}
	c.verdicts[i] = why
}

// finish lets the calls' callers go: from here on a call is only read.
func (c *Connection) finish(calls []*call, doing string) {
	for _, call := range calls {
		if err := call.failure(); err != nil {
			call.err = c.unavailable(doing, err)
		}
		close(call.done)
	}
}

// failure is why not all of the call was done or refused.
func (c *call) failure() error {
	for i, command := range c.commands {
		if !c.settled(i) {
			return command.Err()
		}
	}
	for _, s := range c.shares {
		if !s.answered {
			return cmp.Or(s.err, errUnsent)
		}
	}
	return c.unsure
}

// settled reports that Redis answered one command of a Load, or that it was refused.
func (c *call) settled(i int) bool {
	return c.commands[i].Err() == nil || c.verdicts != nil && c.verdicts[i] != nil
}

// errUnsent is that of commands that have not been sent yet.
var errUnsent = errors.New("it was not sent to Redis")

// trip is a round trip: sent until it is over, or until Redis was away for too long. One sender owns it.
type trip interface {
	// commands are those that are to be sent now. None: the trip is over.
	commands(ctx context.Context) []goredis.Cmder
	// settle takes in what Redis said to each command, and lets callers go that have all their answers. The error is why
	// commands are left that are to be sent again, with a pause.
	settle(ctx context.Context) error
	// partly reports that Redis carried out some of the trip.
	partly() bool
}

// Bounds of a round trip: partlyTries is how often what is left of it is sent again while Redis does the rest, so that nobody
// waits for one key; maxRounds bounds the pipelines of one trip without a pause.
const (
	partlyTries = 1
	maxRounds   = 64
)

// roundTrip sends the commands of a trip in order as one pipeline, and those again, with backoff, that Redis did not deal with.
// The tail goes along behind them, each time, for what it tells about them.
func (c *Connection) roundTrip(ctx context.Context, op string, t trip, tail ...goredis.Cmder) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = c.options.retryMin, c.options.retryMax, 2
	tries, rounds := 0, 0
	for {
		commands := t.commands(ctx)
		if len(commands) == 0 {
			return
		}
		_ = c.attempt(ctx, op, commands, tail...) // settle finds it at the commands
		rounds++
		err := t.settle(ctx)
		if err == nil && rounds%maxRounds != 0 {
			continue
		}
		most := c.options.retries
		if t.partly() {
			most = min(most, partlyTries)
		}
		if tries++; tries > most || stays(err) || !sleep(ctx, pause.NextBackOff()) {
			return
		}
	}
}

// stays reports an error that no pause mends: somebody has to correct a document, or a user's rights.
func stays(err error) bool {
	said := answerOf(err)
	return isRight(said) || goredis.IsAuthError(said)
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt sends commands as one pipeline, once. Each tells by its error whether Redis answered it, and what (package
// redisreply); the error here is that of the first one whose answer was not read.
func (c *Connection) attempt(ctx context.Context, op string, commands []goredis.Cmder, tail ...goredis.Cmder) (missed error) {
	start := time.Now()
	pipe := c.client.Pipeline()
	_ = pipe.BatchProcess(ctx, commands...) // it only gathers
	_ = pipe.BatchProcess(ctx, tail...)
	_, _ = pipe.Exec(ctx) // the first error of any command, or none although there are some
	c.metrics.RoundTrip(c.name, op, time.Since(start))
	there := false
	for _, command := range commands {
		answered, err := redisreply.Of(command)
		if !answered {
			c.reached(err)
			return err
		}
		there = there || err == nil || faultOf(err) != storeFault
	}
	if there {
		c.reached(nil)
	}
	return nil
}

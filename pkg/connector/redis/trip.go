package redis

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	goredis "github.com/redis/go-redis/v9"

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
	verdicts []error         // on a Save's effects; nil: all took place
	bytes    int             // roughly what it weighs
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
		return connector.Ended(ctx, g.conn.name, doing)
	}
	c.done, c.gone = make(chan struct{}), ctx.Done()
	select {
	case g.calls <- c:
	case <-ctx.Done():
		return connector.Ended(ctx, g.conn.name, doing)
	case <-g.conn.closing:
		return connector.Closed(g.conn.name)
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return connector.Ended(ctx, g.conn.name, doing)
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

// finish lets the calls' callers go: from here on a call is only read. A failure that is not nil is that of all calls that
// were answered.
func (c *Connection) finish(calls []*call, doing string, failure error) {
	for _, call := range calls {
		if err := cmp.Or(call.failure(), failure); err != nil {
			call.err = c.unavailable(doing, err)
		}
		close(call.done)
	}
}

// failure is why Redis did not answer all of the call.
func (c *call) failure() error {
	for _, command := range c.commands {
		if isUnanswered(command) {
			return command.Err()
		}
	}
	for _, s := range c.shares {
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

// pendingFunc says which commands are left of a round trip, and why; with no reason they are sent at once.
type pendingFunc func(context.Context) ([]goredis.Cmder, error)

// roundTrip sends commands in order as one pipeline, and those again, with backoff, that Redis did not deal with, until none
// is pending. The tail goes along behind them, each time, for what it tells about them.
func (c *Connection) roundTrip(ctx context.Context, op string, pending pendingFunc, tail ...goredis.Cmder) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = c.options.retryMin, c.options.retryMax, 2
	commands, _ := pending(ctx)
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		for len(commands) > 0 {
			_ = c.attempt(ctx, op, commands, tail...) // pending tells what came of each command
			var err error
			if commands, err = pending(ctx); err == nil {
				continue
			}
			if goredis.IsAuthError(err) || goredis.IsPermissionError(err) {
				err = backoff.Permanent(err)
			}
			return struct{}{}, err
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(uint(c.options.retries)+1), backoff.WithMaxElapsedTime(0))
}

// attempt sends commands as one pipeline, once. The error is that of the first command that Redis did not answer.
func (c *Connection) attempt(ctx context.Context, op string, commands []goredis.Cmder, tail ...goredis.Cmder) error {
	start := time.Now()
	pipe := c.client.Pipeline()
	_ = pipe.BatchProcess(ctx, commands...)
	_ = pipe.BatchProcess(ctx, tail...)
	_, err := pipe.Exec(ctx)
	c.metrics.RoundTrip(c.name, op, time.Since(start))
	if err != nil { // of any command, and of the tail: which?
		err = nil
		if i := slices.IndexFunc(commands, isUnanswered); i >= 0 {
			err = commands[i].Err()
		}
	}
	c.answered(err)
	return err
}

// unanswered are the commands of Loads that Redis did not deal with, in order, but for those that nobody waits for.
func unanswered(calls []*call) (rest []goredis.Cmder, err error) {
	for _, call := range calls {
		if call.abandoned() {
			continue
		}
		for _, command := range call.commands {
			if isUnanswered(command) {
				rest, err = append(rest, command), cmp.Or(err, command.Err())
			}
		}
	}
	return rest, err
}

func isUnanswered(command goredis.Cmder) bool { return isStoreError(command.Err()) }

// refusals begin what Redis says of a command that it understood, on a key or value that does not fit: all that the commands
// used here can bring about.
var refusals = []string{"WRONGTYPE ", "ERR hash value is not ", "ERR value is not ", "ERR increment "}

// isRefusal reports an error that is the one command's fault.
func isRefusal(err error) bool {
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return false
	}
	for _, refusal := range refusals {
		if strings.HasPrefix(answer.Error(), refusal) {
			return true
		}
	}
	return false
}

// isStoreError reports an error that is not the command's fault: Redis is away, full, starting, or does not let us.
func isStoreError(err error) bool { return err != nil && !isRefusal(err) && !isNoScript(err) }

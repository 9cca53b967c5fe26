package redis

import (
	"context"
	_ "embed"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// windowsKey is the hash in which Redis keeps the once-windows that are in use. Its name does not begin with kisgrid:once:, as those of
// records do, because older builds look at all keys with that beginning.
const windowsKey = "kisgrid:window"

//go:embed window.lua
var windowSource string

const (
	// windowPause is how often a connection that saves tells Redis that its once-window is in use.
	windowPause = 15 * time.Second
	// windowLag is how long a connection may go on with the last reply. On a Cluster a script can't read a key in another slot, so
	// there a wider window begins to hold only after this time: by then all connections have heard of it.
	windowLag = 30 * time.Second
	// windowGrace is how long a window counts as used, beyond its own length, after a connection last spoke of it.
	windowGrace = time.Minute
)

// onceWindows is what one connection knows of the once-windows in use: its own, and those of the other connections to the same Redis.
//
// The once-window (once_window in the connector's document) is how old a batch may be whose effects are carried out. For as long, Redis
// keeps the records that say which effects took place. If a document raises its window, records of older batches may have been kept
// for the narrower one and be gone, so the wider window holds only for batches that are born from then on. Redis knows since when
// each window holds, and each connection asks it now and then:
//
//	            first Save                           windowPause is over: one
//	(no reply) ------------> asking ---> current --------caller asks------> asking
//	                           ^           |
//	                           |           | windowLag is over without a reply:
//	                           +-----------+ every Save waits for one
//
// If Redis does not let the connection's user use windowsKey, the reply counts as "denied": the window of the document alone counts, and
// Redis is asked again after windowGrace.
type onceWindows struct {
	conn *Connection
	// own is the document's window. keep is how long this connection's own records are kept: a quarter longer.
	own, keep time.Duration
	latest    atomic.Pointer[windowReply] // nil until the first reply
	asking    chan struct{}               // a lock that can be waited for: it holds a token while nobody asks
}

// windowReply is an answer of Redis about the windows in use. It does not change once made.
type windowReply struct {
	at time.Time // when it came
	// denied means that Redis does not let this user use windowsKey, or that the key holds something else.
	denied bool
	keep   time.Duration // how long every connection keeps records
	// steps are the windows up to the connection's own, and since when records are kept for each.
	steps []windowStep
}

// windowStep is a once-window that is in use, and the time since which all connections keep records long enough for it.
type windowStep struct {
	window time.Duration
	since  time.Time
}

// init sets w up for a connection whose document has these options. It asks Redis nothing.
func (w *onceWindows) init(c *Connection, o *options) {
	w.conn, w.own, w.keep, w.asking = c, o.onceWindow, o.onceKeep, make(chan struct{}, 1)
	w.asking <- struct{}{}
}

// admit returns an error if a batch is too old for Redis to know which of its effects took place. It asks Redis which windows are in use
// if the last reply is old, and then it may block.
func (w *onceWindows) admit(ctx context.Context, cause *connector.Cause, now time.Time) error {
	if err := w.refresh(ctx, now); err != nil {
		return err
	}
	age := cause.Age(now)
	if window := w.windowFor(age, now); age > window {
		pointTooOld.Hit()
		return connector.TooOld(w.conn.name, cause, window)
	}
	return nil
}

// windowFor returns the window that holds for a batch of an age: the widest one that held already when the batch was born.
func (w *onceWindows) windowFor(age time.Duration, now time.Time) (window time.Duration) {
	r := w.latest.Load()
	if r == nil || r.denied {
		return w.own
	}
	for _, s := range r.steps {
		if elapsed := min(now.Sub(s.since), now.Round(0).Sub(s.since.Round(0))); elapsed >= age {
			window = max(window, s.window)
		}
	}
	if window < w.own {
		pointNarrower.Hit()
	}
	return window
}

// keepFor returns how long records have to be kept, as far as this connection knows.
func (w *onceWindows) keepFor() time.Duration {
	if r := w.latest.Load(); r != nil {
		return max(w.keep, r.keep)
	}
	return w.keep
}

// scriptKeys returns the keys that the Save script reads, beside records and data, to learn how long to keep records: windowsKey, or
// none if the script can't read it.
func (w *onceWindows) scriptKeys() []any {
	if r := w.latest.Load(); w.conn.cluster != nil || r == nil || r.denied {
		return nil
	}
	return []any{windowsKey}
}

// expire makes the next Save ask Redis for the windows: the user may have lost its right to windowsKey.
func (w *onceWindows) expire() {
	at := w.conn.now().Add(-windowPause)
	if r := w.latest.Load(); r != nil && !r.denied && r.at.After(at) {
		older := *r
		older.at = at
		w.latest.CompareAndSwap(r, &older)
	}
}

// due reports whether it is time to ask Redis for the once-windows, and whether Saves may go on with the last reply until there
// is a new one.
func (w *onceWindows) due(now time.Time) (due, usable bool) {
	r := w.latest.Load()
	if r == nil {
		return true, false
	}
	age := max(now.Sub(r.at), now.Round(0).Sub(r.at.Round(0)))
	if r.denied {
		return age >= windowGrace, true
	}
	return age >= windowPause, age < windowLag
}

// refresh asks Redis for the windows in use, if it is time to. While the last reply is usable, one caller asks and the others go on;
// else all callers wait for a new reply. It returns an error only if there is no usable reply.
func (w *onceWindows) refresh(ctx context.Context, now time.Time) error {
	c := w.conn
	due, usable := w.due(now)
	switch {
	case !due:
		return nil
	case usable:
		select {
		case <-w.asking:
		default:
			return nil // another caller asks
		}
	default:
		select {
		case <-w.asking:
		case <-ctx.Done():
			return c.ended(ctx, "saving")
		case <-c.closing:
			return connector.Closed(c.name)
		}
	}
	defer func() { w.asking <- struct{}{} }()
	if due, usable = w.due(now); !due {
		return nil // another caller has asked while this one waited
	}
	err := w.ask(ctx, !usable)
	switch {
	case err == nil:
		return nil
	case isRefusal(err):
		if r := w.latest.Load(); r == nil || !r.denied {
			c.log.Info("redis does not let this connector use the key "+windowsKey+": raise once_window only while nothing is under way, or give the "+
				"user that key and the command time, or delete the key where it holds something else; it is tried again each minute", "error", err)
		}
		pointDenied.Hit()
		w.latest.Store(&windowReply{at: c.now(), denied: true})
		return nil
	case usable:
		return nil // the Save that follows reports the error, if it lasts
	case ctx.Err() != nil:
		return c.ended(ctx, "saving")
	}
	return c.unavailable("saving", err)
}

// ask tells Redis that this connection's window is in use, and stores the reply about all windows. If again is true, it retries as any
// round trip does; else it asks once.
func (w *onceWindows) ask(ctx context.Context, again bool) error {
	c := w.conn
	lag := time.Duration(0)
	if c.cluster != nil {
		lag = windowLag
	}
	own := max(1, w.own.Milliseconds())
	ask := goredis.NewIntSliceCmd(ctx, "eval", windowSource, 1, windowsKey,
		own, windowGrace.Milliseconds(), lag.Milliseconds(), strconv.FormatInt(time.Now().UnixMilli(), 10))
	_ = c.attempt(ctx, "window", []goredis.Cmder{ask}) // the command has its error
	if again && !isRefusal(ask.Err()) {
		c.roundTrip(ctx, "window", windowTrip{ask})
	}
	if err := ask.Err(); err != nil {
		return err
	}
	now, answer := c.now(), ask.Val()
	if len(answer) == 0 {
		return errors.New("the answer about once-windows is empty")
	}
	r := &windowReply{at: now, keep: time.Duration(answer[0]) * time.Millisecond}
	for i := 1; i+1 < len(answer); i += 2 {
		window := time.Duration(answer[i]) * time.Millisecond
		if answer[i] == own {
			window = w.own // to the nanosecond, where Redis has milliseconds
		}
		r.steps = append(r.steps, windowStep{window, now.Add(-time.Duration(answer[i+1]) * time.Millisecond)})
	}
	w.latest.Store(r)
	return nil
}

// windowTrip is the trip of a single command, which asks for the once-windows. It is sent again until it is answered.
type windowTrip struct{ goredis.Cmder }

// commands implements trip: it returns the command until that is answered without an error.
func (t windowTrip) commands(context.Context) []goredis.Cmder {
	if t.Err() == nil {
		return nil
	}
	return []goredis.Cmder{t.Cmder}
}

func (t windowTrip) settle(context.Context) error { return t.Err() }

func (windowTrip) partly() bool { return false }

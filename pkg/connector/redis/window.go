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

// windowsKey is where Redis keeps which once-windows are in use. It lies apart from the records, which older builds know.
const windowsKey = "kisgrid:window"

//go:embed window.lua
var windowSource string

const (
	// windowPause is how often a connection that saves tells Redis that its window is in use.
	windowPause = 15 * time.Second
	// windowLag is how long a connection may go on with what it heard last. On a Cluster, where a script can't read what
	// lies in another slot, a wider window holds only after that time: then all have heard of it.
	windowLag = 30 * time.Second
	// windowGrace is how much longer than itself a window counts as used by a connection that says nothing.
	windowGrace = time.Minute
)

// windows are a connection's once-window among those of all connections to its Redis. A window that was raised holds for the
// batches that were born since then: records of older ones may have been kept for less.
type windows struct {
	own, keep time.Duration // the document's, and how long its own records are kept
	heard     atomic.Pointer[heard]
	asking    chan struct{} // holds a token while nobody asks
	off       atomic.Bool   // the user may not read the key: the document's window alone counts
}

// heard is what Redis said of windows.
type heard struct {
	at   time.Time
	keep time.Duration
	// steps are the windows up to the connection's own, and from when on records are kept for them.
	steps []windowStep
}

type windowStep struct {
	window time.Duration
	since  time.Time
}

func (w *windows) init(o *options) {
	w.own, w.keep, w.asking = o.onceWindow, o.onceKeep, make(chan struct{}, 1)
	w.asking <- struct{}{}
}

// admit is nil when a batch is young enough for Redis to know which of its effects took place. Now and then it asks Redis
// which windows are in use, and then it blocks.
func (c *Connection) admit(ctx context.Context, cause *connector.Cause, now time.Time) error {
	if err := c.hearWindows(ctx, now); err != nil {
		return err
	}
	age := cause.Age(now)
	if window := c.windows.of(age, now); age > window {
		return connector.TooOld(c.name, cause, window)
	}
	return nil
}

// of is the window that holds for a batch of that age.
func (w *windows) of(age time.Duration, now time.Time) (window time.Duration) {
	h := w.heard.Load()
	if h == nil {
		return w.own
	}
	for _, s := range h.steps {
		if elapsed := min(now.Sub(s.since), now.Round(0).Sub(s.since.Round(0))); elapsed >= age {
			window = max(window, s.window)
		}
	}
	return window
}

// kept is how long records are kept at the least, as far as the connection knows.
func (w *windows) kept() time.Duration {
	if h := w.heard.Load(); h != nil {
		return max(w.keep, h.keep)
	}
	return w.keep
}

// windowKeys are what the script for Saves reads, beside records and data, to keep records for the widest window.
func (c *Connection) windowKeys() []any {
	if c.cluster != nil || c.windows.off.Load() {
		return nil
	}
	return []any{windowsKey}
}

// hearWindows asks Redis for the windows in use, if it is time to: one caller for all, while what was heard last is good.
func (c *Connection) hearWindows(ctx context.Context, now time.Time) error {
	w := &c.windows
	age := func() time.Duration {
		if h := w.heard.Load(); h != nil {
			return max(now.Sub(h.at), now.Round(0).Sub(h.at.Round(0)))
		}
		return windowLag
	}
	if w.off.Load() || age() < windowPause {
		return nil
	}
	if age() < windowLag {
		select {
		case <-w.asking:
		default:
			return nil // somebody does
		}
	} else {
		select {
		case <-w.asking:
		case <-ctx.Done():
			return connector.Ended(ctx, c.name, "saving")
		case <-c.closing:
			return connector.Closed(c.name)
		}
	}
	defer func() { w.asking <- struct{}{} }()
	fresh := age() < windowLag
	if w.off.Load() || age() < windowPause {
		return nil
	}
	err := c.askWindows(ctx, !fresh)
	switch {
	case err == nil:
		return nil
	case isRight(err):
		w.off.Store(true)
		c.log.Info("redis does not let this user use the key "+windowsKey+": raise once_window only while nothing is under way, "+
			"or give the user that key and the command time", "error", err)
		return nil
	case fresh:
		return nil // the save itself tells what is wrong
	case ctx.Err() != nil:
		return connector.Ended(ctx, c.name, "saving")
	}
	return c.unavailable("saving", err)
}

// askWindows tells Redis of the connection's window, and hears of all. It asks once, or again and again as a round trip does.
func (c *Connection) askWindows(ctx context.Context, again bool) error {
	lag := time.Duration(0)
	if c.cluster != nil {
		lag = windowLag
	}
	own := max(1, c.windows.own.Milliseconds())
	ask := goredis.NewIntSliceCmd(ctx, "eval", windowSource, 1, windowsKey,
		own, windowGrace.Milliseconds(), lag.Milliseconds(), strconv.FormatInt(time.Now().UnixMilli(), 10))
	_ = c.attempt(ctx, "window", []goredis.Cmder{ask}) // ask tells
	if again && !isRight(ask.Err()) {
		c.roundTrip(ctx, "window", question{ask})
	}
	if err := ask.Err(); err != nil {
		return err
	}
	now, answer := c.now(), ask.Val()
	if len(answer) == 0 {
		return errors.New("it answered nothing")
	}
	h := &heard{at: now, keep: time.Duration(answer[0]) * time.Millisecond}
	for i := 1; i+1 < len(answer); i += 2 {
		window := time.Duration(answer[i]) * time.Millisecond
		if answer[i] == own {
			window = c.windows.own // to the nanosecond
		}
		h.steps = append(h.steps, windowStep{window, now.Add(-time.Duration(answer[i+1]) * time.Millisecond)})
	}
	c.windows.heard.Store(h)
	return nil
}

// isRight reports that Redis told the user that it lacks a right.
func isRight(err error) bool {
	f := faultOf(err)
	return f == keyFault || f == commandFault
}

// question is the round trip of one command that is asked until it is answered.
type question struct{ goredis.Cmder }

func (q question) commands(context.Context) []goredis.Cmder {
	if q.Err() == nil {
		return nil
	}
	return []goredis.Cmder{q.Cmder}
}

func (q question) settle(context.Context) error { return q.Err() }

func (question) partly() bool { return false }

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
}

// heard is what Redis said of windows.
type heard struct {
	at time.Time
	// alone: the user may not use the key, or it holds something else. The document's window alone counts, until it is asked again.
	alone bool
	keep  time.Duration
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
	if h == nil || h.alone {
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
	if h := c.windows.heard.Load(); c.cluster != nil || h == nil || h.alone {
		return nil
	}
	return []any{windowsKey}
}

// doubtWindows has Redis asked for the windows at the next Save: the user may have lost its right to them.
func (c *Connection) doubtWindows() {
	at := c.now().Add(-windowPause)
	if h := c.windows.heard.Load(); h != nil && !h.alone && h.at.After(at) {
		doubted := *h
		doubted.at = at
		c.windows.heard.CompareAndSwap(h, &doubted)
	}
}

// due says whether it is time to ask for the windows, and whether Saves may go on by what was heard last.
func (w *windows) due(now time.Time) (due, usable bool) {
	h := w.heard.Load()
	if h == nil {
		return true, false
	}
	age := max(now.Sub(h.at), now.Round(0).Sub(h.at.Round(0)))
	if h.alone {
		return age >= windowGrace, true
	}
	return age >= windowPause, age < windowLag
}

// hearWindows asks Redis for the windows in use, if it is time to: one caller for all, while what was heard last is good.
func (c *Connection) hearWindows(ctx context.Context, now time.Time) error {
	w := &c.windows
	due, usable := w.due(now)
	switch {
	case !due:
		return nil
	case usable:
		select {
		case <-w.asking:
		default:
			return nil // somebody does
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
		return nil
	}
	err := c.askWindows(ctx, !usable)
	switch {
	case err == nil:
		return nil
	case isRefused(err):
		if h := w.heard.Load(); h == nil || !h.alone {
			c.log.Info("redis does not let this connector use the key "+windowsKey+": raise once_window only while nothing is under way, or give the "+
				"user that key and the command time, or delete the key where it holds something else; it is tried again each minute", "error", err)
		}
		w.heard.Store(&heard{at: c.now(), alone: true})
		return nil
	case usable:
		return nil // the save itself tells what is wrong
	case ctx.Err() != nil:
		return c.ended(ctx, "saving")
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
	if again && !isRefused(ask.Err()) {
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

// isRefused reports that Redis answered, and will answer the same again: it says nothing of itself.
func isRefused(err error) bool {
	f := faultOf(err)
	return f != noFault && f != storeFault
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

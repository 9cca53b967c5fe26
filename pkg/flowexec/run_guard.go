package flowexec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Causes with which the context of functions is cancelled.
var (
	errShutdown        = errors.New("the worker is shutting down")
	errDeadline        = errors.New("the batch's deadline passed")
	errFunctionTimeout = errors.New("the function's timeout passed")
	errRowTimeout      = errors.New("the flow's timeout for a row passed")
)

// errPaused ends a call before the row that it returned with: the context is cancelled.
var errPaused = errors.New("paused")

const (
	// tick is how often the watchdog looks while a lane is busy; a timeout is noticed up to two ticks late, never early.
	tick = 50 * time.Millisecond
	// grace is how long a function may go on after its context was cancelled.
	grace = time.Second
)

// guard is what an executor's goroutine and the watchdog share.
//
// The goroutine tells it of each call, which has many rows. While a call lasts longer than a tick, the frame's Watch makes
// it tell of each row, too. So a row costs one atomic load as long as rows are quick, and has its own timeout when they
// are slow.
type guard struct {
	mu sync.Mutex
	// All below is guarded by mu. deadline is changed by the goroutine alone.
	deadline time.Time // of the run; zero: none
	calling  bool
	// budget is what the row under way may take, over what happens when it took longer.
	budget time.Duration
	over   error
	// began is when the row under way is known to have been under way; zero: not yet known. row is which it is; -1: not known.
	began time.Time
	row   int
	// step is the one whose function is called.
	step *step
	// reading: it is methods of row types that are called, not the function.
	reading bool
	// cancelled is when the context of the call was cancelled; zero: it was not.
	cancelled time.Time
	abandoned bool
}

// enter begins a call for rows lo to hi-1.
func (x *executor) enter(lo, hi int, reading bool) {
	x.lo, x.hi, x.inCall = lo, hi, true
	x.frame.Row = lo
	budget, over := x.run.budgets.budget(lo, reading)
	x.frame.Watch.Store(0)
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calling, g.budget, g.over, g.began, g.cancelled, g.row = true, budget, over, time.Time{}, time.Time{}, -1
	g.reading, g.step = reading, x.st.step
	if hi == lo+1 {
		g.row = lo
	}
}

// leave ends a call. False: the goroutine was abandoned meanwhile, and must end without touching anything.
func (x *executor) leave() bool {
	x.inCall = false
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calling = false
	if g.abandoned {
		return false
	}
	if !g.began.IsZero() {
		x.run.budgets.spend(x.frame.Row, time.Since(g.began))
	}
	return true
}

// pause is what a call does before a row once the watchdog looks at it.
func (x *executor) pause(row int) error {
	g := &x.guard
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return errPaused
	}
	if row > x.lo {
		x.run.budgets.spend(row-1, now.Sub(g.began))
	}
	if x.ctx.Err() != nil {
		g.began = time.Time{}
		return errPaused
	}
	g.began, g.row = now, row
	g.budget, g.over = x.run.budgets.budget(row, g.reading)
	return nil
}

// at tells of the row whose type is asked next. False: no further one is to be, because the run is over or abandoned.
func (x *executor) at(row int) bool {
	x.frame.Row = row
	if x.frame.Watch.Load() == 0 && x.run.work.abandoned == nil || x.pause(row) == nil {
		return true
	}
	g := &x.guard
	g.mu.Lock()
	abandoned := g.abandoned
	g.mu.Unlock()
	if abandoned || x.stopped() != nil {
		return false
	}
	x.renew() // it was cancelled for the row before, which came back after all
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return false
	}
	g.began, g.row, g.cancelled = time.Now(), row, time.Time{}
	g.budget, g.over = x.run.budgets.budget(row, g.reading)
	return true
}

// asks is at, where rows may have types whose methods are called; without such types nobody watches.
func (x *executor) asks(row int) bool { return !x.inCall || x.at(row) }

// startRun gives the run that is about to begin its deadline.
func (x *executor) startRun(deadline time.Time) {
	if deadline.IsZero() && x.guard.deadline.IsZero() {
		return
	}
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	x.guard.deadline = deadline
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		x.cancel(errDeadline)
	}
}

// look is what the watchdog does at a tick. True: the goroutine does not come back, and is abandoned from now on.
func (x *executor) look(now time.Time, stopping bool) bool {
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return false
	}
	cause := error(nil)
	switch {
	case stopping:
		cause = errShutdown
	case !g.deadline.IsZero() && !now.Before(g.deadline):
		cause = errDeadline
	}
	if g.calling {
		x.frame.Watch.Store(1)
		switch {
		case g.began.IsZero():
			g.began = now
		case cause == nil && now.Sub(g.began) >= g.budget:
			cause = g.over
		}
	}
	if cause != nil {
		x.cancel(cause)
		if g.calling && g.cancelled.IsZero() {
			g.cancelled = now
		}
	}
	g.abandoned = g.calling && !g.cancelled.IsZero() && now.Sub(g.cancelled) >= grace
	return g.abandoned
}

// renew gives functions a new context once the old one was cancelled for what concerned one row.
func (x *executor) renew() {
	if x.ctx != nil && x.ctx.Err() == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(x.lane.lanes.ctx)
	x.guard.mu.Lock()
	x.ctx, x.cancel = ctx, cancel
	x.guard.mu.Unlock()
	x.frame.SetContext(x.underSpan(ctx))
}

// stopped is how rows end that can't go on: the whole run was cancelled. nil: it was not.
func (x *executor) stopped() *batch.RowOutcome {
	if x.ctx.Err() == nil {
		return nil
	}
	switch context.Cause(x.ctx) {
	case errShutdown:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeShutdown,
			Reason: "the worker shut down while the row was under way: submit the batch again"}
	case errDeadline:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeDeadline,
			Reason: "the batch's deadline passed while the row was under way: submit the batch again with more time"}
	}
	if outside := x.lane.lanes.config.Context; outside.Err() != nil {
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeCancelled,
			Reason: fmt.Sprintf("the context of the run ended while the row was under way: %v", context.Cause(outside))}
	}
	return nil
}

// timeout is the timeout that the functions' context was cancelled for; nil: none.
func (x *executor) timeout() error {
	switch cause := context.Cause(x.ctx); cause {
	case errFunctionTimeout, errRowTimeout:
		return cause
	}
	return nil
}

// hung is the row that the goroutine hangs in; -1: not known.
func (x *executor) hung() int {
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	return x.guard.row
}

// overdue is what becomes of the row whose function was abandoned.
func (x *executor) overdue() batch.RowOutcome {
	if cause := x.timeout(); cause != nil {
		o := timedOut(cause, x.st.step, x.run.plan)
		if x.guard.reading && cause == errFunctionTimeout {
			o.Reason = fmt.Sprintf("code of the row's type did not read or write the row within the function's timeout of %v: "+
				"make it faster, or raise timeout in the function's document", x.st.step.timeout)
		}
		return o
	}
	return batch.RowOutcome{}
}

// timedOut is how a row ends that took too long.
func timedOut(cause error, s *step, p *Plan) batch.RowOutcome {
	if cause == errFunctionTimeout {
		return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionTimeout, Function: s.Name,
			Reason: fmt.Sprintf("the function did not return within its timeout of %v: make it faster, or raise timeout in its document", s.timeout)}
	}
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTimeout, Function: s.Name,
		Reason: fmt.Sprintf("the row took longer than the flow's timeout of %v, waits included: raise timeout in the flow's document", p.timeout)}
}

// calling is the name of the function that the executor calls now; it is empty if there is none.
func (x *executor) calling() string {
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	if !x.guard.calling || x.guard.step == nil {
		return ""
	}
	return x.guard.step.Name
}

// renewAfterTimeout is called when a call has ended well: it may have come back later than its context was cancelled.
func (x *executor) renewAfterTimeout() {
	if x.ctx.Err() != nil && x.stopped() == nil {
		x.renew()
	}
}

package flowexec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// These are the causes with which the context of functions is cancelled.
var (
	errShutdown        = errors.New("the worker is shutting down")
	errDeadline        = errors.New("the batch's deadline passed")
	errFunctionTimeout = errors.New("the function's timeout passed")
	errRowTimeout      = errors.New("the flow's timeout for a row passed")
)

// errPaused is the error of a call that the executor ended between two rows, because the context of functions was cancelled or the call's
// goroutine was abandoned. The row that the call returns with it has not begun.
var errPaused = errors.New("paused")

const (
	// tick is the interval at which the watchdog looks at the calls of busy lanes. A timeout is noticed up to two ticks late, never early.
	tick = 50 * time.Millisecond
	// grace is how long a function may go on after its context was cancelled, before its goroutine is abandoned.
	grace = time.Second
)

// guard is what the goroutine of an executor and the watchdog share: whether a call of the user's code is under way, since when,
// and how long it may take.
//
// A call gets many rows. While it lasts longer than a tick, the watchdog sets the frame's Watch, and from then on the call tells
// the guard of each row before it begins it. So a row costs one atomic load as long as rows are quick, and has a timeout of its
// own when they are slow.
type guard struct {
	mu sync.Mutex
	// All below is guarded by mu. deadline is changed only by the executor's goroutine.
	deadline time.Time // the deadline of the run; the zero time means that it has none
	calling  bool
	// budget is how long the current row may take; over is the error that it ends with if it takes longer.
	budget time.Duration
	over   error
	// began is when the current row was first seen in the call; zero if it was not seen yet. row is its number; -1 means that it is not
	// known.
	began time.Time
	row   int
	// step is the step whose function is called.
	step *step
	// reading means that the call is of methods of row types, such as UnmarshalJSON, and not of the function.
	reading bool
	// cancelled is when the context of the call was cancelled; zero if it was not.
	cancelled time.Time
	abandoned bool
}

// enter begins a call for rows lo to hi-1. reading means that code of the rows' types is called, not the function.
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

// leave ends a call. It returns true if the goroutine goes on, and false if it was abandoned meanwhile: then it must end without touching
// anything of the lane.
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

// pause is called before each row of a call that the watchdog has begun to watch. It notes when the row begins, so that the row has a
// timeout of its own. Its only error is errPaused, which ends the call before the row: the context was cancelled, or the goroutine
// abandoned.
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

// at is called before each row that code of its type reads or writes, as pause is before each row of a function. It returns true if the
// row is to be read, and false if no further row is, because the run is over or the goroutine was abandoned.
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
	x.renew() // it was cancelled for the row before, whose code returned after all
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return false
	}
	g.began, g.row, g.cancelled = time.Now(), row, time.Time{}
	g.budget, g.over = x.run.budgets.budget(row, g.reading)
	return true
}

// asks calls the method at if a call of the user's code is under way, and returns its result. Otherwise it does nothing and returns true:
// nothing of the user's is called, so that nothing has to be watched.
func (x *executor) asks(row int) bool { return !x.inCall || x.at(row) }

// startRun sets the deadline of the run that is about to begin; the zero time means that it has none. If the deadline has passed already,
// startRun cancels the context of functions.
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

// look is called by the watchdog at each tick. It cancels the context of a call that takes too long. stopping says that the context of
// the lanes has ended. look returns true if the call has not ended a second after its context was cancelled: the goroutine is abandoned
// from then on.
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
			pointTooLong.Hit()
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

// renew gives functions a new context if the old one was cancelled. The caller knows that the cancellation concerned only one row, or an
// earlier run.
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

// stopped returns the outcome of rows that can't go on because the whole run was cancelled: by Stop, its deadline or LanesConfig.Context.
// It returns nil if the run goes on, also if the context was cancelled for a timeout of one row.
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

// timeout returns errFunctionTimeout or errRowTimeout if the context of functions was cancelled for that cause, else nil.
func (x *executor) timeout() error {
	switch cause := context.Cause(x.ctx); cause {
	case errFunctionTimeout, errRowTimeout:
		return cause
	}
	return nil
}

// hung returns the row in which the executor's abandoned goroutine hangs, as its place in the current call's set; -1 means that nobody
// knows.
func (x *executor) hung() int {
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	return x.guard.row
}

// overdue returns the outcome of the row in which an abandoned function hangs because of a timeout. If the whole run was cancelled, its
// Outcome is 0: then no row is to blame.
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

// timedOut is the outcome of a row that took too long. cause is errFunctionTimeout or errRowTimeout.
func timedOut(cause error, s *step, p *Plan) batch.RowOutcome {
	if cause == errFunctionTimeout {
		return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionTimeout, Function: s.Name,
			Reason: fmt.Sprintf("the function did not return within its timeout of %v: make it faster, or raise timeout in its document", s.timeout)}
	}
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTimeout, Function: s.Name,
		Reason: fmt.Sprintf("the row took longer than the flow's timeout of %v, waits included: raise timeout in the flow's document", p.timeout)}
}

// calling returns the name of the function that the executor calls now; it is empty if no call is under way.
func (x *executor) calling() string {
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	if !x.guard.calling || x.guard.step == nil {
		return ""
	}
	return x.guard.step.Name
}

// renewAfterTimeout is called when a call has ended without an error. If the call's context was cancelled meanwhile for a timeout,
// functions get a new context; if the whole run was cancelled, nothing changes.
func (x *executor) renewAfterTimeout() {
	if x.ctx.Err() != nil && x.stopped() == nil {
		x.renew()
	}
}

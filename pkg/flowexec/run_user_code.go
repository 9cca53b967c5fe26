package flowexec

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// callFunc is the type of the methods Call and Keys of kis.Code, which call the user's function for rows lo to hi-1 of a frame.
// Its error is nil if all rows got through. Otherwise it returns the row that failed, with its error, or errPaused and the row
// before which the executor ended the call.
type callFunc func(f *kis.Frame, lo, hi int) (int, error)

// guarded calls a function for rows lo to hi-1 under the watchdog. f is nil if the call got through; otherwise it is made of the
// error or panic, and row is the row that failed, or, if f.paused is set, the row that has not begun. The error is read under the
// watchdog too, because its methods are code of the user's.
func (x *executor) guarded(call callFunc, lo, hi int) (row int, f *fault) {
	x.enter(lo, hi, false)
	return x.called(call, lo, hi)
}

// reading runs code that may call methods of row types for rows lo to hi-1 of the current function, under the watchdog. read calls
// the executor's method at before each row. If a call of the function is under way, read is a part of that call. The fault is nil
// unless read panicked.
func (x *executor) reading(lo, hi int, read func()) *fault {
	if x.inCall {
		read()
		return nil
	}
	x.enter(lo, hi, true)
	_, f := x.called(func(*kis.Frame, int, int) (int, error) {
		read()
		return hi, nil
	}, lo, hi)
	return f
}

// called makes the call for which the method enter has set up the guard, and ends it. Its results are those of guarded. It does
// not return if the goroutine was abandoned or the function ended it.
func (x *executor) called(call callFunc, lo, hi int) (row int, f *fault) {
	returned := false
	defer func() {
		if returned {
			if !x.leave() {
				x.ended(false, false)
			}
			return
		}
		panicked := recover()
		if panicked != nil { // else the function called runtime.Goexit
			row, f = x.frame.Row, x.panicked(panicked)
			x.redact(f)
		}
		x.ended(panicked == nil, x.leave())
	}()
	row, err := call(&x.frame, lo, hi)
	if err != nil {
		f = faultOf(err)
		x.redact(f)
	}
	returned = true
	return row, f
}

// ended cleans up after a call that panicked, that called runtime.Goexit (exiting), or whose goroutine was abandoned while it ran
// (alive is false). An abandoned goroutine ends here, unless it is exiting anyway. If it is exiting and was not abandoned, the row
// is dead and another goroutine takes the lane. After any other panic ended does nothing.
func (x *executor) ended(exiting, alive bool) {
	switch {
	case !alive:
		x.lane.lanes.config.Metrics.addAbandoned(-1)
		x.using.end()
		if !exiting {
			runtime.Goexit()
		}
	case exiting:
		pointExited.Hit()
		x.using.end()
		x.succeed(batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionPanic, Reason: x.exited()}, x.frame.Row, false)
	}
}

// panicked makes a fault of the value that a function panicked with. Printing the value may panic too, or end the goroutine.
func (x *executor) panicked(value any) (f *fault) {
	finished := false
	defer func() {
		if finished {
			return
		}
		if again := recover(); again != nil {
			f = &fault{panicked: true, text: fmt.Sprintf("panic: a %T, whose own text panics", value)}
			return
		}
		x.ended(true, x.leave())
	}()
	f = newPanic(value)
	if x.guard.reading {
		f.stack = string(debug.Stack())
	}
	finished = true
	return f
}

// exited returns the reason in the outcome of a row whose code ended its goroutine.
func (x *executor) exited() string {
	if x.guard.reading {
		return "code of the row's type ended its goroutine with runtime.Goexit: let it return"
	}
	return "the function ended its goroutine with runtime.Goexit: let it return"
}

// during calls look with the current step if a call of the user's code is under way, and reports whether one is. The call can't
// end while look runs, so the lane does not change the step meanwhile, even if look runs on a goroutine that a function has
// started and left behind. look must not block.
func (x *executor) during(look func(*stepRun)) bool {
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calling {
		look(&x.st)
	}
	return g.calling
}

// identify is the function in the field Identify of kis.Frame. It returns the id of a row of the frame. The id is zero if there is
// no such row, or no call is under way.
func (x *executor) identify(row int) (id batch.RowID) {
	x.during(func(st *stepRun) {
		if row >= 0 && row < st.rs.Len() {
			id = st.run.rowID(st.step, st.rs, row)
		}
	})
	return id
}

// raw is the function in the field Raw of kis.Frame. It returns the rows of the frame as they came to the function. It returns nil
// if no call is under way.
func (x *executor) raw() (raw []any) {
	x.during(func(st *stepRun) { raw = x.reader.Raw(st.rs) }) // a goroutine that was left behind finds no rows that the lane changes
	return raw
}

// late is the function in the field Late of kis.Frame. It logs a warning that a function has used something of its call after the
// call had ended; what names the thing. It does so once for each function and thing. Goroutines that the function has started call
// it.
func (x *executor) late(function, what string) {
	lanes := x.lane.lanes
	if _, told := lanes.lateUses.LoadOrStore([2]string{function, what}, true); !told {
		lanes.config.Logger.Warn("a function used what it had for its call after that, which is ignored: let the function wait for the goroutines "+
			"that it starts", "flow", lanes.config.Flow, "function", function, "used", what)
	}
}

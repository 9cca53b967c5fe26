package flowexec

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// callFunc calls the user's code for rows lo to hi-1 of a frame. It returns the row at which it ended, with the error if it did
// not get through: the Call or the Keys of a kis.Code.
type callFunc func(f *kis.Frame, lo, hi int) (int, error)

// guarded calls a function for rows lo to hi-1 under the watchdog. A panic is a fault like an error. The returned error is read
// here too: it is a value of the user's, and its methods may do all that a function may.
func (x *executor) guarded(call callFunc, lo, hi int) (row int, f *fault) {
	x.enter(lo, hi, false)
	return x.called(call, lo, hi)
}

// reading runs code that may call methods of row types for rows lo to hi-1 of the current function, under the watchdog. The code
// calls at before each row. Within a call of the function it is part of that call.
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

// called makes the call that enter began, and ends it.
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
		x.using.end()
		x.succeed(batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionPanic, Reason: x.exited()}, x.frame.Row, false)
	}
}

// panicked reads the value that a function panicked with. Printing it may panic too, or end the goroutine.
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

// exited is the reason of a row whose code ended its goroutine.
func (x *executor) exited() string {
	if x.guard.reading {
		return "code of the row's type ended its goroutine with runtime.Goexit: let it return"
	}
	return "the function ended its goroutine with runtime.Goexit: let it return"
}

// during calls look with the current step if a call of a function is under way, and reports whether one is. The call can't end
// meanwhile. So a goroutine that a function has left behind never sees how the lane changes its state.
func (x *executor) during(look func(*stepRun)) bool {
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calling {
		look(&x.st)
	}
	return g.calling
}

// identify is the id of a row of the frame. It is the zero id if there is no such row, or no call is under way.
func (x *executor) identify(row int) (id batch.RowID) {
	x.during(func(st *stepRun) {
		if row >= 0 && row < st.rs.Len() {
			id.Batch = st.run.part.Batch
			id.Row, id.Output, id.Visit = st.run.identity(st.step, st.rs, row)
		}
	})
	return id
}

// raw is the rows of the frame as they came to the function. It is nil if no call is under way.
func (x *executor) raw() []any {
	var rs *rows.Set
	if !x.during(func(st *stepRun) { rs = st.rs }) {
		return nil
	}
	return x.reader.Raw(rs)
}

// late warns, once for each function, that the function used something of its call after the call had ended. It runs on goroutines
// of the function's.
func (x *executor) late(function, what string) {
	lanes := x.lane.lanes
	if _, told := lanes.lateUses.LoadOrStore([2]string{function, what}, true); !told {
		lanes.config.Logger.Warn("a function used what it had for its call after that, which is ignored: let the function wait for the goroutines "+
			"that it starts", "flow", lanes.config.Flow, "function", function, "used", what)
	}
}

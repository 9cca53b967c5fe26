package flowexec

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// executor executes the runs of a lane, one after another, on one goroutine, to which all but guard belongs. When that
// goroutine hangs in a function, the executor is abandoned with it and the lane gets another.
type executor struct {
	lane     *lane
	guard    guard
	ctx      context.Context // of functions; guarded by guard.mu against the watchdog
	cancel   context.CancelCauseFunc
	copy     *kis.Copy
	frame    kis.Frame
	run      *run    // own while it is under way; nil between runs
	own      run     // the memory of the run
	st       stepRun // the step that the run is in
	followed growth  // the memory of st.growth
	lo, hi   int     // the rows of the call under way
	inCall   bool    // a call is under way

	mem    rows.Memory
	reader decode.Reader // of the run under way
	turns  turns

	using using
	left  func() // what the part's Enter returned for the rows that run; nil: none do
	// heldUp is how long the lane was held up since the rows that go on were parked, which is nobody's time.
	heldUp time.Duration

	away bool // it rests, and has no lane; guarded by lane.mu, or by rest.turn

	traced tracing

	plan    *Plan // what metrics are for
	metrics []functionMetrics
}

// newExecutor makes the executor of a lane, for a copy of its flow. Its loop runs on a goroutine of its own.
func newExecutor(ln *lane, c *kis.Copy) *executor {
	x := &executor{lane: ln, copy: c}
	x.st.init(x)
	x.reader.Memory, x.reader.Host = &x.mem, &x.st
	x.renew()
	x.frame.Copy, x.frame.Pause, x.frame.Identify, x.frame.Raw, x.frame.Connect, x.frame.Late = x.copy, x.pause, x.identify, x.raw, x.connect, x.late
	return x
}

// loop is the lane's goroutine. When a function ends it, or it is abandoned, the lane lives on in another one.
func (x *executor) loop(resume *work) {
	if resume != nil {
		x.execute(resume)
	}
	for w := x.wait(); w != nil; w = x.wait() {
		x.execute(w)
	}
	x.cancel(nil)
	x.lane.lanes.wg.Done()
}

// execute runs w and tells its part.
func (x *executor) execute(w *work) {
	lanes := x.lane.lanes
	lanes.busy.begin()
	x.renew()
	x.enterPart(w)
	x.startRun(w.part.Deadline)
	x.begin(w)
	x.traceRun(w)
	began := x.run.clock
	result, parked := x.run.execute()
	pieces := x.run.out.pieces
	x.lane.relax(x.run)
	x.using.end()
	x.endRun(&result, parked)
	if w.from == nil && lanes.metrics.runs != nil {
		lanes.metrics.observe(w.len(), lanes.clock.now()-began)
	}
	x.startRun(time.Time{})
	x.finish()
	if !x.away {
		lanes.busy.end()
	}
	switch {
	case parked != nil && len(result.Rows) == 0:
	case len(pieces) > 0:
		x.tellPieces(w, result, pieces)
	default:
		w.part.Done(result)
	}
	x.leavePart()
	if parked != nil {
		lanes.pending.more()
	}
	over := true
	if !x.away && (parked != nil || w.groups != nil) {
		var back []*group
		back, over = x.lane.parked.settle(w, parked)
		if parked != nil {
			x.lane.parked.await(x.ctx, parked.groups)
		}
		if len(back) > 0 {
			giveBackParked(back)
		}
	}
	if over {
		lanes.pending.end()
	}
	if w.from == nil && parked == nil && !x.away && len(w.in.columns.Keys) == 0 {
		x.lane.reusable = w
	}
}

// tellPieces tells the part how the run ended, in pieces as its output came.
func (x *executor) tellPieces(w *work, result RunResult, pieces []batch.Output) {
	runs := w.inPieces(&result, pieces)
	if len(runs) == 0 {
		runs = []RunResult{result}
	}
	size := func(r *RunResult) int64 { return int64(len(r.Output.Rows.Data) + 8*len(r.Output.Origins)) }
	left := int64(0)
	for i := range runs {
		left += size(&runs[i])
	}
	for i, run := range runs {
		runs[i] = RunResult{}
		if w.part.Piece != nil {
			w.part.Piece(x.ctx, size(&run), left)
		}
		left -= size(&run)
		w.part.Done(run)
	}
}

// survive is deferred by the run. If something panicked on the way that is no function, the lane goes on in another goroutine: it
// calls functions for one row at a time then, and if it panics again the rows fail.
func (x *executor) survive() {
	panicked := recover()
	if panicked == nil {
		return
	}
	what, stack := fmt.Sprintf("a %T", panicked), string(debug.Stack()) // its text may be a row's
	switch panicked := panicked.(type) {
	case runtime.Error:
		what = panicked.Error()
	case *fault:
		stack = panicked.stack
	}
	x.lane.lanes.config.Logger.Error("a lane panicked, and goes on: please report this", "flow", x.lane.lanes.config.Flow,
		"function", x.frame.Call.Function, "panic", what, "stack", stack)
	if x.st.step == nil {
		x.st.step, x.st.rs = x.run.plan.steps[0], new(rows.Set)
	}
	x.inCall = false
	x.using.end()
	x.succeed(batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeInternal,
		Reason: "the worker's own code panicked while the row was under way; its log says where: report this"}, -1, false)
	runtime.Goexit()
}

// enterPart says that rows are about to run.
func (x *executor) enterPart(w *work) {
	enter := w.part.Enter
	if enter == nil {
		return
	}
	entering := w.rows
	if w.from != nil {
		entering = rows.Pick(w.from.rows, entering)
	}
	x.lane.entering.Store(true)
	began := x.lane.lanes.clock.now()
	x.left = enter(x.ctx, rows.As[uint32](entering))
	held := x.lane.heldUpTotal.Add(int64(x.lane.lanes.clock.now() - began))
	x.lane.entering.Store(false)
	if x.heldUp = 0; w.from != nil {
		x.heldUp = max(0, time.Duration(held-w.from.heldUpBefore))
	}
}

// leavePart says that those that have not ended run no more.
func (x *executor) leavePart() {
	if x.left != nil {
		x.left()
		x.left = nil
	}
}

// wait waits for a run; nil: the goroutine is to end.
func (x *executor) wait() *work {
	if x.away {
		return nil
	}
	return x.lane.next()
}

// guarded calls the function for rows lo to hi-1 under the watchdog. A panic is a fault, as an error is. What was returned is read
// here, too: it is a value of the user's, whose methods may do all that a function may.
func (x *executor) guarded(call callFunc, lo, hi int) (row int, f *fault) {
	x.enter(lo, hi, false)
	return x.called(call, lo, hi)
}

// reading runs code that may call methods of row types for rows lo to hi-1 of the current function, which it tells of each
// row with at. It is under the watchdog as a call of the function is. Within a call it is part of that.
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

// called is the call that enter began.
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

// ended ends a call that did not end well. It does not return if the goroutine was abandoned, and another one has the lane if it is exiting.
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

// panicked reads what a function panicked with. To print it may panic, or end the goroutine.
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

// exited says that the goroutine was ended.
func (x *executor) exited() string {
	if x.guard.reading {
		return "code of the row's type ended its goroutine with runtime.Goexit: let it return"
	}
	return "the function ended its goroutine with runtime.Goexit: let it return"
}

// succeed gives the lane another goroutine in place of x's, which never comes back from a row: that row ends with o, the
// others of the run begin anew. goesOn: its function may still touch the row. Nobody is to blame if o has no outcome, or if the row is -1, not known.
func (x *executor) succeed(o batch.RowOutcome, row int, goesOn bool) {
	again := *x.run.work
	w := &again
	var left abandoned
	if again.abandoned != nil {
		left = *again.abandoned
	}
	w.abandoned, left.carried = &left, nil
	if o.Outcome != 0 {
		o.Function, o.Attempts = x.frame.Call.Function, uint32(x.frame.Call.Attempt)
		if x.st.whole.mayGoApart(o) {
			left.apart = append(slices.Clip(left.apart), x.st.step)
		} else {
			blamed, entered := x.run.blame(o, row, goesOn)
			left.carried = x.run.carry(row, entered)
			left.rows = append(slices.Clip(left.rows), entered...)
			if left.dead = append(slices.Clip(left.dead), blamed...); len(blamed) == 0 && x.run.work.abandoned != nil {
				left.over = &o // it hangs again and again, without a row
			}
		}
	}
	x.abandonTrace(o)
	x.lane.lanes.busy.end()
	x.leavePart()
	x.lane.start(w)
}

// callFunc is kis.Code's Call or Keys.
type callFunc func(f *kis.Frame, lo, hi int) (int, error)

// during calls look with the run while a call of a function is under way, and reports whether one is. The call does not end
// meanwhile, whatever goroutine asks: what a function has left behind finds nothing that the lane changes.
func (x *executor) during(look func(*stepRun)) bool {
	g := &x.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calling {
		look(&x.st)
	}
	return g.calling
}

// identify is the id of a row of the frame; that of no row, if there is none of that number, or no call is under way.
func (x *executor) identify(row int) (id batch.RowID) {
	x.during(func(st *stepRun) {
		if row >= 0 && row < st.rs.Len() {
			id.Batch = st.run.part.Batch
			id.Row, id.Output, id.Visit = st.run.identity(st.step, st.rs, row)
		}
	})
	return id
}

// raw is the frame's rows as they came; nil: no call is under way.
func (x *executor) raw() []any {
	var rs *rows.Set
	if !x.during(func(st *stepRun) { rs = st.rs }) {
		return nil
	}
	return x.reader.Raw(rs)
}

// late tells, once for each function, of what it used after its call. It runs on goroutines of the function's.
func (x *executor) late(function, what string) {
	lanes := x.lane.lanes
	if _, told := lanes.lateUses.LoadOrStore([2]string{function, what}, true); !told {
		lanes.config.Logger.Warn("a function used what it had for its call after that, which is ignored: let the function wait for the goroutines "+
			"that it starts", "flow", lanes.config.Flow, "function", function, "used", what)
	}
}

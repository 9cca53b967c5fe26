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
	x.reader.Memory, x.reader.Host = &x.mem, readingHost{&x.st}
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

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

// executor executes the works of a lane, one after the other, on one goroutine. All of its fields belong to that goroutine, but
// for guard and those that say otherwise. When a function does not return, the executor is abandoned with its goroutine, and the
// lane gets another one.
type executor struct {
	lane     *lane
	guard    guard
	ctx      context.Context // the context that functions get; guarded by guard.mu against the watchdog
	cancel   context.CancelCauseFunc
	copy     *kis.Copy
	frame    kis.Frame
	run      *run    // points to own during a run; nil between runs
	own      run     // the memory of the run
	st       stepRun // takes the run's rows through its current step
	followed growth  // the memory that st.growth points to
	lo, hi   int     // the current call gets the rows lo to hi-1
	inCall   bool    // whether a call of the user's code is under way

	mem    rows.Memory
	reader decode.Reader // makes the rows of the run readable
	turns  turns

	using using
	left  func() // the function that the part's Enter returned for the rows that run; nil if there is none
	// heldUp is how long Enter has held up the lane since the rows were parked that go on now. That time is charged to no row.
	heldUp time.Duration

	away bool // whether the executor rests, and has no lane; guarded by lane.mu while it rests

	traced tracing

	plan    *Plan // the plan whose functions metrics are for
	metrics []functionMetrics
}

// newExecutor makes an executor for a lane, which runs the copy c of its flow. The caller starts the executor's loop on a new
// goroutine.
func newExecutor(ln *lane, c *kis.Copy) *executor {
	x := &executor{lane: ln, copy: c}
	x.st.init(x)
	x.reader.Memory, x.reader.Host = &x.mem, readingHost{&x.st}
	x.renew()
	x.frame.Copy, x.frame.Pause, x.frame.Identify, x.frame.Raw, x.frame.Connect, x.frame.Late = x.copy, x.pause, x.identify, x.raw, x.connect, x.late
	return x
}

// loop is the function of the executor's goroutine. It executes resume first, which is work that another goroutine left
// unfinished, or nil; then it executes the lane's works, until wait returns nil. If a function ends the goroutine, or the
// goroutine is abandoned, the lane gets another one.
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

// execute runs a work. It calls the part's Done for the rows that have ended, and gives the rows that have parked to the lane.
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

// tellPieces tells the part how a run ended whose output came in pieces: it calls the part's Piece and Done for each piece, in
// order. If the result can't be divided, it calls them once.
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

// survive is deferred around a run, and recovers panics of the executor's own code (a panic in the user's code ends only its row).
// The lane goes on in another goroutine, which runs the work again and calls functions for one row at a time. If that panics
// again, the rows fail with INTERNAL.
func (x *executor) survive() {
	panicked := recover()
	if panicked == nil {
		return
	}
	pointSurvived.Hit()
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

// enterPart calls the part's Enter, which may block, before rows of the part run. It measures how long Enter took, so that no row
// is charged for that time.
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

// leavePart calls the function that the part's Enter returned, if there is one: the rows that have not ended do not run any more.
func (x *executor) leavePart() {
	if x.left != nil {
		x.left()
		x.left = nil
	}
}

// wait waits for the next work of the lane; nil means that the goroutine is to end.
func (x *executor) wait() *work {
	if x.away {
		return nil
	}
	return x.lane.next()
}

// succeed gives the lane another goroutine in place of this one, which does not return from a row. The row ends with o, and the
// other rows of the run begin anew, or go on where they stand (run.carry). goesOn means that the function may still touch the row.
// If o has no outcome, no row ends. If the row is -1, because it is not known, no row ends at first; if that happens again, all
// rows of the work end with o. If a call of a Batch or FaaS function had rows of several keys, no row ends either: the function is
// called again for each key alone.
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
			for range blamed {
				x.lane.lanes.config.Metrics.died(x.run.plan.flow, o.Function)
			}
			if left.dead = append(slices.Clip(left.dead), blamed...); len(blamed) == 0 && x.run.work.abandoned != nil {
				pointHungAgain.Hit()
				left.over = &o // it hangs again and again, and nobody knows in which row
			}
		}
	}
	x.abandonTrace(o)
	x.lane.lanes.busy.end()
	x.leavePart()
	x.lane.start(w)
}

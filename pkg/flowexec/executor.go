package flowexec

import (
	"context"
	"runtime"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// executor executes the runs of a lane, one after another, on one goroutine, to which all but guard belongs. When that
// goroutine hangs in a function, the executor is abandoned with it and the lane gets another.
type executor struct {
	lane   *lane
	guard  guard
	ctx    context.Context // of functions; guarded by guard.mu against the watchdog
	cancel context.CancelCauseFunc
	copy   *kis.Copy
	frame  kis.Frame
	run    *run // nil between runs
	own    run  // what run points to
	lo, hi int  // the rows of the call under way

	words   words
	vectors vectors
	gone    []uint32
	jumps   []jump
	aside   []asideRow
	sets    sets

	using using
	left  func() // what the part's Enter returned for the rows that run; nil: none do

	away bool // it rests, and has no lane; guarded by lane.mu, or by rest.turn

	traced tracing

	plan    *Plan // what metrics are for
	metrics []functionMetrics
}

// start gives the lane a goroutine and a copy. resume is what an abandoned one leaves behind; nil: nothing.
func (ln *lane) start(resume *work) {
	c := ln.lanes.config.Copy
	if c == nil {
		c = new(kis.Copy)
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.launch(resume, c)
}

// launch gives the lane a goroutine. It must be called with mu held.
func (ln *lane) launch(resume *work, c *kis.Copy) {
	x := &executor{lane: ln, copy: c}
	x.renew()
	x.frame.Copy, x.frame.Pause, x.frame.Identify, x.frame.Raw, x.frame.Connect = x.copy, x.pause, x.identify, x.raw, x.connect
	ln.exec = x
	go x.loop(resume)
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
	lanes.setBusy(1)
	x.renew()
	x.enterPart(w)
	x.startRun(w.part.Deadline)
	x.begin(w)
	x.traceRun(w)
	began := x.run.clock
	result, parked := x.run.execute()
	x.using.end()
	x.endRun(&result, parked)
	if w.from == nil && lanes.metrics.runs != nil {
		lanes.metrics.observe(w.len(), lanes.now()-began)
	}
	x.startRun(time.Time{})
	x.finish()
	if !x.away {
		lanes.setBusy(-1)
	}
	if w.from == nil {
		x.lane.rows.Add(-int64(w.len()))
	}
	if parked == nil || len(result.Rows) > 0 {
		w.part.Done(result)
	}
	x.leavePart()
	if parked != nil {
		lanes.alsoPending()
	}
	over := true
	if !x.away && (parked != nil || w.groups != nil) {
		var back []*group
		back, over = x.lane.settle(w, parked)
		if parked != nil {
			lanes.await(x.ctx, parked.groups)
		}
		if len(back) > 0 {
			lanes.giveBackParked(back)
		}
	}
	if over {
		lanes.end()
	}
}

// enterPart says that rows are about to run.
func (x *executor) enterPart(w *work) {
	enter := w.part.Enter
	if enter == nil {
		return
	}
	rows := w.rows
	if w.from != nil {
		rows = picked(w.from.rows, rows)
	}
	x.left = enter(x.ctx, rows)
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

// guarded calls the function for rows lo to hi-1 under the watchdog, and turns a panic into an error.
func (x *executor) guarded(call callFunc, lo, hi int) (row int, err error) {
	x.enter(lo, hi)
	returned := false
	defer func() {
		var panicked any
		if !returned {
			panicked = recover()
		}
		exiting := !returned && panicked == nil // the function called runtime.Goexit
		switch alive := x.leave(); {
		case !alive:
			x.lane.lanes.config.Metrics.addAbandoned(-1)
			x.using.end()
			if !exiting {
				runtime.Goexit()
			}
		case exiting:
			x.using.end()
			x.succeed(batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionPanic,
				Reason: "the function ended its goroutine with runtime.Goexit: let it return"}, x.frame.Row, false)
		case panicked != nil:
			row, err = x.frame.Row, newPanicError(panicked)
		}
	}()
	row, err = call(&x.frame, lo, hi)
	returned = true
	return row, err
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
	w.abandoned = &left
	if o.Outcome != 0 {
		o.Function, o.Attempts = x.frame.Call.Function, uint32(x.frame.Call.Attempt)
		blamed, entered := x.run.blame(o, row, goesOn)
		left.rows = append(slices.Clip(left.rows), entered...)
		if left.dead = append(slices.Clip(left.dead), blamed...); len(blamed) == 0 && x.run.work.abandoned != nil {
			left.over = &o // it hangs again and again, without a row
		}
	}
	x.abandonTrace(o)
	x.lane.lanes.setBusy(-1)
	x.leavePart()
	x.lane.start(w)
}

// callFunc is kis.Code's Call or Keys.
type callFunc func(f *kis.Frame, lo, hi int) (int, error)

// identify is the id of a row of the frame.
func (x *executor) identify(row int) batch.RowID {
	r := x.run
	id := batch.RowID{Batch: r.part.Batch}
	id.Row, id.Output, id.Visit = r.identity(r.step, r.now, row)
	return id
}

// raw is the frame's rows as they came.
func (x *executor) raw() []any { return x.run.raw(x.run.now) }

// raw is rows as they came: JSON as strings.
func (r *run) raw(rs *rowset) []any {
	rows := make([]any, rs.len())
	for i := range rows {
		if rs.vec != nil {
			rows[i] = rs.vec.At(i)
		} else {
			rows[i] = string(r.source(rs, i))
		}
	}
	return rows
}

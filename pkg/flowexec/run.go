package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// run is one execution of a flow over rows of a part, in one lane. It takes the rows through the flow's steps, until each has ended or parked. It
// belongs to the goroutine of its executor.
//
// A run has several fields with types of their own, each for one job: st takes rows through one step, turns through a stretch of steps in rounds;
// parking has the rows that parked, out the output, letters the dead rows, ledger the outcomes, budgets the time that rows have used up, and
// bound how much was made of each.
type run struct {
	x    *executor
	work *work
	plan *Plan
	part *Part
	n    int // the number of its input rows
	// keyed says how the run waits. If true, a row that waits parks, with the later rows of its key, and the other rows go on. If false, the run rests as a
	// whole.
	keyed bool

	// waiting has for each step the rows that enter it next, and behind the last step the rows that leave the flow.
	waiting [][]*rows.Set
	st      *stepRun
	turns   *turns
	parking parking
	out     outputs
	letters letters
	ledger  ledger
	budgets budgets
	bound   bound
	// tapping copies rows for somebody who looks; nil means that nobody does.
	tapping *tapping

	// halted means that the run is over: all of its rows have ended or parked. returned means that it is over without an outcome for any row: its rows are
	// given back.
	halted, returned bool
	cause            error         // the first error that ended rows; nil if there was none
	woke             time.Duration // when the run's last rest was over
	jumpsWithout     int           // how often a function that was called without rows has jumped
	clock            time.Duration // when the last step ended, by the clock of the lanes; 0 unless Lanes.timed is set
}

// begin sets up x.run as a new run over the rows of w. It reuses the lists of the executor's last run.
func (x *executor) begin(w *work) {
	r := &x.own // empty, but for the lists
	if n := len(w.part.Plan.steps) + 1; cap(r.waiting) < n {
		r.waiting = make([][]*rows.Set, n)
	} else {
		r.waiting = r.waiting[:n]
	}
	r.x, r.work, r.plan, r.part, r.n = x, w, w.part.Plan, w.part, w.len()
	r.keyed = !r.plan.unsharded && len(w.in.columns.Keys) > 0
	r.st, r.turns = &x.st, &x.turns
	r.parking.run, r.out.run, r.letters.run, r.budgets.st = r, r, r, &x.st
	r.turns.run = r
	r.ledger.n = r.n
	if taps := x.lane.lanes.taps.Load(); taps != nil {
		r.tapping = &tapping{run: r, taps: *taps}
	}
	if x.lane.lanes.timed {
		r.clock = x.lane.lanes.clock.now()
	}
	x.run = r
	x.reader.Types, x.reader.Flow, x.reader.Start = r.plan.types, r.plan.flow, r.part.Start
	x.reader.Source = decode.Source{Columns: &w.in.columns, Values: w.in.values, Rows: w.rows}
	x.reader.KeepCame = r.part.KeepDead > 0 || r.plan.stretches != nil
}

// finish forgets the run when it has ended, and takes back the memory that was lent for it.
func (x *executor) finish() {
	waiting := x.own.waiting
	for k, sets := range waiting {
		clear(sets[:cap(sets)])
		waiting[k] = sets[:0]
	}
	if x.own.plan.stretches != nil {
		x.turns.reset()
	}
	x.st.forget()
	x.reader.Source = decode.Source{}
	x.own, x.run = run{waiting: waiting}, nil
	x.mem.Reset()
}

// execute takes the run's rows through the flow. When rows wait for several steps, the rows of the earliest step go first, so that rows which jumped
// back catch up with the others. It returns the result of the rows that have ended, and the parcel of those that have parked, or nil if none has.
func (r *run) execute() (RunResult, *parcel) {
	defer r.x.survive()
	if left := r.work.abandoned; left != nil && left.carried != nil {
		r.takeOn(left.carried)
	} else {
		r.start()
	}
	if left := r.work.abandoned; left != nil {
		r.takeOver(left)
	}
	for !r.halted {
		k := r.earliest()
		if r.keyed && r.plan.stretches != nil && !r.turns.mayGoOn(k) {
			continue
		}
		if k == len(r.plan.steps) {
			break
		}
		sets := r.inOrder(k)
		next := sets[0]
		r.waiting[k] = slices.Delete(sets, 0, 1)
		r.st.enter(r.plan.steps[k], next)
	}
	if r.returned {
		return r.work.returned(), nil
	}
	r.turns.end()
	return r.result()
}

// start has the run's rows wait for the step at which they begin: that of the part, or those in which they were parked.
func (r *run) start() {
	if r.work.from != nil {
		r.resume(r.work.from)
		return
	}
	rs := r.x.mem.Input(r.n)
	if r.work.in.values != nil {
		rs.Vec, rs.Forced = &kis.Vec[any]{Rows: r.work.in.values}, r.n == 0
	}
	rs.Born = r.part.Start
	r.queue(r.withoutBehindFailed(r.withoutBlamed(r.startBehind(rs))), r.part.Start)
}

// earliest returns the place of the first step that rows wait for. If no rows wait for a step, it is the number of steps, the place of rows that leave
// the flow.
func (r *run) earliest() int {
	for k, sets := range r.waiting {
		if len(sets) > 0 {
			return k
		}
	}
	return len(r.waiting) - 1
}

// inOrder returns the sets of rows that wait for step k, in the order of their input rows. In a flow without a shard key they stay in the order in which
// they came to the step.
func (r *run) inOrder(k int) []*rows.Set {
	sets := r.waiting[k]
	if len(sets) < 2 || r.plan.unsharded {
		return sets
	}
	return r.x.mem.InOrder(sets)
}

// result returns how the run has ended: the result of the rows that have ended, and the parcel of those that have parked, or nil if none has.
func (r *run) result() (RunResult, *parcel) {
	result := RunResult{Part: r.part.enqueued(), Rows: rows.As[uint32](r.work.rows)}
	if r.part.Output {
		result.Output = r.out.last()
	}
	r.noteFailed()
	result.NotDone, result.Err = r.ledger.list(r.work), returned(r.err())
	from := r.work.from
	if from != nil {
		from.addEarlier(&result, r.work.rows)
	}
	var parked *parcel
	if r.parking.any() {
		parked = r.pack(&result)
	}
	r.letters.tell(&result)
	if from != nil {
		from.renumber(&result)
	}
	return result, parked
}

// err returns the first error that ended rows, or nil if there was none. A run without rows has no row to end: for such a run err returns an error made
// of its first dead or failed outcome.
func (r *run) err() error {
	if first := r.ledger.first; r.cause == nil && r.n == 0 && first != nil {
		return batch.Errorf(first.Code, "%s: %s", first.Function, first.Reason)
	}
	return r.cause
}

package flowexec

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// maxJumps is how often a row may jump.
const maxJumps = 1000

// run is one execution of a plan over rows of a part.
type run struct {
	x    *executor
	work *work
	plan *Plan
	part *Part
	n    int
	// waiting are the rows about to enter each step; behind the last one is the flow's output.
	waiting [][]*rows.Set
	step    *step
	now     *rows.Set // what is in the step
	halted  bool      // the rest of the run was ended as a whole
	keyed   bool      // rows park for themselves, else the run does as a whole
	aside   *aside    // the rows that have parked; nil: none
	// returned: the run parked as a whole, and is given back.
	returned bool
	cause    error         // the first error of a function that ended rows
	reload   func(i int)   // reads what a Load's row i gets beside it anew; nil: nothing
	woke     time.Duration // when it last rested until
	// loadSince is when a Load in KisFlow's shape began to wait.
	loadSince time.Duration
	saves     uint64  // how often its connector had saved when it was last called
	empty     int     // jumps without rows
	growth    *growth // what the function under way has made; nil: it is not followed
	turns     *turns  // a stretch of the flow is under way; nil: none is
	// pieces are full pieces of the output of a run without keys, open the one that is being written.
	pieces []batch.Output
	open   batch.Output
	large  bool          // the part was told
	clock  time.Duration // when the last step ended, by the clock of the lanes, if somebody wants to know
	ledger ledger
	dead   []batch.DeadRow // as they entered their functions, with their origins as rows
	// spent is what slow rows have used up of the flow's timeout, by origin.
	spent map[rows.RunRow]time.Duration
}

// begin makes x.run of w, with the lists of the run before.
func (x *executor) begin(w *work) {
	r := &x.own // empty, but for the lists
	if n := len(w.part.Plan.steps) + 1; cap(r.waiting) < n {
		r.waiting = make([][]*rows.Set, n)
	} else {
		r.waiting = r.waiting[:n]
	}
	r.x, r.work, r.plan, r.part, r.n = x, w, w.part.Plan, w.part, w.len()
	r.keyed = !r.plan.unsharded && len(w.in.columns.Keys) > 0
	r.ledger.n = r.n
	if x.lane.lanes.timed {
		r.clock = x.lane.lanes.clock.now()
	}
	x.run = r
	x.reader.Types, x.reader.Flow, x.reader.Start = r.plan.types, r.plan.flow, r.part.Start
	x.reader.Source = decode.Source{Columns: w.in.columns, Values: w.in.values, Rows: w.rows}
	x.reader.KeepCame = r.part.KeepDead > 0 || r.plan.stretches != nil
}

// finish forgets the run, and takes back what was lent for it.
func (x *executor) finish() {
	waiting := x.own.waiting
	for k, sets := range waiting {
		clear(sets[:cap(sets)])
		waiting[k] = sets[:0]
	}
	if x.own.plan.stretches != nil {
		x.turns.reset()
	}
	x.own, x.run = run{waiting: waiting}, nil
	x.mem.Reset()
}

// place is the place in the batch of a row of the run.
func (r *run) place(origin rows.RunRow) rows.BatchRow {
	if origin == rows.WholeBatch {
		return rows.BatchRow(origin)
	}
	return r.part.place(r.work.row(origin))
}

// source is a row as it came.
func (r *run) source(rs *rows.Set, i int) []byte {
	return r.work.in.columns.Row(int(r.work.row(rs.Origins[i])))
}

// execute takes the rows through the flow. Among rows that are about to enter different steps those of the earliest go first,
// so that rows that jumped back catch up with the others. What has not ended then is parked.
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
		if r.keyed && r.plan.stretches != nil && !r.inTurn(k) {
			continue
		}
		if k == len(r.plan.steps) {
			break
		}
		sets := r.inOrder(k)
		next := sets[0]
		r.waiting[k] = slices.Delete(sets, 0, 1)
		r.enter(r.plan.steps[k], next)
	}
	if r.returned {
		return r.work.returned(), nil
	}
	if r.turns != nil {
		r.endTurns()
	}
	result := RunResult{Part: r.part.enqueued(), Rows: rows.As[uint32](r.work.rows)}
	if r.part.Output {
		result.Output = r.output()
	}
	result.NotDone, result.Err = r.ledger.list(r.work), returned(r.err())
	from := r.work.from
	if from != nil {
		from.takeUp(&result, r.work.rows)
	}
	var parked *parcel
	if r.aside != nil {
		parked = r.pack(&result)
	}
	r.tellDead(&result)
	if from != nil {
		from.count(&result)
	}
	return result, parked
}

// start puts the run's rows where they begin.
func (r *run) start() {
	if r.work.from != nil {
		r.resume(r.work.from)
	} else {
		rs := r.x.mem.Input(r.n)
		if r.work.in.values != nil {
			rs.Vec, rs.Forced = &kis.Vec[any]{Rows: r.work.in.values}, r.n == 0
		}
		rs.Born = r.part.Start
		r.pass(r.withoutDead(r.startBehind(rs)), r.part.Start)
	}
}

// takeOver ends the rows that abandoned goroutines are to blame on, or all of the run.
func (r *run) takeOver(left *abandoned) {
	if left.carried == nil {
		r.dead = append(r.dead, left.rows...)
	}
	for _, o := range left.dead {
		r.ledger.end(rows.RunRow(o.Row), o)
	}
	if over := left.over; over != nil {
		r.step, r.now = r.plan.steps[0], new(rows.Set)
		r.halt(*over)
		r.cause = batch.Errorf(over.Code, "%s: %s", over.Function, over.Reason)
	}
}

// err is the first error that a function ended rows with, or else the failure of a run without rows.
func (r *run) err() error {
	if first := r.ledger.first; r.cause == nil && r.n == 0 && first != nil {
		return batch.Errorf(first.Code, "%s: %s", first.Function, first.Reason)
	}
	return r.cause
}

// earliest is the first step that rows wait for.
func (r *run) earliest() int {
	for k, sets := range r.waiting {
		if len(sets) > 0 {
			return k
		}
	}
	return len(r.waiting) - 1
}

// withoutDead leaves out the rows that an abandoned goroutine is to blame on.
func (r *run) withoutDead(rs *rows.Set) *rows.Set {
	if r.work.abandoned == nil {
		return rs
	}
	var gone []uint32
	for i, origin := range rs.Origins {
		if r.ended(origin) {
			gone = append(gone, uint32(i))
		}
	}
	return r.x.mem.Keep(rs, gone)
}

// pass sends rows on to a step.
func (r *run) pass(rs *rows.Set, step int) {
	rs.Along, rs.Came = nil, nil // they were for the step before
	if rs.Len() > 0 || rs.Forced {
		r.waiting[step] = append(r.waiting[step], rs)
	}
}

// enter takes rows through one function.
func (r *run) enter(s *step, rs *rows.Set) {
	x := r.x
	r.step, r.now = s, rs
	if o := x.stopped(); o != nil {
		r.halt(*o)
		return
	}
	x.gone, x.jumps, x.aside = x.gone[:0], x.jumps[:0], x.aside[:0]
	if rs = r.mayEnter(rs); rs.Len() == 0 && !rs.Forced {
		return
	}
	entered := entering(rs)
	f := &x.frame
	f.Call.Flow, f.Call.Function, f.Call.Revision, f.Call.Attempt = r.plan.flow, s.Name, r.plan.revision, 1
	f.Params = s.params
	f.Bundle, f.Registry, f.Place = r.plan.bundle, r.plan.registry, s.Index
	x.traceFunction(s, entered)
	if rs = r.prepare(s, rs); !r.halted && (rs.Len() > 0 || rs.Forced) {
		switch {
		case s.form.Whole():
			r.runWhole(s, rs)
		case rs.Len() == 0:
		case s.form == kis.FormSave:
			r.runSave(s, rs)
		case s.form == kis.FormLoad:
			r.runLoad(s, rs)
		case s.form == kis.FormExpand:
			r.runExpand(s, rs)
		case s.form == kis.FormCalculate:
			r.runCalculate(s, rs)
		default:
			r.runVerify(s, rs)
		}
	}
	rs.Along, rs.Came = nil, nil
	x.endFunction()
	if !x.lane.lanes.timed {
		return
	}
	began := r.clock
	r.clock = x.lane.lanes.clock.now()
	took := r.clock - began
	x.metricsOf(r.plan, s).observe(entered, took)
	if observe := x.lane.lanes.config.Observe; observe != nil {
		observe(Observed{Flow: r.plan.flow, Function: s.Name, Mode: s.mode, Place: s.Index, Rows: entered, Took: took})
	}
}

func (r *run) runVerify(s *step, rs *rows.Set) {
	if r.through(rs, s.code.Call, false) {
		r.pass(r.x.mem.Keep(rs, r.x.gone), s.Index+1)
		r.leave(rs)
	}
}

func (r *run) runCalculate(s *step, rs *rows.Set) {
	out := r.x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(rs.Len())
	r.x.frame.Out = out
	over := !r.through(rs, s.code.Call, false)
	switch written := r.endGrowth(over); {
	case over:
	case written:
		r.leave(rs)
	default:
		r.noteMade(s)
		r.refuseNil(s, rs, out)
		r.pass(r.x.mem.Next(rs, out, r.x.gone, s.Index+1), s.Index+1)
		r.leave(rs)
	}
}

// leave sends the rows that jump to where they go, and notes those that are set aside.
func (r *run) leave(rs *rows.Set) {
	r.jump(rs)
	r.keepAside(rs)
}

func (r *run) runExpand(s *step, rs *rows.Set) {
	f := &r.x.frame
	f.Out, f.Parents = r.x.mem.Lend(s.outKind, s.code.NewOut), f.Parents[:0]
	f.Out.Reset(0)
	over := !r.through(rs, s.code.Call, false)
	r.x.lane.noteWide(rs.Len(), f.Out.Len())
	switch written := r.endGrowth(over); {
	case over:
	case written:
		r.leave(rs)
	default:
		r.noteMade(s)
		r.passMade(s, rs, f.Out, f.Parents)
		r.leave(rs)
	}
}

// passMade passes on rows that name their parents, and ends the rows that nothing came of.
func (r *run) passMade(s *step, rs *rows.Set, out kis.Vector, parents []uint32) {
	if !isIdentity(parents, rs.Len()) && s.Index+1 < len(r.plan.steps) {
		has := r.x.mem.Numbers(rs.Len())
		for _, p := range parents {
			has[p] = 1
		}
		for _, g := range r.x.gone {
			has[g] = 1
		}
		for i, n := range has {
			if n == 0 {
				r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeNotCommitted,
					Reason: "the function passed nothing on for it"})
			}
		}
	}
	made := r.x.mem.Made(rs, out, parents, s.Index+1)
	r.pass(r.x.mem.Keep(made, r.nils(s, made)), s.Index+1)
}

func isIdentity(rows []uint32, n int) bool {
	if len(rows) != n {
		return false
	}
	for i, r := range rows {
		if r != uint32(i) {
			return false
		}
	}
	return true
}

// refuseNil ends rows for which a nil pointer was passed on, and adds them to those gone.
func (r *run) refuseNil(s *step, rs *rows.Set, out kis.Vector) {
	if !s.outPointer {
		return
	}
	gone := len(r.x.gone)
	for i, p := range unsafe.Slice((*unsafe.Pointer)(out.Pointer()), out.Len()) {
		if _, found := slices.BinarySearch(r.x.gone[:gone], uint32(i)); p == nil && !found {
			r.end(rs, uint32(i), nilPassed(s))
			r.x.gone = append(r.x.gone, uint32(i))
		}
	}
	slices.Sort(r.x.gone)
}

// nils are the rows made that are nil pointers; they end.
func (r *run) nils(s *step, made *rows.Set) []uint32 {
	if !s.outPointer {
		return nil
	}
	var gone []uint32
	for i, p := range unsafe.Slice((*unsafe.Pointer)(made.Vec.Pointer()), made.Len()) {
		if p == nil {
			r.end(made, uint32(i), nilPassed(s))
			gone = append(gone, uint32(i))
		}
	}
	return gone
}

func nilPassed(s *step) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1,
		Reason: fmt.Sprintf("the function passed on a nil %v and no error: return kis.Drop to leave a row out", s.out)}
}

// end ends row i of rs in the current step.
func (r *run) end(rs *rows.Set, i uint32, o batch.RowOutcome) {
	o.Function = r.step.Name
	r.noteDead(rs, i, &o)
	r.ledger.end(rs.Origins[i], o)
}

// lose ends row i of the rows under way, and takes it out of them. Rows are lost in ascending order.
func (r *run) lose(i int, o batch.RowOutcome) {
	r.end(r.now, uint32(i), o)
	r.x.gone = append(r.x.gone, uint32(i))
}

// inOrder is the rows that wait for a step, in the order of their origins (rows.Memory.InOrder), where batches are split.
func (r *run) inOrder(k int) []*rows.Set {
	sets := r.waiting[k]
	if len(sets) < 2 || r.plan.unsharded {
		return sets
	}
	return r.x.mem.InOrder(sets)
}

// halt ends all rows that are under way, those of the current step included, and with them the run.
func (r *run) halt(o batch.RowOutcome) {
	r.halted = true
	r.forgoTurns()
	r.keepAside(r.now)
	o.Function = cmp.Or(o.Function, r.step.Name)
	for i, origin := range r.now.Origins {
		if _, gone := slices.BinarySearch(r.x.gone, uint32(i)); !gone {
			r.ledger.end(origin, o)
		}
	}
	for _, j := range r.x.jumps {
		r.ledger.end(r.now.Origins[j.row], o)
	}
	for _, origin := range r.now.Behind {
		r.ledger.end(origin, o)
	}
	o.Function = ""
	for _, sets := range r.waiting[:len(r.plan.steps)] {
		for _, rs := range sets {
			for _, origin := range slices.Concat(rs.Origins, rs.Behind) {
				r.ledger.end(origin, o)
			}
		}
	}
}

// blame is how the row that an abandoned call hangs in ends; in Batch and FaaS all rows of the call. It is called when x's
// goroutine does not touch the run any more; the function does, if it goes on.
func (r *run) blame(o batch.RowOutcome, row int, goesOn bool) ([]batch.RowOutcome, []batch.DeadRow) {
	rows := []int{row}
	if r.step.form.Whole() && !r.x.guard.reading {
		rows = rows[:0]
		least, _ := r.budget(0, false)
		for i := range r.now.Len() {
			if o.Code != batch.CodeRowTimeout || r.left(i) <= least {
				rows = append(rows, i)
			}
		}
	}
	var dead []batch.RowOutcome
	var entered []batch.DeadRow
	for _, origin := range r.now.Behind {
		o.Row = uint32(origin)
		dead = append(dead, o)
	}
	for _, i := range rows {
		if i < 0 {
			continue
		}
		o := o
		entered = r.blameDead(entered, i, goesOn, &o)
		if o.Row = uint32(r.now.Origins[i]); o.Row == batch.WholeBatch {
			for o.Row = range uint32(r.n) {
				dead = append(dead, o)
			}
			return dead, entered
		}
		dead = append(dead, o)
	}
	return dead, entered
}

func (x *executor) metricsOf(p *Plan, s *step) functionMetrics {
	if x.plan != p {
		x.plan, x.metrics = p, make([]functionMetrics, len(p.steps))
		for i, s := range p.steps {
			x.metrics[i] = x.lane.lanes.config.Metrics.function(p.flow, s)
		}
	}
	return x.metrics[s.Index]
}

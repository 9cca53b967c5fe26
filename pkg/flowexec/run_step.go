package flowexec

import (
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// stepRun takes rows of a run through one step of the flow: it makes them readable, calls the step's function for them, and sends each row where it
// goes next. The step's kind decides how: see enter. It belongs to the run's goroutine, and is used again for the next step.
type stepRun struct {
	x    *executor
	run  *run
	step *step
	rs   *rows.Set // the rows that the function is called for
	verdicts

	asking  asking
	saving  saving
	loading loading
	whole   wholeCall
	growth  *growth // how much the function has made so far; nil means that nobody counts

	// reload reads once more what a Load has for row i; nil means that there is nothing to read.
	reload func(i int)
	// loadSince is when a Load in KisFlow's shape began to wait, by the clock of the lanes; saves is how many Saves its connector had seen when it was
	// last called.
	loadSince time.Duration
	saves     uint64
}

// init sets the fields that stay for the life of the executor.
func (st *stepRun) init(x *executor) {
	st.x, st.run = x, &x.own
	st.asking = asking{st, st.run, x}
	st.saving, st.loading, st.whole = saving{st, st.run, x}, loading{st, st.run, x}, wholeCall{st, st.run, x}
}

// forget drops what the last step leads to, and keeps the lists.
func (st *stepRun) forget() {
	st.step, st.rs, st.growth, st.reload, st.loadSince, st.saves = nil, nil, nil, nil, 0, 0
	st.verdicts.reset()
}

// enter takes rows through a step.
func (st *stepRun) enter(s *step, rs *rows.Set) {
	x, r := st.x, st.run
	st.step, st.rs = s, rs
	if o := x.stopped(); o != nil {
		st.halt(*o)
		return
	}
	st.verdicts.reset()
	if rs = st.mayEnter(rs); rs.Len() == 0 && !rs.Forced {
		return
	}
	entered := entering(rs)
	f := &x.frame
	f.Call.Flow, f.Call.Function, f.Call.Revision, f.Call.Attempt = r.plan.flow, s.Name, r.plan.revision, 1
	f.Params = s.params
	f.Bundle, f.Registry, f.Place = r.plan.bundle, r.plan.registry, s.Index
	x.traceFunction(s, entered)
	if rs = st.prepare(s, rs); !r.halted && (rs.Len() > 0 || rs.Forced) {
		switch {
		case s.form.Whole():
			st.whole.enter(s, rs)
		case rs.Len() == 0:
		case s.form == kis.FormSave:
			st.saving.save(s, rs)
		case s.form == kis.FormLoad:
			st.loading.load(s, rs)
		case s.form == kis.FormExpand:
			st.expand(s, rs)
		case s.form == kis.FormCalculate:
			st.calculate(s, rs)
		default:
			st.verify(s, rs)
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

// verify takes rows through a Verify: rows that it does not drop go on as they came.
func (st *stepRun) verify(s *step, rs *rows.Set) {
	if st.callEach(rs, s.code.Call, false) {
		st.send(rs, st.x.mem.Keep(rs, st.gone))
	}
}

// calculate takes rows through a Calculate, which makes one row of each.
func (st *stepRun) calculate(s *step, rs *rows.Set) {
	out := st.x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(rs.Len())
	st.x.frame.Out = out
	over := !st.callEach(rs, s.code.Call, false)
	switch written := st.endGrowth(over); {
	case over:
	case written:
		st.send(rs, nil)
	default:
		st.run.turns.noteMade(s, out)
		st.refuseNil(s, rs, out)
		st.send(rs, st.x.mem.Next(rs, out, st.gone, s.Index+1))
	}
}

// expand takes rows through an Expand, which makes any number of rows of each.
func (st *stepRun) expand(s *step, rs *rows.Set) {
	f := &st.x.frame
	f.Out, f.Parents = st.x.mem.Lend(s.outKind, s.code.NewOut), f.Parents[:0]
	f.Out.Reset(0)
	over := !st.callEach(rs, s.code.Call, false)
	st.x.lane.noteWide(rs.Len(), f.Out.Len())
	switch written := st.endGrowth(over); {
	case over:
	case written:
		st.send(rs, nil)
	default:
		st.run.turns.noteMade(s, f.Out)
		st.send(rs, st.made(s, rs, f.Out, f.Parents))
	}
}

// made is the rows that a function has made of rs, where each names its parent in rs. Rows of rs that nothing was made of end.
func (st *stepRun) made(s *step, rs *rows.Set, out kis.Vector, parents []uint32) *rows.Set {
	if !isIdentity(parents, rs.Len()) && s.Index+1 < len(st.run.plan.steps) {
		has := st.x.mem.Numbers(rs.Len())
		for _, p := range parents {
			has[p] = 1
		}
		for _, g := range st.gone {
			has[g] = 1
		}
		for i, n := range has {
			if n == 0 {
				st.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeNotCommitted,
					Reason: "the function passed nothing on for it"})
			}
		}
	}
	made := st.x.mem.Made(rs, out, parents, s.Index+1)
	return st.x.mem.Keep(made, st.nils(s, made))
}

// isIdentity reports whether n rows were made, row i of row i.
func isIdentity(parents []uint32, n int) bool {
	if len(parents) != n {
		return false
	}
	for i, p := range parents {
		if p != uint32(i) {
			return false
		}
	}
	return true
}

// refuseNil ends the rows of rs for which the function passed on a nil pointer.
func (st *stepRun) refuseNil(s *step, rs *rows.Set, out kis.Vector) {
	if !s.outPointer {
		return
	}
	gone := len(st.gone)
	for i, p := range unsafe.Slice((*unsafe.Pointer)(out.Pointer()), out.Len()) {
		if _, found := slices.BinarySearch(st.gone[:gone], uint32(i)); p == nil && !found {
			st.end(rs, uint32(i), nilPassed(s))
			st.gone = append(st.gone, uint32(i))
		}
	}
	slices.Sort(st.gone)
}

// nils ends the rows that were made as nil pointers, and returns their places.
func (st *stepRun) nils(s *step, made *rows.Set) []uint32 {
	if !s.outPointer {
		return nil
	}
	var gone []uint32
	for i, p := range unsafe.Slice((*unsafe.Pointer)(made.Vec.Pointer()), made.Len()) {
		if p == nil {
			st.end(made, uint32(i), nilPassed(s))
			gone = append(gone, uint32(i))
		}
	}
	return gone
}

// nilPassed is the outcome of a row for which a function passed on a nil pointer.
func nilPassed(s *step) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1,
		Reason: fmt.Sprintf("the function passed on a nil %v and no error: return kis.Drop to leave a row out", s.out)}
}

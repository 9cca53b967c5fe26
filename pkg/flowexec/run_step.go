package flowexec

import (
	"time"

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
	growth  *growth // how much the function has made so far; nil means that it is not counted

	// reload decodes the stored value that a Load has loaded for row i once more; nil means that there is nothing to decode.
	reload func(i int)
	// loadSince is when a Load in KisFlow's shape began to wait, by the clock of the lanes; saves is how many Saves its connector had seen when it was
	// last called.
	loadSince time.Duration
	saves     uint64
}

// init sets the fields of an executor's stepRun that stay the same for the executor's life.
func (st *stepRun) init(x *executor) {
	st.x, st.run = x, &x.own
	st.asking = asking{st, st.run, x}
	st.saving, st.loading, st.whole = saving{st, st.run, x}, loading{st, st.run, x}, wholeCall{st, st.run, x}
}

// forget clears the pointers to the last step and its rows, so that their memory can be freed, and keeps the lists of verdicts.
func (st *stepRun) forget() {
	st.step, st.rs, st.growth, st.reload, st.loadSince, st.saves = nil, nil, nil, nil, 0, 0
	st.verdicts.reset()
}

// enter takes the rows of rs through step s. If the run was cancelled, it ends the run instead.
func (st *stepRun) enter(s *step, rs *rows.Set) {
	x, r := st.x, st.run
	st.step, st.rs = s, rs
	st.verdicts.reset() // before halt, which would take the verdicts of the step before for those of these rows
	if o := x.stopped(); o != nil {
		st.halt(*o)
		return
	}
	if rs = st.mayEnter(rs); rs.Len() == 0 && !rs.Forced {
		return
	}
	entered := entering(rs)
	if r.tapping != nil {
		r.tapping.enter(s, rs)
	}
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
	if r.tapping != nil {
		r.tapping.leave()
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
		st.send(rs, st.run.bound.made(st, s, rs, st.x.mem.Next(rs, out, st.gone, s.Index+1)))
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

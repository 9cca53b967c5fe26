package oracle

import (
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// ending is a way in which a row may end.
type ending struct {
	outcome  batch.Outcome
	code     batch.Code // 0 for done
	function string     // the function in which it ends; empty means any
}

// prediction is the set of endings that a row's form and actions allow, when nothing goes wrong in the cluster.
type prediction []ending

// allows reports whether an outcome is one of the predicted endings.
func (p prediction) allows(o batch.RowOutcome) bool {
	return slices.ContainsFunc(p, func(e ending) bool {
		return e.outcome == o.Outcome && (e.outcome == batch.Done || e.code == o.Code && (e.function == "" || e.function == o.Function))
	})
}

// settings are those of a flow's documents that decide how rows end. A set of values stands where documents changed.
type settings struct {
	retries         []int
	functionTimeout time.Duration
	// longestTimeout is more than functionTimeout where flows share functions: the documents of another flow may say another timeout.
	longestTimeout time.Duration
	flowTimeout    time.Duration
	wait           time.Duration
	// otherRows says that some worker's build has another row type in Calculate functions. Behind a Verify, which passes rows on as they
	// are, nobody can know before a row comes that its rows do not fit.
	otherRows bool
}

// settingsOf returns the settings that a flow's documents had at any time of the life.
func (l *Life) settingsOf(f *flow) settings {
	s := settings{retries: []int{f.Retries}, functionTimeout: forms.FunctionTimeout(f.Flow), flowTimeout: f.Timeout, wait: f.Wait}
	s.longestTimeout = s.functionTimeout
	for _, c := range l.Changes {
		if c.Kind == "retries" && (c.Flow == f.Name || l.shares(f.Name, c.Flow)) {
			s.retries = append(s.retries, c.N)
		}
	}
	s.otherRows = slices.ContainsFunc(l.Lives, func(life *history.Life) bool {
		return strings.Contains(life.Build+","+life.Settings.Build, "row2")
	})
	if f.form.Shared { // the flow that was written last decides about the functions that it shares
		for _, other := range l.flows {
			if other.form.Shared {
				s.retries = append(s.retries, other.Retries)
				s.functionTimeout = min(s.functionTimeout, forms.FunctionTimeout(other.Flow))
				s.longestTimeout = max(s.longestTimeout, forms.FunctionTimeout(other.Flow))
			}
		}
	}
	if s.flowTimeout == 0 {
		s.flowTimeout = definition.DefaultFlowTimeout
	}
	if s.wait == 0 {
		s.wait = definition.DefaultWait
	}
	return s
}

// outputs returns how many rows come of a row that is done.
func (f *flow) outputs(row history.Row) int {
	for _, a := range forms.ParseActions(row.Do) {
		if a.Kind == "grow" && f.form.Step(a.Stage) != nil && f.form.Step(a.Stage).Mode == definition.ModeExpand {
			return a.N
		}
	}
	return 1
}

// predict returns how a row of a batch may end, by what the row and the rows of its run ask for. neighbours are the rows that may be in one
// call of a Batch or FaaS function with it: all rows of the batch in a flow without a shard key, and those of its key in another.
func (f *flow) predict(row history.Row, neighbours []history.Row, s settings) prediction {
	switch {
	case row.Bad:
		return prediction{{batch.Dead, batch.CodeRowUndecodable, ""}, {batch.Dead, batch.CodeMissingShardKey, ""}}
	case row.NoKey && f.form.Sharded:
		return prediction{{batch.Dead, batch.CodeMissingShardKey, ""}}
	}
	var p prediction
	for i, step := range f.form.Steps {
		own, passes := f.step(i, row, s)
		if step.Whole {
			own, passes = f.whole(i, neighbours, s)
		} else if !f.form.Sharded {
			own = append(own, f.aborted(i, neighbours)...)
		}
		p = append(p, own...)
		if !passes {
			return p
		}
	}
	return append(p, ending{outcome: batch.Done})
}

// step returns how a row may end in one step, and whether it may pass on.
func (f *flow) step(i int, row history.Row, s settings) (p prediction, passes bool) {
	step := f.form.Steps[i]
	name := f.form.Function(f.Name, step.Stage)
	if step.Mode == definition.ModeLoad && !step.Own {
		switch step.OnMissing {
		case definition.OnMissingWait:
			p = append(p, ending{batch.Dead, batch.CodeLoadTimeout, name})
		case definition.OnMissingDead:
			p = append(p, ending{batch.Dead, batch.CodeLoadMissing, name})
		}
	}
	if step.Declared {
		a, ok := forms.ActionFor(row.Do, step.Stage)
		if ok && step.Expressions != "" && step.Computes(a) {
			return act(a, name, f.form.Sharded, s)
		}
		return p, true
	}
	if step.Mode == definition.ModeCalculate && s.otherRows {
		p = append(p, ending{batch.Dead, batch.CodeRowUndecodable, name}, ending{batch.Dead, batch.CodeConversionFailed, name})
	}
	a, ok := forms.ActionFor(row.Do, step.Stage)
	if !ok {
		return p, true
	}
	own, passes := act(a, name, f.form.Sharded, s)
	return append(p, own...), passes
}

// act returns how a row may end by one action in a function, and whether it may pass on.
func act(a forms.Action, function string, sharded bool, s settings) (p prediction, passes bool) {
	dead := func(c batch.Code) prediction { return prediction{{batch.Dead, c, function}} }
	timeout := dead(batch.CodeFunctionTimeout)
	switch a.Kind {
	case "panic":
		return dead(batch.CodeFunctionPanic), false
	case "odd":
		return dead(batch.CodeFunctionError), false
	case "misfit":
		return dead(batch.CodeSaveFailed), false
	case "error", "mutate":
		need := a.N
		if a.Kind == "mutate" {
			need = 1
		}
		if a.Always {
			return dead(batch.CodeFunctionError), false
		}
		if slices.Min(s.retries) < need {
			p = dead(batch.CodeFunctionError)
		}
		return p, slices.Max(s.retries) >= need
	case "slow", "sleep":
		// A call that ends at about the time of its timeout may end either way.
		if a.Lasts > s.functionTimeout*9/10 {
			p = timeout
		}
		if a.Kind == "slow" && len(p) > 0 { // the function returns the context's error at the same moment
			p = append(p, dead(batch.CodeFunctionError)...)
		}
		// A function that returns within a second after its timeout is not left behind yet.
		return p, a.Lasts < s.longestTimeout*11/10+time.Second && (a.Kind == "sleep" || a.Lasts < s.longestTimeout*11/10)
	case "hang":
		return append(timeout, dead(batch.CodeFunctionError)...), false
	case "block":
		return timeout, true // passes when the world opens its gate in time
	case "drop":
		return prediction{{batch.Filtered, batch.CodeDropped, function}}, false
	case "abort":
		if sharded {
			return dead(batch.CodeNeedsWholeBatch), false
		}
		return prediction{{batch.Aborted, batch.CodeAborted, function}}, false
	case "poison":
		return prediction{{batch.Dead, batch.CodePoison, ""}}, false
	}
	return nil, true // jump, grow and wide change what is passed on
}

// aborted returns how a row may end because another row of its batch aborts the run in a step.
func (f *flow) aborted(i int, neighbours []history.Row) prediction {
	stage := f.form.Steps[i].Stage
	for _, n := range neighbours {
		if a, ok := forms.ActionFor(n.Do, stage); ok && a.Kind == "abort" {
			return prediction{{batch.Aborted, batch.CodeAborted, f.form.Function(f.Name, stage)}}
		}
	}
	return nil
}

// whole returns how a row may end in a function that sees a whole run, and whether it may pass on. The run is the whole batch in a flow
// without a shard key; in another one it may be any rows of the batch. The function carries out the action of the first row that asks for
// one, so each neighbour's action may be the one. Rows that ask for nothing may pass on, in a flow with a shard key: their run may be another
// one. Those that ask for an error or a drop may, when an earlier row's action lets the run pass.
func (f *flow) whole(i int, neighbours []history.Row, s settings) (p prediction, passes bool) {
	step := f.form.Steps[i]
	name := f.form.Function(f.Name, step.Stage)
	asked, let := false, false
	for _, n := range neighbours {
		a, ok := forms.ActionFor(n.Do, step.Stage)
		if !ok {
			continue
		}
		own, on := act(a, name, f.form.Sharded, s)
		if a.Kind == "lose" {
			own, on = prediction{{batch.Dead, batch.CodeLineageLost, name}}, true
		}
		p = append(p, own...)
		asked, let = true, let || on
	}
	return p, !asked || let || f.form.Sharded
}

// neighbours returns the rows of a batch that may decide how the row at a place ends: all rows of the batch, where a function sees a whole
// run. In a flow with a shard key, errors and timeouts of rows of other keys are left out, since the function is called again for each key
// alone then; drops, aborts and lost lineages concern all rows of the call.
func (f *flow) neighbours(b *history.Batch, at int) []history.Row {
	if !f.form.Whole {
		return nil
	}
	if !f.form.Sharded {
		return b.Rows
	}
	var some []history.Row
	for _, r := range b.Rows {
		if r.Do != "" && (r.Key == b.Rows[at].Key || concernsCall(r)) {
			some = append(some, r)
		}
	}
	return some
}

// concernsCall reports whether a row asks for an action that concerns all rows of a call.
func concernsCall(r history.Row) bool {
	return slices.ContainsFunc(forms.ParseActions(r.Do), func(a forms.Action) bool {
		return a.Kind == "drop" || a.Kind == "abort" || a.Kind == "lose"
	})
}

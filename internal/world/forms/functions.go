package forms

import (
	"context"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// otherRow is the row type of functions in the build "row2": its number is a text, which no other function passes on.
type otherRow struct {
	Key string `json:"key"`
	N   string `json:"n"`
}

// value is what a Load reads.
type value struct {
	N int `json:"n"`
}

// Register registers the functions of all flows, as a build has them: build is a list of words of scenario.Builds, separated by commas.
func Register(r *kis.Registry, flows []scenario.Flow, build string, env Env) {
	words := strings.FieldsFunc(build, func(c rune) bool { return c == ',' })
	known := map[string]bool{}
	for _, flow := range flows {
		form := Of(flow.Form)
		for _, s := range form.Steps {
			name := form.Function(flow.Name, s.Stage)
			if s.Declared || known[name] || slices.Contains(words, "-"+s.Stage) {
				continue
			}
			known[name] = true
			f := &function{name: name, stage: s.Stage, flow: flow, form: form, step: s, env: env}
			f.register(r, slices.Contains(words, "row2"))
		}
	}
	for _, other := range []string{"other_verify", "other_calculate"} { // for the flows of the change "many", and for "more"
		f := &function{name: other, stage: "verify", form: Of("plain"), step: verify, env: env}
		r.Func(other, kis.Verify(f.verify))
	}
	if slices.Contains(words, "more") {
		f := &function{name: "more_verify", stage: "verify", form: Of("plain"), step: verify, env: env}
		r.Func(f.name, kis.Verify(f.verify))
	}
}

// function is a registered function.
type function struct {
	name, stage string
	flow        scenario.Flow // of a function that flows share, one of them
	form        *Form
	step        Step
	env         Env
}

// register registers the function. changed says that its row type is another one, in a Calculate.
func (f *function) register(r *kis.Registry, changed bool) {
	switch s := f.step; {
	case s.FaaS:
		r.FaaS(f.name, f.faas)
	case s.Whole:
		r.Func(f.name, kis.Batch(f.batch))
	case s.Mode == definition.ModeVerify:
		r.Func(f.name, kis.Verify(f.verify))
	case s.Mode == definition.ModeCalculate && changed:
		r.Func(f.name, kis.Calculate(func(_ context.Context, row otherRow) (otherRow, error) { return row, nil }))
	case s.Mode == definition.ModeCalculate:
		r.Func(f.name, kis.Calculate(f.calculate))
	case s.Mode == definition.ModeExpand:
		r.Func(f.name, kis.Expand(f.expand))
	case s.Mode == definition.ModeSave:
		r.Func(f.name, kis.Save(f.save))
	case s.Mode == definition.ModeLoad:
		r.Func(f.name, kis.Load(f.loadKey, f.load))
	}
}

// verify is the code of a Verify.
func (f *function) verify(ctx context.Context, r *Row) error {
	_, err := f.enter(ctx, r)
	return err
}

// calculate is the code of a Calculate.
func (f *function) calculate(ctx context.Context, r Row) (Row, error) {
	a, err := f.enter(ctx, &r)
	if a.Kind == "wide" {
		r.Pad = pad(a.N)
	}
	return r, err
}

// expand is the code of an Expand: it passes the row on, as often as the row says.
func (f *function) expand(ctx context.Context, r Row, emit func(Row)) error {
	a, err := f.enter(ctx, &r)
	if err != nil {
		return err
	}
	many := 1
	if a.Kind == "grow" {
		many = a.N
	}
	for part := range many {
		r.Part = part
		emit(r)
	}
	return nil
}

// save is the code of a Save.
func (f *function) save(ctx context.Context, to kis.Writer, r *Row) error {
	a, err := f.enter(ctx, r)
	if err != nil {
		return err
	}
	call := kis.From(ctx)
	if f.step.Connector == Memory {
		connection, err := call.Connection()
		if err != nil {
			return err
		}
		f.env.Saves(connection)
	}
	to.Append(ListKey(call.Flow, r.Key), history.Entry{ID: call.RowID(), Function: f.name, Mark: call.Param("mark")}.String())
	sum := SumKey(call.Flow, r.Key)
	to.Incr(sum, "n", r.N)
	to.Incr(sum, "count", 1)
	if a.Kind == "misfit" {
		to.Incr(ListKey(call.Flow, r.Key), "n", 1)
	}
	if f.step.Last {
		to.Set(LastKey(call.Flow, r.Key), "n", r.N)
	}
	return nil
}

// loadKey returns the key that a Load needs for a row.
func (f *function) loadKey(r Row) string {
	if f.step.Own {
		return LastKey(f.flow.Name, r.Key)
	}
	return LastKey(f.flow.For, r.Key)
}

// load is the code of a Load: it notes the number that it found.
func (f *function) load(ctx context.Context, r Row, found *value) (Row, error) {
	_, err := f.enter(ctx, &r)
	r.Found = nil
	if found != nil {
		r.Found = &found.N
	}
	return r, err
}

// batch is the code of a Batch function. It passes its rows on; a row that asks to lose lineage makes it pass on one row more, all of them
// new.
func (f *function) batch(ctx context.Context, rows []*Row) ([]*Row, error) {
	lose, err := f.enterAll(ctx, rows)
	if err != nil || !lose {
		return rows, err
	}
	out := make([]*Row, 0, len(rows)+1)
	for _, r := range append(rows, rows[0]) {
		other := *r
		out = append(out, &other)
	}
	return out, nil
}

// faas is the code of a function in KisFlow's shape: it commits all of its rows.
func (f *function) faas(ctx context.Context, flow kis.Flow, rows []*Row) error {
	if _, err := f.enterAll(ctx, rows); err != nil {
		return err
	}
	for _, r := range rows {
		if err := flow.CommitRow(r); err != nil {
			return err
		}
	}
	return nil
}

// enterAll enters the function for all rows of a run, and carries out the action of the first one that asks for one. lose says that this
// action is to lose the lineage.
func (f *function) enterAll(ctx context.Context, rows []*Row) (lose bool, err error) {
	first := -1
	for i, r := range rows {
		if err := f.record(ctx, r, i); err != nil {
			return false, err
		}
		if a, ok := ActionFor(r.Do, f.stage); ok {
			lose = lose || a.Kind == "lose"
			if first < 0 {
				first = i
			}
		}
	}
	if first < 0 {
		return lose, nil
	}
	a, _ := ActionFor(rows[first].Do, f.stage)
	return lose, f.act(ctx, rows[first], a)
}

package forms_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// env is a process for functions that run in a Local.
type env struct {
	mu   sync.Mutex
	runs []history.Run // guarded by mu
	gate chan struct{}
}

func (e *env) Enter(r history.Run) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs = append(e.runs, r)
	return nil
}

// noted returns the calls so far.
func (e *env) noted() []history.Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.runs)
}

func (e *env) Gate() <-chan struct{} { return e.gate }
func (e *env) Poison()               {}

func (e *env) Saves(kis.Connection) {}

// started starts the flows in this process.
func started(t *testing.T, flows []scenario.Flow) (*flowexec.Local, *env) {
	t.Helper()
	e := &env{gate: make(chan struct{})}
	docs := forms.Connectors{Addresses: "redis-1:6379"}.Documents()
	for _, f := range flows {
		for _, d := range forms.Documents(f, forms.First(f, "m1")) {
			if !slices.ContainsFunc(docs, func(o definition.Document) bool { return o.Name == d.Name }) {
				docs = append(docs, d)
			}
		}
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	local, err := flowexec.NewLocalSet(set, func(r *kis.Registry) { forms.Register(r, flows, "", e) })
	if err != nil {
		t.Fatal(err)
	}
	return local, e
}

// An ordinary row is done in a flow of each form, and each function with code notes its call.
func TestForms(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		flows := []scenario.Flow{{Name: "Set", Form: "set"}}
		for _, f := range scenario.Forms {
			if f.Name != "set" {
				flows = append(flows, scenario.Flow{Name: "F" + f.Name, Form: f.Name, For: "Set", Retries: 2})
			}
		}
		local, e := started(t, flows)
		defer local.Close()
		for _, f := range flows {
			form := forms.Of(f.Form)
			e.runs = nil
			result, err := local.Submit(t.Context(), f.Name, batch.Rows(forms.Row{Key: "k1", N: 7}))
			if err != nil || len(result.NotDone) > 0 || result.Output.Rows.Len() != 1 {
				t.Errorf("%s: %v, %+v", f.Form, err, result)
			}
			coded := 0
			for _, s := range form.Steps {
				if !s.Declared {
					coded++
				}
			}
			if len(e.runs) != coded {
				t.Errorf("%s: %d calls were noted, want %d", f.Form, len(e.runs), coded)
			}
			for _, r := range e.runs {
				if r.Mark != "m1" || r.N != 7 || r.Key != "k1" || r.ID.Batch.Sequence == 0 {
					t.Errorf("%s: the call is noted as %+v", f.Form, r)
				}
			}
		}
	})
}

// Each action has the outcome that a model expects.
func TestActions(t *testing.T) {
	flows := []scenario.Flow{
		{Name: "Chain", Form: "chain", Retries: 1}, {Name: "Whole", Form: "whole"}, {Name: "Expand", Form: "expand"}, {Name: "Jump", Form: "jump"},
		{Name: "Lost", Form: "lost"}, {Name: "Expressions", Form: "expressions", Retries: 1},
	}
	for _, c := range []struct {
		flow, do string
		outcome  batch.Outcome
		code     batch.Code
		calls    int
	}{
		{"Chain", "calculate=slow:50ms", batch.Done, 0, 3},
		{"Chain", "calculate=sleep:50ms", batch.Done, 0, 3},
		{"Chain", "verify=drop", batch.Filtered, batch.CodeDropped, 1},
		{"Chain", "verify=abort", batch.Dead, batch.CodeNeedsWholeBatch, 1},
		{"Chain", "save=error", batch.Dead, batch.CodeFunctionError, 4},
		{"Chain", "save=error:1", batch.Done, 0, 4},
		{"Chain", "save=misfit", batch.Dead, batch.CodeSaveFailed, 3},
		{"Chain", "save=mutate", batch.Done, 0, 4},
		{"Chain", "calculate=mutate", batch.Done, 0, 4},
		{"Chain", "verify=panic", batch.Dead, batch.CodeFunctionPanic, 2},
		{"Chain", "verify=odd", batch.Dead, batch.CodeFunctionError, 2},
		{"Chain", "verify=hang", batch.Dead, batch.CodeFunctionTimeout, 0},
		{"Chain", "verify=block", batch.Dead, batch.CodeFunctionTimeout, 0},
		{"Whole", "batch=drop", batch.Filtered, batch.CodeDropped, 1},
		{"Whole", "batch=abort", batch.Aborted, batch.CodeAborted, 1},
		{"Expand", "expand=grow:20", batch.Done, 0, 22},
		{"Jump", "calculate=jump", batch.Done, 0, 5},
		{"Lost", "batch=lose", batch.Done, 0, 3},
		{"Expressions", "sift=drop", batch.Filtered, batch.CodeDropped, 1},
		{"Expressions", "sift=error", batch.Dead, batch.CodeFunctionError, 1},
		{"Expressions", "compute=error", batch.Dead, batch.CodeFunctionError, 1},
		{"Expressions", "compute=drop", batch.Done, 0, 2},
		{"Expressions", "expand=grow:20", batch.Done, 0, 21},
		{"Expressions", "save=error:1", batch.Done, 0, 3},
	} {
		bubble.Test(t, func(t *testing.T) {
			local, e := started(t, flows)
			defer local.Close()
			defer close(e.gate)
			row := forms.Row{Key: "k1", N: 7, Tags: []int{7}, Do: c.do}
			result, err := local.Submit(t.Context(), c.flow, batch.Rows(row))
			if err != nil {
				t.Fatal(err)
			}
			runs := e.noted()
			outcome, code := batch.Done, batch.Code(0)
			if len(result.NotDone) > 0 {
				outcome, code = result.NotDone[0].Outcome, result.NotDone[0].Code
			}
			if outcome != c.outcome || code != c.code || c.calls > 0 && len(runs) != c.calls {
				t.Errorf("%s %s: %s %s after %d calls, want %s %s after %d: %+v", c.flow, c.do, outcome, code, len(runs), c.outcome, c.code, c.calls, result.NotDone)
			}
			for _, r := range runs {
				if r.N != 7 {
					t.Errorf("%s %s: a call saw the number %d", c.flow, c.do, r.N)
				}
			}
		})
	}
}

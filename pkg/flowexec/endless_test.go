package flowexec_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// ring is a row that may hold itself.
type ring struct {
	K    string           `json:"k"`
	N    int              `json:"n"`
	Next *ring            `json:"next,omitempty"`
	List []any            `json:"list,omitempty"`
	Map  map[string]any   `json:"map,omitempty"`
	Many []ring           `json:"many,omitempty"`
	Any  any              `json:"any,omitempty"`
	By   map[string]*ring `json:"by,omitempty"`
}

var rings = map[string]func(r *ring){
	"pointer":       func(r *ring) { r.Next = r },
	"list":          func(r *ring) { r.List = make([]any, 1); r.List[0] = r.List },
	"part of lists": func(r *ring) { r.List = make([]any, 2); r.List[0] = r.List[:1] },
	"map":           func(r *ring) { r.Map = map[string]any{}; r.Map["x"] = r.Map },
	"structs":       func(r *ring) { r.Many = make([]ring, 1); r.Many[0].Many = r.Many },
	"interface":     func(r *ring) { r.Any = r },
	"to itself":     func(r *ring) { r.Any = &r.Any },
	"map of rows":   func(r *ring) { r.By = map[string]*ring{"a": r} },
}

// A row that holds itself can't be written, and costs itself alone, wherever it is copied, weighed or written: what goes round in
// it for ever would end the process.
func TestRowsThatHoldThemselves(t *testing.T) {
	for name, shut := range rings {
		for _, flowLines := range []string{"shard_key: k\n", ""} {
			for _, functions := range [][]string{
				{"make Calculate"}, {"make Calculate", "fail Verify; retry_times: 2"}, {"make Calculate", "look Verify"},
				{"make Calculate", "s Save; save: {key: '{k}', set: {n: n}}"}, {"make Calculate", "whole Calculate; retry_times: 1"},
				{"expand Expand", "fail Verify; retry_times: 1"}, {"faas Calculate", "fail Verify; retry_times: 1"},
			} {
				t.Run(name+" "+functions[len(functions)-1]+flowLines, func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						link := func(i in) *ring {
							r := &ring{K: i.K, N: i.N}
							if i.N == 1 {
								shut(r)
							}
							return r
						}
						registry := kis.NewRegistry()
						registry.Func("make", kis.Calculate(func(_ context.Context, i in) (*ring, error) { return link(i), nil }))
						registry.Func("expand", kis.Expand(func(_ context.Context, i in, emit func(*ring)) error { emit(link(i)); return nil }))
						registry.FaaS("faas", func(_ context.Context, flow kis.Flow, rows []in) error {
							var errs []error
							for _, i := range rows {
								errs = append(errs, flow.CommitRow(link(i)))
							}
							return errors.Join(errs...)
						})
						registry.FaaS("whole", func(_ context.Context, flow kis.Flow, rows []any) error { return flow.CommitRowBatch(rows) })
						registry.Func("look", kis.Verify(func(context.Context, in) error { return nil }))
						registry.Func("fail", kis.Verify(func(_ context.Context, r *ring) error {
							if r.N == 1 {
								return errors.New("no")
							}
							return nil
						}))
						plan, err := flowexec.Compile(bundle(t, chain(flowLines, functions...)), registry)
						if err != nil {
							t.Fatal(err)
						}
						b := &bed{t: t, plan: plan, store: newRecorder(t), begin: time.Now()}
						b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}, RunBytes: 10_000})
						defer b.lanes.Stop()
						part := &flowexec.Part{Plan: plan, BatchRows: 40, Attempt: 1, Done: b.done, Output: true, KeepDead: 1000}
						for n := range 40 { // enough for what is made of them to be weighed
							key := string(rune('a' + n%3))
							part.Columns.Append([]byte(row(key, min(n, 2))))
							if flowLines != "" {
								part.Columns.Keys = append(part.Columns.Keys, keyOf(key))
							}
						}
						b.lanes.Enqueue(part)
						time.Sleep(10 * time.Minute)
						synctest.Wait()
						dead := 0
						for _, run := range b.runs {
							for _, o := range run.NotDone {
								if dead++; o.Row != 1 {
									t.Errorf("%+v", o)
								}
							}
						}
						if dead != 1 {
							t.Errorf("%d rows did not end well, not the one that holds itself", dead)
						}
					})
				})
			}
		}
	}
}

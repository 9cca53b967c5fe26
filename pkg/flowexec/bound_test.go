package flowexec_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// many is a row of which functions make N rows. A row whose N is over 100 never stops to come back.
type many struct {
	ID   int    `json:"id"`
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

// manyFunctions are the Go functions of TestRowsWithoutEnd.
func manyFunctions(r *kis.Registry) {
	r.Func("Twice", kis.Expand(func(_ context.Context, m many, emit func(many)) error {
		emit(m)
		emit(m)
		return nil
	}))
	r.Func("Both", kis.Batch(func(ctx context.Context, rows []many) (out []many, err error) {
		var origins []int
		for i, m := range rows {
			out, origins = append(out, m, m), append(origins, i, i)
		}
		kis.From(ctx).Origins(origins...)
		return out, nil
	}))
	r.Func("Back", kis.Verify(func(ctx context.Context, m many) error {
		if m.N > 100 {
			return kis.Jump("First")
		}
		return nil
	}))
	r.Func("First", kis.Verify(func(context.Context, many) error { return nil }))
	r.Func("Text", kis.Calculate(func(_ context.Context, m many) (many, error) {
		m.Text = strings.Repeat("x", 100*m.N)
		return m, nil
	}))
}

// A row of which functions make more rows than the bound allows is dead, and the other rows of its batch are done, as without it.
func TestRowsWithoutEnd(t *testing.T) {
	modes := map[string]string{"First": "Verify", "Back": "Verify", "Twice": "Expand", "Both": "Expand", "Text": "Calculate"}
	for _, functions := range []string{"Range1 Range2 Range3", "Range1 Range2 Text", "Range1 Text First", "Range1 Range2 First", "First Twice Back", "First Range1 Twice Back", "First Both Back"} {
		for _, sharded := range []bool{false, true} {
			text := "kistype: flow\nflow_name: F\nstatus: 1\nflows:\n"
			for name := range strings.FieldsSeq(functions) {
				text += "  - fname: " + name + "\n"
			}
			if sharded {
				text += "shard_key: id\n"
			}
			for name := range strings.FieldsSeq(functions) {
				if mode := modes[name]; mode != "" {
					text += "---\nkistype: func\nfname: " + name + "\nfmode: " + mode + "\n"
				} else {
					text += "---\nkistype: func\nfname: " + name + "\nfmode: Expand\nsource: {name: s, fields: {id: int, n: int}}\noption: {expand: {each: 'range(0, n)', set: {id: id, n: n}}}\n"
				}
			}
			registry := kis.NewRegistry()
			manyFunctions(registry)
			set, err := definition.NewSet(definition.Split("f.yml", []byte(text)))
			if err != nil {
				t.Fatal(err)
			}
			bundle, err := set.Bundle("F")
			if err != nil {
				t.Fatal(err)
			}
			plan, err := flowexec.Compile(bundle, registry)
			if err != nil {
				t.Fatal(err)
			}
			run := func(limit int64, ids ...int) (outputs []string, notDone []batch.RowOutcome) {
				lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, GrowthBytes: limit, RunBytes: limit / 8})
				defer lanes.Stop()
				ended := make(chan flowexec.RunResult, 100)
				p := &flowexec.Part{Plan: plan, BatchRows: len(ids), Output: true, KeepDead: 1 << 20, Attempt: 1, Done: func(r flowexec.RunResult) { ended <- r }}
				for _, id := range ids {
					n := 2
					if id == 5 {
						n = 1000
					}
					p.Columns.Append(fmt.Appendf(nil, `{"id":%d,"n":%d}`, id, n))
					if sharded {
						p.Columns.Keys = append(p.Columns.Keys, uint64(id))
					}
				}
				lanes.Enqueue(p)
				if err := lanes.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				close(ended)
				for r := range ended {
					notDone = append(notDone, r.NotDone...)
					for i := range r.Output.Origins {
						outputs = append(outputs, string(r.Output.Rows.Row(i)))
					}
				}
				slices.Sort(outputs)
				return outputs, notDone
			}
			want, notDone := run(0, 0, 1, 2, 3, 4, 6, 7, 8, 9)
			if len(notDone) > 0 || len(want) == 0 {
				t.Fatalf("%s: %d rows come out, not done: %+v", functions, len(want), notDone)
			}
			got, notDone := run(4<<20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
			if len(notDone) != 1 || notDone[0].Row != 5 || notDone[0].Outcome != batch.Dead || notDone[0].Code != batch.CodeRowTooLarge || notDone[0].NotKept != batch.TooLarge ||
				!strings.Contains(notDone[0].Reason, "over 4 MiB of rows of this one row") || !strings.Contains(functions, notDone[0].Function) {
				t.Errorf("%s, sharded %v: not done are %+v", functions, sharded, notDone)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, sharded %v: %d rows come out, want %d", functions, sharded, len(got), len(want))
			}
		}
	}
}

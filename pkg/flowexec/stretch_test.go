package flowexec_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// seen is a row of which a Load says what its key had before.
type seen struct {
	K    string  `json:"k"`
	N    int     `json:"n"`
	Last *string `json:"last"`
}

// lastSeen registers a Load of a key's last number, a Save of it, and what stands between and behind them in the tests.
func lastSeen(r *kis.Registry) {
	r.Func("load", kis.Load(func(s seen) string { return s.K }, func(_ context.Context, s seen, saved *map[string]string) (seen, error) {
		if saved != nil {
			last := (*saved)["n"]
			s.Last = &last
		}
		return s, nil
	}))
	r.Func("save", kis.Save(func(_ context.Context, w kis.Writer, s seen) error {
		w.Set(s.K, "n", s.N)
		return nil
	}))
	r.Func("drop20", kis.Verify(func(_ context.Context, s seen) error {
		if s.N == 20 {
			return kis.Drop("twenty")
		}
		return nil
	}))
	r.Func("twice", kis.Expand(func(_ context.Context, s seen, emit func(seen)) error {
		emit(s)
		emit(seen{K: s.K, N: s.N + 100})
		return nil
	}))
	r.Func("back", kis.Verify(func(_ context.Context, s seen) error {
		if s.Last == nil || *s.Last != fmt.Sprint(s.N) {
			return kis.Jump("load")
		}
		return nil
	}))
}

// Rows of one key find what the row before has saved, and nothing of those behind, in one batch as in many.
func TestStretch(t *testing.T) {
	const load, save = "l Load; on_missing: 'null'; load: {key: '{k}', set: {last: n}}", "s Save; save: {key: '{k}', set: {n: n}}"
	const incr = "i Save; save: {key: '{k}', incr: {n: n}}"
	for _, test := range []struct {
		name      string
		functions []string
		rows      []string
		want      string
	}{
		{
			name: "Load then Save", functions: []string{load, save}, rows: []string{row("a", 20), row("a", 25), row("a", 27)},
			want: `0 → {"k":"a","last":null,"n":20}
				1 → {"k":"a","last":20,"n":25}
				2 → {"k":"a","last":25,"n":27}`,
		},
		{
			name: "Incr then Load", functions: []string{incr, load}, rows: []string{row("a", 1), row("a", 1), row("a", 1)},
			want: `0 → {"k":"a","last":1,"n":1}
				1 → {"k":"a","last":2,"n":1}
				2 → {"k":"a","last":3,"n":1}`,
		},
		{
			name: "Set then Incr then Load", functions: []string{save, incr, load}, rows: []string{row("a", 1), row("a", 2), row("a", 15), row("b", 4)},
			want: `0 → {"k":"a","last":2,"n":1}
				1 → {"k":"a","last":4,"n":2}
				2 → {"k":"a","last":30,"n":15}
				3 → {"k":"b","last":8,"n":4}`,
		},
		{
			name: "keys go together", functions: []string{load, save}, rows: []string{row("a", 1), row("b", 2), row("a", 3), row("c", 4), row("b", 5), row("a", 6)},
			want: `0 → {"k":"a","last":null,"n":1}
				1 → {"k":"b","last":null,"n":2}
				2 → {"k":"a","last":1,"n":3}
				3 → {"k":"c","last":null,"n":4}
				4 → {"k":"b","last":2,"n":5}
				5 → {"k":"a","last":3,"n":6}`,
		},
		{
			name: "functions", functions: []string{"load Load; on_missing: 'null'", "save Save"}, rows: []string{row("a", 20), row("a", 25), row("a", 27)},
			want: `0 → {"k":"a","n":20,"last":null}
				1 → {"k":"a","n":25,"last":"20"}
				2 → {"k":"a","n":27,"last":"25"}`,
		},
		{
			name: "a row that is dropped in between saves nothing", functions: []string{"load Load; on_missing: 'null'", "drop20 Verify", "save Save"},
			rows: []string{row("a", 19), row("a", 20), row("a", 27)},
			want: `1 filtered DROPPED drop20: twenty
				0 → {"k":"a","n":19,"last":null}
				2 → {"k":"a","n":27,"last":"19"}`,
		},
		{
			name: "an input row goes with all that comes of it", functions: []string{"twice Expand", "load Load; on_missing: 'null'", "save Save"},
			rows: []string{row("a", 20), row("a", 25)},
			want: `0 → {"k":"a","n":20,"last":null}
				0 → {"k":"a","n":120,"last":null}
				1 → {"k":"a","n":25,"last":"120"}
				1 → {"k":"a","n":125,"last":"120"}`,
		},
		{
			name: "a row comes back from behind the last of these steps", functions: []string{"load Load; on_missing: 'null'", "save Save", "back Verify"},
			rows: []string{row("a", 20), row("a", 25), row("a", 27)},
			want: `0 → {"k":"a","n":20,"last":"20"}
				1 → {"k":"a","n":25,"last":"25"}
				2 → {"k":"a","n":27,"last":"27"}`,
		},
		{
			name: "a Save behind them goes on with all rows", functions: []string{load, save, "z Save; cname: other; save: {key: '{k}', append: {n: n}}"},
			rows: []string{row("a", 20), row("a", 25), row("a", 27)},
			want: `0 → {"k":"a","last":null,"n":20}
				1 → {"k":"a","last":20,"n":25}
				2 → {"k":"a","last":25,"n":27}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			docs := append(chain("shard_key: k\n", test.functions...),
				definition.Document{YAML: []byte("kistype: conn\ncname: other\ntype: redis\naddrs: localhost:1\n")})
			for i := range docs { // a function names another connector than the usual one
				docs[i].YAML = bytes.Replace(docs[i].YAML, []byte("  cname: store\n  cname"), []byte("  cname"), 1)
			}
			expect(t, submit(t, local(t, docs, lastSeen), test.rows...), test.want)
			expect(t, submitEach(t, local(t, docs, lastSeen), test.rows), test.want)
		})
	}
}

// submitEach is submit for rows that are a batch each.
func submitEach(t testing.TB, l *flowexec.Local, rows []string) string {
	t.Helper()
	all := &batch.Result{}
	for i, row := range rows {
		r, err := l.Submit(context.Background(), "F", batch.Rows(row))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.NotDone {
			o.Row = uint32(i)
			all.NotDone = append(all.NotDone, o)
		}
		for j := range r.Output.Origins {
			all.Output.Rows.Append(r.Output.Rows.Row(j))
			all.Output.Origins = append(all.Output.Origins, uint32(i))
		}
	}
	return tell(all)
}

// hotKey is a part of n rows of one key, with their places in a batch of all from first on.
func (c *collector) hotKey(plan *flowexec.Plan, first, all int) *flowexec.Part {
	p := &flowexec.Part{Plan: plan, Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, BatchRows: all, Output: true, Attempt: 1, Done: c.done}
	for i := first; i < all; i++ {
		p.Columns.Append([]byte(row("a", i)))
		p.Columns.Keys = append(p.Columns.Keys, keyOf("a"))
		p.Rows = append(p.Rows, uint32(i))
	}
	return p
}

// A slot that is recalled while a hot key is under way goes at once: the rows that have not begun come back, and the next owner goes on
// with the first of them. No row is left out, runs twice, or overtakes another.
func TestRecallBetweenRounds(t *testing.T) {
	const rows, stops = 1 << 16, 1000
	docs := chain("shard_key: k\n", "l Load; on_missing: 'null'; load: {key: '{k}', set: {last: n}}", "s Save; save: {key: '{k}', set: {n: n}}")
	plan, err := flowexec.Compile(bundle(t, docs), kis.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	store := newRecorder(t)
	start := func() *flowexec.Lanes {
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 2, Connectors: pool{store}})
		t.Cleanup(lanes.Stop)
		return lanes
	}
	old, next := start(), start()
	store.refuse = func(e connector.Effect) error { // which is asked about each effect while the row is under way
		if e.Value == fmt.Sprint(stops-1) {
			old.Release([]batch.Range{{First: 'a', Count: 1}}, nil)
		}
		return nil
	}
	var c, rest collector
	first := c.hotKey(plan, 0, rows)
	old.Enqueue(first)
	if err := old.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	times, returned := c.rows(first)
	if len(times) != rows || len(returned) != rows-stops || returned[0] != stops {
		t.Fatalf("%d rows came back, %d of them not begun, from %d on; not %d, %d and %d", len(times), len(returned), returned[0], rows, rows-stops, stops)
	}
	second := rest.hotKey(plan, stops, rows)
	next.Enqueue(second)
	if err := next.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, runs := range [][]flowexec.RunResult{c.runs, rest.runs} {
		for _, r := range runs {
			for i := range r.Output.Origins {
				last := fmt.Sprint(n - 1)
				if n == 0 {
					last = "null"
				}
				if got, want := string(r.Output.Rows.Row(i)), fmt.Sprintf(`{"k":"a","last":%s,"n":%d}`, last, n); got != want {
					t.Fatalf("row %d came out as %s, not %s", n, got, want)
				}
				n++
			}
		}
	}
	if n != rows {
		t.Errorf("%d rows came out, not %d", n, rows)
	}
}

// A plan says which functions get many rows at once where others take them one after the other.
func TestPlanNotes(t *testing.T) {
	const load, save = "l Load; load: {key: '{k}', set: {last: n}}", "s Save; save: {key: '{k}', set: {n: n}}"
	pass := func(_ context.Context, rows []in) ([]in, error) { return rows, nil }
	for _, test := range []struct {
		name      string
		flow      string
		functions []string
		want      string
	}{
		{"nothing to say", "shard_key: k\n", []string{"b Calculate", load, save, "c Calculate"}, ""},
		{"between", "shard_key: k\n", []string{load, "b Calculate", save}, "flows[1].fname: b stands between steps that use connector store, and gets many"},
		{"by hand", "shard_key: k\n", []string{load, "f Save"}, "flows[1].fname: f uses connector store, as other steps do, and gets many rows at once"},
		{"a connector of a Calculate", "shard_key: k\n", []string{"c Calculate; cname: store"}, "flows[0].fname: c has connector store: what it does with that by hand"},
		{"without a shard key documents say it", "", []string{load, "b Calculate", save}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := kis.NewRegistry()
			r.Func("b", kis.Batch(pass))
			r.Func("c", kis.Calculate(double))
			r.FaaS("f", func(_ context.Context, _ kis.Flow, _ []*in) error { return nil })
			plan, err := flowexec.Compile(bundle(t, chain(test.flow, test.functions...)), r)
			if err != nil {
				t.Fatal(err)
			}
			switch notes := plan.Notes(); {
			case test.want == "" && len(notes) > 0, test.want != "" && (len(notes) != 1 || !strings.Contains(notes[0], test.want)):
				t.Errorf("it says %q, not %q", notes, test.want)
			}
		})
	}
}

// Rows of a key that have not begun when their batch's deadline passes end with it, as the row under way does; those before are done.
func TestDeadlineBetweenRounds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		docs := chain("shard_key: k\n", "l Load; on_missing: 'null'; load: {key: '{k}', set: {last: n}}", "w Verify", "s Save; save: {key: '{k}', set: {n: n}}")
		l := local(t, docs, func(r *kis.Registry) {
			r.Func("w", kis.Verify(func(ctx context.Context, _ in) error {
				timer := time.NewTimer(400 * time.Millisecond)
				defer timer.Stop()
				select {
				case <-timer.C:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}))
		})
		result, err := l.Submit(t.Context(), "F", batch.Rows(row("a", 0), row("a", 1), row("a", 2), row("a", 3), row("a", 4)), flowexec.Timeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		const failed = ": the batch's deadline passed while the row was under way: submit the batch again with more time\n"
		expect(t, tell(result), "2 failed DEADLINE w"+failed+"3 failed DEADLINE "+failed+"4 failed DEADLINE "+failed+`0 → {"k":"a","last":null,"n":0}
			1 → {"k":"a","last":0,"n":1}`)
	})
}

// A function that never returns costs its own row: rows of other rounds and keys go on where they were, and load nothing twice.
func TestHangInStretch(t *testing.T) {
	for _, place := range []string{"before", "between", "behind"} {
		t.Run(place, func(t *testing.T) {
			functions := []string{"load Load; on_missing: 'null'", "save Save"}
			at := map[string]int{"before": 0, "between": 1, "behind": 2}[place]
			functions = slices.Insert(functions, at, "hang Verify; timeout: 1s")
			rows := []string{row("a", 1), row("b", 4), row("a", 2), row("b", 5), row("a", 3), row("a", 20), row("b", 6), row("c", 2), row("c", 7)}
			var got [2]string
			for i := range got {
				bubble.Test(t, func(t *testing.T) {
					l := local(t, chain("shard_key: k\ncopies: 1\n", functions...), func(r *kis.Registry) {
						lastSeen(r)
						r.Func("hang", kis.Verify(func(_ context.Context, s seen) error {
							if s.N == 2 || s.N == 20 {
								time.Sleep(20 * time.Second)
							}
							return nil
						}))
					})
					if i == 0 {
						got[i] = submitEach(t, l, rows)
					} else {
						got[i] = submit(t, l, rows...)
					}
					time.Sleep(time.Minute) // until what was left behind has ended
				})
			}
			if got[0] != got[1] || !strings.Contains(got[0], "2 dead FUNCTION_TIMEOUT hang") {
				t.Errorf("row by row\n%s\nin one batch\n%s", got[0], got[1])
			}
		})
	}
}

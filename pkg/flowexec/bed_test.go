package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// pool hands out one connection.
type pool struct{ connector.Connection }

func (p pool) Get(context.Context, *definition.Connector) (connector.Connection, error) {
	return p, nil
}
func (pool) Close() error { return nil }

// bed is lanes of a flow F, over a store in memory, and what came of the parts.
type bed struct {
	collector
	t     *testing.T
	plan  *flowexec.Plan
	lanes *flowexec.Lanes
	store *recorder
	begin time.Time
	enter func(context.Context, []uint32) func() // of the parts that are sent from now on

	logging sync.Mutex
	log     []string // guarded by logging
}

// newBed starts one lane for the flow, which is sharded unless the lines say otherwise.
func newBed(t *testing.T, flowLines string, register func(*bed, *kis.Registry), functions ...string) *bed {
	t.Helper()
	b := &bed{t: t, store: newRecorder(t), begin: time.Now()}
	registry := kis.NewRegistry()
	register(b, registry)
	var err error
	if b.plan, err = flowexec.Compile(bundle(t, chain(flowLines, functions...)), registry); err != nil {
		t.Fatal(err)
	}
	b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}})
	t.Cleanup(b.lanes.Stop)
	return b
}

// send enqueues rows "key number", all for the one lane.
func (b *bed) send(rows ...string) *flowexec.Part {
	p := &flowexec.Part{Plan: b.plan, BatchRows: len(rows), Output: true, Attempt: 1, Done: b.done, Enter: b.enter}
	for _, text := range rows {
		var key string
		var n int
		if _, err := fmt.Sscan(text, &key, &n); err != nil {
			b.t.Fatal(err)
		}
		p.Columns.Append([]byte(row(key, n)))
		if b.plan.ShardKey() != "" {
			p.Columns.Keys = append(p.Columns.Keys, keyOf(key))
		}
	}
	b.lanes.Enqueue(p)
	return p
}

// countParked makes metrics, and a function that reads how many rows of the flow F are parked.
func countParked(t *testing.T) (m *flowexec.Metrics, parked func() int) {
	t.Helper()
	registry := prometheus.NewRegistry()
	m, err := flowexec.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	return m, func() int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		rows := 0.0
		for _, f := range families {
			if f.GetName() == "kisgrid_lane_parked_rows" {
				for _, metric := range f.GetMetric() {
					rows += metric.GetGauge().GetValue()
				}
			}
		}
		return int(rows)
	}
}

// keyOf has a slot of its own for each first letter.
func keyOf(key string) uint64 { return uint64(key[0]) | uint64(len(key))<<32 }

func (b *bed) note(format string, args ...any) {
	b.logging.Lock()
	defer b.logging.Unlock()
	b.log = append(b.log, fmt.Sprintf(format, args...))
}

// noted waits until nothing moves and tells what was noted since.
func (b *bed) noted() string {
	synctest.Wait()
	b.logging.Lock()
	defer b.logging.Unlock()
	noted := strings.Join(b.log, " ")
	b.log = nil
	return noted
}

func (b *bed) expect(want string) {
	b.t.Helper()
	if got := b.noted(); got != want {
		b.t.Errorf("after %v it was\n%s\nnot\n%s", time.Since(b.begin), got, want)
	}
}

func (b *bed) save(key string) {
	b.t.Helper()
	if _, err := b.store.Connection.Save(b.t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: key, Field: "n", Value: "1"}}); err != nil {
		b.t.Fatal(err)
	}
}

// ended tells how the rows of a part ended so far.
func (b *bed) ended(p *flowexec.Part) string {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := &batch.Result{}
	var done []uint32
	for _, r := range b.runs {
		if r.Part != p {
			continue
		}
		rows := r.Rows
		if rows == nil {
			for i := range p.Len() {
				rows = append(rows, uint32(i))
			}
		}
		if !slices.IsSorted(rows) {
			b.t.Errorf("a run's rows do not ascend: %v", rows)
		}
		for _, row := range r.Returned {
			all.NotDone = append(all.NotDone, batch.RowOutcome{Row: row, Outcome: batch.Failed, Reason: "returned"})
		}
		done = append(done, rows...)
		all.NotDone = append(all.NotDone, r.NotDone...)
		for i, origin := range r.Output.Origins {
			all.Output.Rows.Append(r.Output.Rows.Row(i))
			all.Output.Origins = append(all.Output.Origins, origin)
		}
	}
	slices.Sort(done)
	if len(done) != len(slices.Compact(slices.Clone(done))) {
		b.t.Errorf("rows ended twice: %v", done)
	}
	all.Sort()
	lines := []string{fmt.Sprint(done)}
	for _, o := range all.NotDone {
		if !slices.Contains(done, o.Row) {
			b.t.Errorf("row %d has an outcome and did not end", o.Row)
		}
		code := o.Code.String()
		if o.Reason == "returned" {
			code = "returned"
		}
		lines = append(lines, fmt.Sprintf("%d %s %s", o.Row, code, o.Function))
	}
	for i, origin := range all.Output.Origins {
		if !slices.Contains(done, origin) {
			b.t.Errorf("row %d has an output and did not end", origin)
		}
		var got in
		if _, err := fmt.Sscanf(string(all.Output.Rows.Row(i)), `{"k":%q,"n":%d}`, &got.K, &got.N); err != nil {
			b.t.Errorf("output %s: %v", all.Output.Rows.Row(i), err)
		}
		lines = append(lines, fmt.Sprintf("%d→%s%d", origin, got.K, got.N))
	}
	return strings.Join(lines, " ")
}

func (b *bed) expectEnded(p *flowexec.Part, want string) {
	b.t.Helper()
	if got := b.ended(p); got != want {
		b.t.Errorf("after %v the rows ended as\n%s\nnot\n%s", time.Since(b.begin), got, want)
	}
}

// loader registers a Load l of the row's key, and a Verify v that notes each row.
func loader(b *bed, r *kis.Registry) {
	r.Func("l", kis.Load(func(i in) string { return i.K }, func(_ context.Context, i in, saved *map[string]string) (in, error) {
		b.note("l%s%d", i.K, i.N)
		return i, nil
	}))
	r.Func("v", kis.Verify(func(_ context.Context, i in) error {
		b.note("v%s%d", i.K, i.N)
		return nil
	}))
}

// failing is a Verify r that fails a row n times, for n its number's last digit.
func failing(b *bed, r *kis.Registry) {
	r.Func("r", kis.Verify(func(ctx context.Context, i in) error {
		attempt := kis.From(ctx).Attempt
		b.note("r%s%d.%d", i.K, i.N, attempt)
		if attempt <= i.N%10 {
			return errors.New("not yet")
		}
		return nil
	}))
}

package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// share is a row of the flow of sharesFlow, and shared the row that its second function makes.
type (
	share struct {
		ID    int `json:"id"`
		Of    int `json:"of"`
		Among int `json:"among"`
	}
	shared struct {
		ID   int     `json:"id"`
		Part float64 `json:"part"`
	}
)

// sharesFlow compiles a flow that divides a number. Its functions are expressions, or the same in Go. The expression each is that of the part.
func sharesFlow(t *testing.T, inGo bool, each string) *flowexec.Plan {
	t.Helper()
	functions := []string{
		"fname: Positive\nfmode: Verify\n", "fname: Divide\nfmode: Calculate\n", "fname: Twice\nfmode: Expand\n", "fname: Keep\nfmode: Save\noption:\n  cname: C\n",
	}
	if !inGo {
		for i, option := range []string{
			"option:\n  verify: of >= 0\n", "option:\n  calculate: {id: id, part: '" + each + "'}\n", "option:\n  expand: {each: '[1, 2]', set: {id: id, part: part * item}}\n",
			"  save: {key: '= \"s\" + string(id)', set: {part: part}}\n",
		} {
			functions[i] += option
		}
	}
	text := "kistype: flow\nflow_name: F\nstatus: 1\nflows: [{fname: Positive}, {fname: Divide}, {fname: Twice}, {fname: Keep}]\n---\nkistype: conn\ncname: C\ntype: memory\n"
	for _, f := range functions {
		text += "---\nkistype: func\n" + f
	}
	docs := definition.Split("f.yml", []byte(text))
	registry := kis.NewRegistry()
	if inGo {
		registry.Func("Positive", kis.Verify(func(_ context.Context, s share) error {
			if s.Of < 0 {
				return kis.Drop("it is negative")
			}
			return nil
		}))
		registry.Func("Divide", kis.Calculate(func(_ context.Context, s share) (shared, error) {
			if s.Among == 0 {
				return shared{}, errors.New("among nobody")
			}
			return shared{s.ID, float64(s.Of) / float64(s.Among)}, nil
		}))
		registry.Func("Twice", kis.Expand(func(_ context.Context, s shared, emit func(shared)) error {
			emit(s)
			emit(shared{s.ID, 2 * s.Part})
			return nil
		}))
		registry.Func("Keep", kis.Save(func(_ context.Context, to kis.Writer, s shared) error {
			to.Set(fmt.Sprint("s", s.ID), "part", s.Part)
			return nil
		}))
	}
	plan, err := flowexec.Compile(bundle(t, docs), registry)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// runShares runs rows through a plan, from the function at place start on. It returns the results of all rows.
func runShares(t *testing.T, config flowexec.LanesConfig, store connector.Connection, part flowexec.Part, rows []string) (all flowexec.RunResult) {
	t.Helper()
	config.Flow, config.Copies, config.Connectors = "F", 1, pool{store}
	lanes := flowexec.StartLanes(config)
	defer lanes.Stop()
	ended := make(chan flowexec.RunResult, len(rows))
	part.BatchRows, part.Output, part.KeepDead, part.Attempt = len(rows), true, 1<<20, 1
	part.Batch, part.Done = batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, func(r flowexec.RunResult) { ended <- r }
	for _, row := range rows {
		part.Columns.Append([]byte(row))
	}
	lanes.Enqueue(&part)
	for left := len(rows); left > 0; {
		r := <-ended
		all.NotDone, all.Dead = append(all.NotDone, r.NotDone...), append(all.Dead, r.Dead...)
		for i, origin := range r.Output.Origins {
			all.Output.Rows.Append(r.Output.Rows.Row(i))
			all.Output.Origins = append(all.Output.Origins, origin)
		}
		if left -= len(r.Rows); r.Rows == nil {
			left = 0
		}
	}
	return all
}

// shareRows are rows of which some are filtered and some die.
func shareRows() (rows []string) {
	for id := range 12 {
		rows = append(rows, fmt.Sprintf(`{"id":%d,"of":%d,"among":%d}`, id, 10*id-20, id%4))
	}
	return rows
}

// Operators see flows of expressions as they see those of Go functions: the same counts of rows, by function, and the same spans.
func TestExpressionsAreSeenAsGo(t *testing.T) {
	seen := map[bool]string{}
	for _, inGo := range []bool{true, false} {
		registry, exporter := prometheus.NewRegistry(), tracetest.NewInMemoryExporter()
		metrics, err := flowexec.NewMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		tracer := sdk.NewTracerProvider(sdk.WithSyncer(exporter)).Tracer("test")
		_, root := tracer.Start(t.Context(), "root")
		runShares(t, flowexec.LanesConfig{Metrics: metrics, Tracer: tracer}, newRecorder(t), flowexec.Part{Plan: sharesFlow(t, inGo, "of / among"), Trace: root.SpanContext()}, shareRows())
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				lines = append(lines, fmt.Sprint(f.GetName(), m.GetLabel(), value))
			}
		}
		for _, s := range exporter.GetSpans() {
			line := s.Name + " " + s.Status.Code.String()
			for _, a := range s.Attributes {
				line += fmt.Sprintf(" %s=%v", a.Key, a.Value.String())
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		seen[inGo] = strings.Join(lines, "\n")
	}
	if seen[true] != seen[false] {
		t.Errorf("of Go functions is seen\n%s\nand of expressions\n%s", seen[true], seen[false])
	}
	for _, want := range []string{`kisgrid_function_rows_total`, "Divide", "function Twice", "connector C"} {
		if !strings.Contains(seen[false], want) {
			t.Errorf("%s is not seen:\n%s", want, seen[false])
		}
	}
}

// Rows that died in an expression are kept as they came to their function. When the expression is mended, they go on from there, and all ends as if it
// had been right from the beginning.
func TestRedriveOfExpressions(t *testing.T) {
	const mended = "among == 0 ? 0 : of / among"
	stored := func(c connector.Connection) (all []string) {
		for id := range len(shareRows()) {
			values, err := c.Load(t.Context(), []string{fmt.Sprint("s", id)})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(id, values))
		}
		return all
	}
	outputs := func(r flowexec.RunResult) (all []string) {
		for i := range r.Output.Origins {
			all = append(all, string(r.Output.Rows.Row(i)))
		}
		return all
	}
	right := newRecorder(t)
	want := runShares(t, flowexec.LanesConfig{}, right, flowexec.Part{Plan: sharesFlow(t, false, mended)}, shareRows())

	store := newRecorder(t)
	first := runShares(t, flowexec.LanesConfig{}, store, flowexec.Part{Plan: sharesFlow(t, false, "of / among")}, shareRows())
	var letters []string
	for _, d := range first.Dead {
		if d.Function != "Divide" || d.Code != batch.CodeFunctionError {
			t.Errorf("row %d died in %s: %v", d.Row, d.Function, d.Code)
		}
		letters = append(letters, string(d.Data))
	}
	if len(letters) != 2 { // of the three rows with among 0, one is negative
		t.Fatalf("%d rows died: %+v", len(letters), first.NotDone)
	}
	plan := sharesFlow(t, false, mended)
	place, _ := plan.Place("Divide", 0)
	again := runShares(t, flowexec.LanesConfig{}, store, flowexec.Part{Plan: plan, Start: place}, letters)
	if len(again.NotDone) > 0 {
		t.Errorf("redriven rows end as %+v", again.NotDone)
	}
	got := append(outputs(first), outputs(again)...)
	wanted := outputs(want)
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Errorf("the outputs are\n%q, want\n%q", got, wanted)
	}
	if a, b := stored(right), stored(store); !slices.Equal(a, b) {
		t.Errorf("stored is\n%q, want\n%q", b, a)
	}
}

package flow_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
	"github.com/kisgrid/kisgrid/pkg/kis/metrics"
)

// told is a logger that keeps what it is told at level info.
type told struct {
	log.KisLogger
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *told) InfoFX(_ context.Context, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// of are the lines that speak of a function.
func (l *told) of(function string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, "function "+function+" ") {
			lines = append(lines, line)
		}
	}
	return lines
}

func listen(t *testing.T) *told {
	t.Helper()
	before := log.Logger()
	l := &told{KisLogger: before}
	log.SetLogger(l)
	t.Cleanup(func() { log.SetLogger(before) })
	return l
}

// must makes a function's configuration as KisFlow's own suite does: it names fields that no row of it has.
func must(name string, mode common.KisMode) *config.KisFuncConfig {
	return config.NewFuncConfig(name, mode, &config.KisSource{Name: "orders", Must: []string{"order_id", "user_id"}}, nil)
}

// A program's rows go on without the fields that source.must names, of which it is warned once for each function, whoever uses it.
// A Local, as clusters do, ends the same rows.
func TestMust(t *testing.T) {
	l := listen(t)
	k := newKit(t)
	take := func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint(f.Input()))
		return f.CommitRowBatch(f.Input())
	}
	k.linkAs(must("first", common.V), take)
	k.linkAs(must("second", common.C), take)
	for range 2 {
		k.commit("plain", `{"order_id":1}`, `{"order_id":1,"user_id":2}`, 7, in{3}, []byte("x"))
		k.run()
		const rows = `[plain {"order_id":1} {"order_id":1,"user_id":2} 7 {3} [120]]`
		k.saw(rows, rows)
	}
	other := flow.New(k.registry, config.NewFlowConfig("G", common.FlowEnable))
	if err := other.Link(must("first", common.V), nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range []kis.Flow{other, k.flow.Fork(t.Context())} {
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"first", "second"} {
		if lines := l.of(name); len(lines) != 1 || !strings.Contains(lines[0], "order_id, user_id") || !strings.Contains(lines[0], "on a cluster") {
			t.Errorf("of %s it was told %q, want one warning", name, lines)
		}
	}

	docs, err := k.flow.Documents()
	if err != nil {
		t.Fatal(err)
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Functions["first"].Source.Must; !slices.Equal(got, []string{"order_id", "user_id"}) {
		t.Errorf("the flow's documents have must %q", got)
	}
	local, err := flowexec.NewLocalSet(set, func(r *kis.Registry) {
		r.FaaS("first", pass)
		r.FaaS("second", pass)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	result, err := local.Submit(t.Context(), "F", batch.Rows([]byte(`{"order_id":1}`), []byte(`{"order_id":1,"user_id":2}`)))
	if err != nil {
		t.Fatal(err)
	}
	if len(result.NotDone) != 1 || result.NotDone[0].Row != 0 || result.NotDone[0].Code != batch.CodeMissingField {
		t.Errorf("a Local ended rows so: %+v", result.NotDone)
	}
}

// KisFlow's own suite, as it is written: functions that declare must, over rows that are plain strings.
func TestSuiteOverStringRows(t *testing.T) {
	rows := []any{"This is Data1 from Test", "This is Data2 from Test"}
	const data = "[This is Data1 from Test This is Data2 from Test]"
	for name, c := range map[string]struct {
		second func(ctx context.Context, f kis.Flow) error
		want   []string // what the functions after the second see
	}{
		"commit": {func(_ context.Context, f kis.Flow) error {
			for i := range f.Input() {
				if err := f.CommitRow(fmt.Sprintf("data from %s, index %d", f.GetThisFunction().GetConfig().FName, i)); err != nil {
					return err
				}
			}
			return nil
		}, []string{"third[data from second, index 0 data from second, index 1]"}},
		"abort":                  {func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionAbort) }, nil},
		"reuse":                  {func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionDataReuse) }, []string{"third" + data}},
		"forced entry":           {func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionForceEntryNext) }, []string{"third[]"}},
		"no rows":                {func(context.Context, kis.Flow) error { return nil }, nil},
		"jump":                   {func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionJumpFunc("third")) }, []string{"third" + data}},
		"abort of a later reuse": {func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionDataReuse, kis.ActionAbort) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.linkAs(must("first", common.V), pass)
			k.linkAs(must("second", common.S), c.second)
			k.linkAs(must("third", common.C), func(_ context.Context, f kis.Flow) error {
				k.seen = append(k.seen, fmt.Sprint("third", f.Input()))
				return nil
			})
			k.commit(rows...)
			k.run()
			k.saw(c.want...)
		})
	}
}

// A fork, parameters, functions called by themselves, a connector's call and the metrics of such a flow.
func TestMustDoesNotStandInTheWay(t *testing.T) {
	was := config.GlobalConfig.EnableProm
	config.GlobalConfig.EnableProm = true
	t.Cleanup(func() { config.GlobalConfig.EnableProm = was })
	before := ended(t)
	k := newKit(t)
	k.registry.CaaSInit("orders", func(kis.Connector) error { return nil })
	k.registry.CaaS("orders", "keep", common.S, func(_ context.Context, _ kis.Connector, _ kis.Function, _ kis.Flow, args any) (any, error) {
		k.seen = append(k.seen, fmt.Sprint("kept ", args))
		return nil, nil
	})
	k.registry.FaaS("look", func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint("look ", f.GetFuncParam("args"), f.Input()))
		return f.CommitRowBatch(f.Input())
	})
	k.registry.FaaS("keep", func(ctx context.Context, f kis.Flow) error {
		c, err := f.GetConnector()
		if err != nil {
			return err
		}
		for _, row := range f.Input() {
			if _, err := c.Call(ctx, f, row); err != nil {
				return err
			}
		}
		return nil
	})
	if err := k.flow.Link(must("look", common.V), kis.FParam{"args": "v "}); err != nil {
		t.Fatal(err)
	}
	keep := must("keep", common.S)
	if err := keep.AddConnConfig(config.NewConnConfig("orders", "localhost:1", common.REDIS, "k", nil)); err != nil {
		t.Fatal(err)
	}
	if err := k.flow.Link(keep, nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range []kis.Flow{k.flow, k.flow.Fork(t.Context())} {
		for _, row := range []string{"one", "two"} {
			if err := f.CommitRow(row); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.saw("look v [one two]", "kept one", "kept two")
	}
	if rows := ended(t) - before; rows != 4 {
		t.Errorf("the metrics counted %v rows, want 4", rows)
	}
	if err := k.registry.CallFunction(t.Context(), "look", k.flow); err != nil {
		t.Errorf("CallFunction returned %v", err)
	}
}

// ended is how many rows of flow F ended well, as metrics count them.
func ended(t *testing.T) (rows float64) {
	t.Helper()
	if metrics.Current() == nil {
		t.Fatal("there are no metrics")
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if family.GetName() == "kisgrid_rows_ended_total" && labels["flow"] == "F" && labels["outcome"] == batch.Done.String() {
				rows += m.GetCounter().GetValue()
			}
		}
	}
	return rows
}

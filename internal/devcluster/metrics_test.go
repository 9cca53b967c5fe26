package devcluster_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// TestMetricsPage compares docs/metrics.md with what a coordinator and a worker export after they have run rows.
func TestMetricsPage(t *testing.T) {
	g := flowtest.Cluster(t, 1, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf))
	s, err := g.Client().Stream(t.Context(), "CalStuAvgScore12")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Send(t.Context(), client.Rows(students.Scores12{ID: 101, Score1: 100, Score2: 90}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A row without its shard key reaches no worker, and becomes a dead letter.
	if r, err := g.Client().Submit(t.Context(), "CalStuAvgScore12", client.Rows("{}")); err != nil || len(r.NotDone) != 1 || !r.NotDone[0].Kept {
		t.Fatalf("a row without its shard key ended %+v, %v", r, err)
	}
	for name, labels := range map[string][]string{
		"kisflow_data_total": nil, "flow_data_total": {"flow_name", "CalStuAvgScore12"}, "flow_schedule_cnts": {"flow_name", "CalStuAvgScore12"},
		"func_schedule_cnts": {"func_name", "SaveScoreAvg12", "func_mode", "Save"}, "func_run_duration": {"func_name", "VerifyStu", "func_mode", "Verify"},
		"flow_run_duration": {"flow_name", "CalStuAvgScore12"}, "kisgrid_flow_run_seconds": {"flow", "CalStuAvgScore12"},
	} {
		if n := g.Worker(0).Metric(name, labels...); n != 1 {
			t.Errorf("after one row in one run %s is %g", name, n)
		}
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	coordinators, workers, found := strings.Cut(string(page), "\n## Worker\n")
	if !found {
		t.Fatal("docs/metrics.md has no section on workers")
	}
	for _, of := range []struct {
		page     string
		exported prometheus.Gatherer
		typeless []string    // metrics without a series in this test, and so without a known type
		doctored [][3]string // a text of the page, its replacement, and the difference that the comparison must report then
	}{
		{coordinators, g.Coordinator(0).Metrics(), []string{
			"kisgrid_revisions_rejected_total", "kisgrid_dead_rows_not_kept_total", "kisgrid_dead_letters_redriven_total",
		}, [][3]string{
			{"`kisgrid_coordinator_leader` | gauge", "kisgrid_coordinator_leader | gauge", "is not documented"},
			{"`kisgrid_rows_ended_total` | counter | rows | flow, outcome |", "`kisgrid_rows_ended_total` | counter | rows | flow |", "kisgrid_rows_ended_total has the labels"},
			{"`kisgrid_rows_in_flight` | gauge", "`kisgrid_rows_in_flight` | counter", "kisgrid_rows_in_flight is a gauge"},
			{"Client streams that are open.", "Streams.", "kisgrid_coordinator_streams says of itself"},
			{"`kisgrid_stream_window_bytes` | gauge | bytes", "`kisgrid_stream_window_bytes` | gauge | rows", "kisgrid_stream_window_bytes is documented in rows"},
		}},
		{workers, g.Worker(0).Metrics(), []string{
			"kisgrid_worker_sessions_ended_total", "kisgrid_worker_registrations_lost_total", "kisgrid_lane_parked_rows", "kisgrid_connector_waiting_keys",
			"kisgrid_connector_risk", // the embedded Redis tells nothing of its settings
		}, [][3]string{
			{"`flow_schedule_cnts` | counter", "`flow_schedule_cnts` | gauge", "flow_schedule_cnts is a counter"},
			{"`kisgrid_worker_draining`", "`kisgrid_worker_drains`", "nobody exports it"},
			{"`kisgrid_function_run_seconds` | histogram | seconds", "`kisgrid_function_run_seconds` | histogram | ms", "kisgrid_function_run_seconds is documented in ms"},
		}},
	} {
		known, err := registered(of.exported)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range compareMetrics(of.page, known) {
			t.Error(wrong)
		}
		for name, m := range known {
			if m.kind == "" && !slices.Contains(of.typeless, name) {
				t.Errorf("%s has no series, so that nobody knows its type", name)
			}
		}
		for _, d := range of.doctored { // the comparison must be able to fail
			if strings.Count(of.page, d[0]) != 1 {
				t.Errorf("the page has %q %d times", d[0], strings.Count(of.page, d[0]))
			}
			wrong := compareMetrics(strings.Replace(of.page, d[0], d[1], 1), known)
			if !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, d[2]) }) {
				t.Errorf("with %q for %q the comparison says %q", d[1], d[0], wrong)
			}
		}
	}
}

// metric is the help text and the labels of a metric, and its type where a series exists.
type metric struct{ labels, meaning, kind string }

var documentedRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (\\w+) \\| ([^|]+) \\|([^|]*)\\| ([^|]*) \\|")

// compareMetrics lists the differences between a page and the metrics.
func compareMetrics(page string, known map[string]metric) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	documented := map[string]bool{}
	for _, m := range documentedRow.FindAllStringSubmatch(page, -1) {
		name, kind, unit, labels, meaning := m[1], m[2], m[3], strings.ReplaceAll(strings.TrimSpace(m[4]), " ", ""), m[5]
		documented[name] = true
		is, there := known[name]
		switch {
		case !there:
			say("%s is documented, and nobody exports it", name)
			continue
		case is.labels != labels:
			say("%s has the labels %q, documented are %q", name, is.labels, labels)
		case is.meaning != meaning:
			say("%s says of itself %q, documented is %q", name, is.meaning, meaning)
		case is.kind != "" && is.kind != kind:
			say("%s is a %s, documented as a %s", name, is.kind, kind)
		}
		if strings.HasPrefix(name, "kisgrid_") && strings.HasSuffix(name, "_total") != (kind == "counter") {
			say("%s is documented as a %s: counters, and they only, end in _total", name, kind)
		}
		for _, base := range []string{"seconds", "bytes"} {
			if strings.HasSuffix(name, "_"+base) && unit != base {
				say("%s is documented in %s", name, unit)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !documented[name] {
			say("%s (%+v) is not documented", name, known[name])
		}
	}
	return wrong
}

// registered are our metrics in a registry, those without a series included.
func registered(from prometheus.Gatherer) (map[string]metric, error) {
	registry, ok := from.(prometheus.Collector)
	if !ok {
		return nil, fmt.Errorf("%T does not tell what is registered", from)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		registry.Describe(descriptions)
	}()
	shape := regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", constLabels: \{[^}]*\}, variableLabels: \{(.*)\}\}$`)
	all := map[string]metric{}
	for d := range descriptions {
		m := shape.FindStringSubmatch(d.String())
		switch {
		case m == nil:
			return nil, fmt.Errorf("can't read %s", d)
		case strings.HasPrefix(m[1], "go_"), strings.HasPrefix(m[1], "process_"):
		default:
			all[m[1]] = metric{labels: m[3], meaning: m[2]}
		}
	}
	families, err := from.Gather()
	for _, f := range families {
		if m, ours := all[f.GetName()]; ours {
			m.kind = strings.ToLower(fmt.Sprint(f.GetType()))
			all[f.GetName()] = m
		}
	}
	return all, err
}

// TestLedgerAddsUp checks again and again that the exported counts of rows add up, while rows run and workers die and start.
func TestLedgerAddsUp(t *testing.T) {
	const batches, rows = 100, 20
	g := flowtest.Cluster(t, 3, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf), flowtest.Coordinators(2))
	const flow = "Check"
	if err := g.Apply("kistype: flow\nflow_name: Check\nstatus: 1\nshard_key: stu_id\nflows: [{fname: VerifyStu}]\n"); err != nil {
		t.Fatal(err)
	}
	labels := []string{"flow", flow}
	outcomes := func(families map[string]map[string]float64) (sum float64) {
		for o := batch.Done; o <= batch.Failed; o++ {
			sum += families["kisgrid_rows_ended_total"][o.String()]
		}
		return sum
	}
	var seen atomic.Bool // rows in flight
	var sent atomic.Int64
	check := func() {
		for _, n := range g.Coordinators() {
			now := series(t, n.Metrics(), flow)
			in, flying := now["kisgrid_rows_in_total"][""], now["kisgrid_rows_in_flight"][""]
			if ended := outcomes(now); in != ended+flying {
				t.Errorf("%s: %g rows in, %g ended, %g in flight", n.Name(), in, ended, flying)
			}
			if flying > 0 {
				seen.Store(true)
			}
		}
	}
	c := g.Client()
	var sending sync.WaitGroup
	for range 2 { // streams go round: one to each coordinator
		s, err := c.Stream(t.Context(), flow)
		if err != nil {
			t.Fatal(err)
		}
		sending.Go(func() {
			// The sender goes on until a check has found rows in flight: on a busy machine there are few checks.
			for i := 0; i < batches || !seen.Load(); i++ {
				some := make([]students.Scores12, rows)
				for k := range some {
					some[k] = students.Scores12{ID: (i*rows + k) % 1010, Score1: 1, Score2: 2} // ten in a thousand are filtered
				}
				if _, err := s.Send(t.Context(), client.Rows(some...)); err != nil {
					t.Error(err)
					return
				}
				sent.Add(rows)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		sending.Wait()
	}()
	g.Owner(flow, "101").Kill()
	for checks := 0; ; checks++ {
		check()
		if checks == 10 {
			g.AddWorker(flowtest.WorkerConfig{})
			g.Owner(flow, "102").Drain()
		}
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	check()
	var in, filtered, flying float64
	for _, n := range g.Coordinators() {
		in += n.Metric("kisgrid_rows_in_total", labels...)
		filtered += n.Metric("kisgrid_rows_ended_total", "flow", flow, "outcome", "filtered")
		flying += n.Metric("kisgrid_rows_in_flight", labels...)
	}
	// A batch that the client sends again, as it does when a busy machine is slow to answer, comes in again.
	if in < float64(sent.Load()) || flying != 0 || filtered == 0 || !seen.Load() {
		t.Errorf("in the end %g rows of %d came in, %g were filtered, %g are in flight; some were seen in flight: %t", in, sent.Load(), filtered, flying, seen.Load())
	}
}

// series are the values of a flow by metric and outcome, all of one moment.
func series(t *testing.T, from prometheus.Gatherer, flow string) map[string]map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			of, outcome := "", ""
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "flow":
					of = l.GetValue()
				case "outcome":
					outcome = l.GetValue()
				}
			}
			if of != flow {
				continue
			}
			if all[f.GetName()] == nil {
				all[f.GetName()] = map[string]float64{}
			}
			all[f.GetName()][outcome] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

package devcluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// documentedMetrics reads names, types and labels from docs/metrics.md.
func documentedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for _, m := range documentedRow.FindAllStringSubmatch(string(page), -1) {
		all[m[1]] = metric{kind: m[2], labels: strings.ReplaceAll(strings.TrimSpace(m[4]), " ", "")}
	}
	return all
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	ranges     = regexp.MustCompile(`\[[^\]]*\]`)
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) *\(([^)]*)\)`)
	selector   = regexp.MustCompile(`\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-zA-Z_]\w*) *(?:=~|!~|!=|=)`)
	identifier = regexp.MustCompile(`[a-zA-Z_]\w*( *\()?`)
)

// wrongIn lists the metrics and labels in an expression of PromQL that do not exist.
func wrongIn(expr string, known map[string]metric) (wrong []string) {
	say := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s: %s", expr, fmt.Sprintf(format, args...)))
	}
	text := ranges.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), "")
	var labels []string
	for _, group := range grouping.FindAllStringSubmatch(text, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	for _, s := range selector.FindAllStringSubmatch(text, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[1], -1) {
			labels = append(labels, m[1])
		}
	}
	has := []string{"instance", "job"} // which Prometheus adds
	metrics := 0
	for _, name := range identifier.FindAllString(selector.ReplaceAllString(grouping.ReplaceAllString(text, ""), ""), -1) {
		if strings.HasSuffix(name, "(") || slices.Contains([]string{"sum", "max", "min", "and", "or", "unless", "bool"}, name) {
			continue
		}
		if name == "process_start_time_seconds" {
			continue // every process has it
		}
		m, there := known[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && known[base].kind == "histogram" {
				m, there = known[base], true
				if suffix == "_bucket" {
					has = append(has, "le")
				}
			}
		}
		if !there {
			say("there is no metric %s", name)
			continue
		}
		metrics++
		has = append(has, strings.Split(m.labels, ",")...)
		if counted := regexp.MustCompile(`(?:rate|increase)\(` + name).MatchString(text); counted != (m.kind == "counter" || m.kind == "histogram") && !strings.Contains(text, " - ") {
			say("%s is a %s", name, m.kind)
		}
	}
	if metrics == 0 {
		say("it has no metric")
	}
	for _, label := range labels {
		if !slices.Contains(has, label) {
			say("no metric in it has the label %s", label)
		}
	}
	return wrong
}

// TestDashboard compares the dashboard's expressions with docs/metrics.md.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/kisgrid.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	known := documentedMetrics(t)
	expressions, ids := 0, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expressions++
			for _, wrong := range wrongIn(target.Expr, known) {
				t.Errorf("%s: %s", p.Title, wrong)
			}
		}
	}
	// These things must be seen, whatever else is.
	for _, name := range []string{"kisgrid_dead_letters", "kisgrid_connector_degraded", "kisgrid_coordinator_leader", "kisgrid_coordinator_build", "kisgrid_worker_build", "kisgrid_batch_seconds"} {
		if !bytes.Contains(text, []byte(name)) {
			t.Errorf("no panel shows %s", name)
		}
	}
	if expressions < 15 {
		t.Errorf("the dashboard has %d expressions", expressions)
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" && !strings.Contains(v.Definition, "label_values(kisgrid_rows_in_total, flow)") {
			t.Errorf("variable %s comes from %s", v.Name, v.Definition)
		}
	}
}

// TestAlerts compares the alerts' expressions with docs/metrics.md.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	known := documentedMetrics(t)
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			for _, wrong := range wrongIn(r.Expr, known) {
				t.Errorf("%s: %s", r.Alert, wrong)
			}
			if r.Annotations["summary"] == "" || r.Annotations["do"] == "" {
				t.Errorf("%s does not say what is the matter and what to do", r.Alert)
			}
		}
	}
	if rules < 8 {
		t.Errorf("there are %d alerts", rules)
	}
}

// The check itself must be able to fail.
func TestExpressionsAreChecked(t *testing.T) {
	known := documentedMetrics(t)
	for expr, want := range map[string]string{
		`sum by (flow) (rate(kisgrid_rows_in_total{flow=~"$flow"}[5m]))`:                            "",
		`histogram_quantile(0.9, sum by (le) (rate(kisgrid_flow_run_seconds_bucket[$__interval])))`: "",
		`sum by (flow) (rate(kisgrid_rows_come_total[5m]))`:                                         "no metric kisgrid_rows_come_total",
		`sum by (flaw) (rate(kisgrid_rows_in_total[5m]))`:                                           "the label flaw",
		`kisgrid_coordinator_workers{status="lost"}`:                                                "the label status",
		`rate(kisgrid_rows_in_flight[5m])`:                                                          "is a gauge",
		`kisgrid_rows_in_total`:                                                                     "is a counter",
		`kisgrid_rows_in_flight_bucket`:                                                             "no metric kisgrid_rows_in_flight_bucket",
		`sum by (le) (rate(kisgrid_flow_run_seconds_sum[5m]))`:                                      "the label le",
		`vector(1)`: "no metric",
	} {
		if wrong := strings.Join(wrongIn(expr, known), "\n"); want == "" && wrong != "" || !strings.Contains(wrong, want) {
			t.Errorf("%s: it says %q, want %q", expr, wrong, want)
		}
	}
}

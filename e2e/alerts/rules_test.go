package alerts

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

var required = flag.Bool("alerts.required", false, "fail, instead of being skipped, where Prometheus is not installed")

// rulesFile has the alerts. casesFile has, for each alert, samples with which it fires and samples with which it does not.
const (
	rulesFile = "../../deploy/prometheus/alerts.yml"
	casesFile = "../../deploy/prometheus/alerts_test.yml"
)

// program finds a program of Prometheus, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	unpacked, err := filepath.Abs(filepath.Join("../../bin/prometheus/usr/bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(unpacked); err == nil {
		return unpacked
	}
	const missing = "%s is not installed, so that alerts are not tried: make tools-prometheus gets it from Debian, make alerts runs these tests with it"
	if *required {
		t.Fatalf(missing, name)
	}
	t.Skipf(missing, name)
	return ""
}

// alert is one rule of the file.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Annotations map[string]string
}

// alerts reads all alerts from the rules.
func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	read(t, rulesFile, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// read reads a file of YAML.
func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// TestEachAlertHasCases checks that each alert has a case in which it fires and one in which it does not.
func TestEachAlertHasCases(t *testing.T) {
	var file struct {
		Tests []struct {
			Name    string
			Queries []struct {
				Expr    string
				Samples []struct{ Value float64 } `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	read(t, casesFile, &file)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, c := range file.Tests {
		most := 0.0
		name, _, _ := strings.Cut(c.Name, " ")
		for _, q := range c.Queries {
			if strings.Contains(q.Expr, `alertname="`+name+`", alertstate="firing"`) && len(q.Samples) == 1 {
				most = max(most, q.Samples[0].Value)
			} else {
				t.Errorf("%s: it asks for %s", c.Name, q.Expr)
			}
		}
		switch {
		case strings.HasPrefix(c.Name, name+" fires: ") && most > 0:
			fires[name] = true
		case strings.HasPrefix(c.Name, name+" rests: ") && most == 0 && len(c.Queries) > 0:
			rests[name] = true
		default:
			t.Errorf("a case must be called \"ALERT fires: …\", and fire, or \"ALERT rests: …\", and never fire; %q does not", c.Name)
		}
	}
	all := alerts(t)
	if len(all) < 19 {
		t.Errorf("there are %d alerts", len(all))
	}
	for _, a := range all {
		if !fires[a.Alert] || !rests[a.Alert] {
			t.Errorf("%s: there is a case that fires it: %v, and one that does not: %v; add it to %s", a.Alert, fires[a.Alert], rests[a.Alert], casesFile)
		}
	}
}

// TestCases runs the cases with promtool.
func TestCases(t *testing.T) {
	tool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", casesFile}} {
		if code, out, log := testprocess.Run(t, testprocess.Config{}, tool, args...); code != 0 {
			t.Errorf("promtool %s ended with %d:\n%s%s", strings.Join(args, " "), code, out, log)
		}
	}
}

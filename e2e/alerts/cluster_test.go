package alerts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) { os.Exit(testprocess.Main(m, "../../cmd/...")) }

// lease is the lease of every process in the cluster.
const lease = "6s"

// watched is a Prometheus, and the coordinator and the worker that it scrapes.
type watched struct {
	*testgrid.Grid
	t          *testing.T
	prometheus string // its address
	dead       string // the address of the Redis for dead letters
	workerHTTP string // the address at which the worker serves metrics
	worker     *testprocess.Process
	stopDead   func() // stops the Redis for dead letters
}

// durations matches the durations in rules: numbers of minutes and hours.
var durations = regexp.MustCompile(`\b(\d+)(m|h)\b`)

// inSeconds are the rules with seconds in place of minutes, so that an alert fires within seconds.
func inSeconds(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	return durations.ReplaceAllStringFunc(string(text), func(d string) string {
		n, _ := strconv.Atoi(d[:len(d)-1])
		if strings.HasSuffix(d, "h") {
			n *= 60
		}
		return fmt.Sprintf("%ds", n)
	})
}

// watch starts a Prometheus. The processes that it scrapes are not started yet.
func watch(t *testing.T) *watched {
	t.Helper()
	tool := program(t, "prometheus")
	w := &watched{Grid: testgrid.New(t), t: t, prometheus: testprocess.Address(t), dead: testprocess.Address(t), workerHTTP: testprocess.Address(t)}
	w.Lease = lease
	w.AddCoordinator("--dead-letters", "redis://"+w.dead, "--dead-letters-max", "10")
	dir := t.TempDir()
	config := fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 250ms}
rule_files: [rules.yml]
scrape_configs:
  - job_name: kisgrid
    static_configs: [{targets: [%q, %q]}]
`, w.Coordinators[0].HTTP, w.workerHTTP)
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yml": inSeconds(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testprocess.Start(t, testprocess.Config{Name: "prometheus"}, tool, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+w.prometheus, "--log.level=warn")
	return w
}

// get asks Prometheus and decodes the answer.
func (w *watched) get(path string, into any) error {
	r, err := http.Get("http://" + w.prometheus + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// firing returns the alerts that fire now: for each alert, by its name, the values of one label. It fails the test if the text of an
// alert was not filled in.
func (w *watched) firing(label string) (map[string][]string, error) {
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
			}
		}
	}
	if err := w.get("/api/v1/alerts", &answer); err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, a := range answer.Data.Alerts {
		for _, text := range a.Annotations {
			if strings.Contains(text, "<no value>") || strings.Contains(text, "<error") {
				w.t.Errorf("%s says %q", a.Labels["alertname"], text)
			}
		}
		if a.State == "firing" {
			all[a.Labels["alertname"]] = append(all[a.Labels["alertname"]], a.Labels[label])
		}
	}
	return all, nil
}

// fires waits until an alert fires whose label has the value. alert is its name.
func (w *watched) fires(alert, label, value string) {
	w.t.Helper()
	testprocess.Until(w.t, alert+" fires", func() error {
		all, err := w.firing(label)
		if err == nil && !slices.Contains(all[alert], value) {
			err = fmt.Errorf("these fire: %v", all)
		}
		return err
	})
}

// rest waits until none of the alerts with these names fires.
func (w *watched) rest(alerts ...string) {
	w.t.Helper()
	testprocess.Until(w.t, fmt.Sprintf("%v rest", alerts), func() error {
		all, err := w.firing("")
		for _, a := range alerts {
			if all[a] != nil {
				err = errors.Join(err, fmt.Errorf("%s fires", a))
			}
		}
		return err
	})
}

// value returns the value of a query in Prometheus; 0 means that the query has no result.
func (w *watched) value(query string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := w.get("/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil || len(answer.Data.Result) == 0 {
		return 0, err
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// kisgrid runs a command of the program kisgrid to its end, with any exit code, and returns everything that it printed.
func (w *watched) kisgrid(stdin string, args ...string) string {
	w.t.Helper()
	_, out, log := w.Kisgrid(stdin, args...)
	return out + log
}

// bad makes the text of as many rows as rows says. They die, because a score is not a number.
func bad(rows int) string {
	return strings.Repeat("{\"stu_id\":1,\"score_1\":\"x\",\"score_2\":2}\n", rows)
}

// startServers starts the etcd, the Redis of the flows, and the Redis for dead letters.
func (w *watched) startServers() {
	w.t.Helper()
	testgrid.StartEtcd(w.t, w.Etcd, w.t.TempDir())
	testgrid.StartRedis(w.t, w.Redis)
	w.stopDead = testgrid.StartRedis(w.t, w.dead)
}

// startCluster starts the coordinator and the worker, and applies the students' example.
func (w *watched) startCluster() {
	w.t.Helper()
	w.Coordinators[0].Start()
	w.worker = w.RunWorker(testprocess.Config{}, "w", testprocess.Address(w.t), w.workerHTTP)
	testprocess.Until(w.t, "the students' flows are active", func() error {
		if out := w.kisgrid("", "apply", "-f", "../../examples/students/conf"); strings.Count(out, "active") < 2 {
			return errors.New(out)
		}
		return nil
	})
}

// TestCluster lets common troubles happen to a cluster that Prometheus scrapes. For each alert it waits until the alert fires, and
// before that it checks that the alert does not fire.
func TestCluster(t *testing.T) {
	w := watch(t)
	// No process runs yet.
	w.fires("KisGridNoCoordinator", "severity", "critical")
	w.fires("KisGridNoWorker", "severity", "critical")
	w.startServers()
	w.startCluster()
	trouble := []string{
		"KisGridNoCoordinator", "KisGridNoWorker", "KisGridNoLeader", "KisGridFlowUnserved", "KisGridRowsDead", "KisGridRowsFailed", "KisGridRowsUnaccountedFor",
		"KisGridDeadLettersFull", "KisGridDeadLettersNearlyFull", "KisGridDeadLettersAway", "KisGridDeadRowsNotKept", "KisGridRowsParkedForLong",
	}
	w.rest(trouble...)
	if out := w.kisgrid("{\"stu_id\":1,\"score_1\":1,\"score_2\":2}\n", "submit", "CalStuAvgScore12"); !strings.Contains(out, "1 done") {
		t.Fatal(out)
	}
	w.rest(trouble...)

	// A row is parked: the alert is pending before it fires.
	parked := w.StartKisgrid(testprocess.Config{Stdin: "{\"stu_id\":77,\"score_3\":5}\n"}, "submit", "CalStuAvgScore3")
	testprocess.Until(t, "the parked row is seen", func() error {
		n, err := w.value(`count_over_time(ALERTS{alertname="KisGridRowsParkedForLong",alertstate="pending"}[1h])`)
		if err == nil && n == 0 {
			err = errors.New("the alert is not pending")
		}
		return err
	})

	// Rows die, are kept up to the limit, and are not kept above it.
	w.kisgrid(bad(9), "submit", "CalStuAvgScore12")
	w.fires("KisGridRowsDead", "flow", "CalStuAvgScore12")
	w.fires("KisGridDeadLettersNearlyFull", "flow", "CalStuAvgScore12")
	w.rest("KisGridDeadLettersFull", "KisGridDeadRowsNotKept", "KisGridDeadLettersAway")
	w.kisgrid(bad(3), "submit", "CalStuAvgScore12")
	w.fires("KisGridDeadLettersFull", "flow", "CalStuAvgScore12")
	w.fires("KisGridDeadRowsNotKept", "reason", "store_full")
	w.rest("KisGridDeadLettersNearlyFull")
	w.stopDead()
	w.fires("KisGridDeadLettersAway", "severity", "critical")
	w.kisgrid(bad(1), "submit", "CalStuAvgScore3")
	w.fires("KisGridDeadRowsNotKept", "reason", "store_away")

	// The worker ends, then the coordinator.
	w.rest("KisGridNoWorker", "KisGridFlowUnserved", "KisGridNoCoordinator")
	w.worker.Kill()
	w.fires("KisGridNoWorker", "severity", "critical")
	w.fires("KisGridFlowUnserved", "flow", "CalStuAvgScore12")
	w.rest("KisGridNoCoordinator")
	w.Coordinators[0].Kill()
	w.fires("KisGridNoCoordinator", "severity", "critical")
	parked.Kill()

	// By now more time has passed than any alert waits. Alerts without a cause must not have fired.
	if n, err := w.value(`count_over_time(ALERTS{alertname=~"KisGridRowsUnaccountedFor|KisGridFunctionAbandoned|KisGridOverloaded",alertstate="firing"}[1h])`); err != nil || n > 0 {
		t.Errorf("alerts fired of which nothing happened: %v, %v", n, err)
	}
}

// The rules with seconds must be the same rules.
func TestInSeconds(t *testing.T) {
	text := inSeconds(t)
	if durations.MatchString(text) || !strings.Contains(text, "for: 15s") || !strings.Contains(text, "[60s]") || !strings.Contains(text, "15 * 60") {
		t.Errorf("the rules are\n%s", text)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

const expressions = "../examples/students/conf-expressions"

// TestGenericWorkers runs the students' flows as expressions on workers without Go functions, and then a new flow with new functions, which etcdctl
// puts: no process starts anew.
func TestGenericWorkers(t *testing.T) {
	g := newGrid(t)
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	testgrid.StartRedis(t, g.Redis)
	g.AddCoordinator().Start().Ready()
	for range 2 {
		g.StartWorker("", "--generic")
	}
	g.AwaitWorkers(2)
	before := processes(t, g)

	out := g.MustKisgrid("", "apply", "-f", expressions)
	for _, flow := range []string{"CalStuAvgScore12", "CalStuAvgScore3"} {
		if want := "flow " + flow + ": active, taken by 2 of 2 workers"; !strings.Contains(out, want) {
			t.Fatalf("apply does not print %q:\n%s", want, out)
		}
	}
	for _, c := range []struct{ flow, rows, want string }{
		{"CalStuAvgScore12", `{"stu_id":101,"score_1":100,"score_2":90}` + "\n" + `{"stu_id":102,"score_1":100,"score_2":80}` + "\n", `{"stu_id":101,"avg_score":95}` + "\n" + `{"stu_id":102,"avg_score":90}` + "\n"},
		{"CalStuAvgScore3", `{"stu_id":101,"score_3":80}` + "\n" + `{"stu_id":102,"score_3":70}` + "\n", `{"stu_id":101,"avg_score":90}` + "\n" + `{"stu_id":102,"avg_score":83.33333333333333}` + "\n"},
	} {
		if code, out, log := g.Kisgrid(c.rows, "submit", c.flow, "--results"); code != 0 || out != c.want {
			t.Errorf("submit %s ended with %d and printed:\n%s%s", c.flow, code, out, log)
		}
	}
	if got := average(g, 101); got != "95" {
		t.Errorf("Redis has %s as student 101's average", got)
	}

	// A row whose expression fails is dead, with the place, and without a value of the row.
	code, _, log := g.Kisgrid(`{"stu_id":7,"score_1":9223372036854775807,"score_2":3}`+"\n", "submit", "CalStuAvgScore12")
	if code != 1 || !strings.Contains(log, "dead in AvgStuScore12: FUNCTION_ERROR: AvgStuScore12: ") || !strings.Contains(log, "option.calculate.avg_score: (score_1 + score_2): the sum of two ints is outside of 64 bits") ||
		strings.Contains(log, "9223372036854775807") {
		t.Errorf("submit of a row that overflows ended with %d and told:\n%s", code, log)
	}

	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("etcdctl is not installed: no new flow is put")
	}
	documents := map[string]string{
		"func/Tall":   "kistype: func\nfname: Tall\nfmode: Verify\noption:\n  verify: height >= 180\n",
		"func/Inches": "kistype: func\nfname: Inches\nfmode: Calculate\noption:\n  calculate: {inches: round(height / 2.54)}\n  keep: [name]\n",
		"flow/Tall":   "kistype: flow\nflow_name: Tall\nstatus: 1\nflows: [{fname: Tall}, {fname: Inches}]\n",
	}
	for _, key := range []string{"func/Tall", "func/Inches", "flow/Tall"} { // the flow comes last
		put(t, g, key, documents[key])
	}
	began := time.Now()
	testprocess.Until(t, "the new flow is active", func() error {
		out := g.MustKisgrid("", "rollout", "status", "Tall")
		if !strings.Contains(out, "active") {
			return &told{out}
		}
		return nil
	})
	t.Logf("the new flow was active %v after etcdctl had put it, or before", time.Since(began).Round(time.Millisecond))
	want := `{"inches":72,"name":"ö"}` + "\n"
	if code, out, log := g.Kisgrid(`{"name":"ö","height":183}`+"\n"+`{"name":"b","height":150}`+"\n", "submit", "Tall", "--results"); code != 0 || out != want {
		t.Errorf("submit Tall ended with %d and printed:\n%s%s", code, out, log)
	}

	// A mistake in an expression keeps the old revision running; the status has the place and a caret.
	put(t, g, "func/Tall", strings.Replace(documents["func/Tall"], "height >= 180", "heigth >= 180 and hight", 1)+"source: {fields: {height: int, name: string}}\n")
	testprocess.Until(t, "the mistake is told", func() error {
		_, out, log := g.Kisgrid("", "rollout", "status", "Tall")
		if out += log; !strings.Contains(out, "heigth is not a field of the row: write height") || !strings.Contains(out, "hight is not a field of the row") || !strings.Contains(out, "^^^^^^") {
			return &told{out}
		}
		return nil
	})
	if code, out, log := g.Kisgrid(`{"name":"ö","height":183}`+"\n", "submit", "Tall", "--results"); code != 0 || out != want {
		t.Errorf("beside a bad document, submit Tall ended with %d and printed:\n%s%s", code, out, log)
	}
	if after := processes(t, g); !slices.Equal(before, after) {
		t.Errorf("the processes were %v and are %v", before, after)
	}
}

// put puts a document as operators do.
func put(t *testing.T, g *testgrid.Grid, key, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "etcdctl", "--endpoints", g.Etcd, "put", "/kisgrid/config/"+key)
	cmd.Stdin = strings.NewReader(text)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl put %s: %v\n%s", key, err, out)
	}
}

// processes returns the ids of the workers, which processes draw when they start.
func processes(t *testing.T, g *testgrid.Grid) (ids []string) {
	t.Helper()
	var workers []struct {
		ID          string `json:"id"`
		Expressions int    `json:"expressions"`
	}
	if err := json.Unmarshal([]byte(g.MustKisgrid("", "get", "workers", "-o", "json")), &workers); err != nil {
		t.Fatal(err)
	}
	for _, w := range workers {
		ids = append(ids, fmt.Sprint(w.ID, w.Expressions))
	}
	slices.Sort(ids)
	return ids
}

// kisgrid run needs neither a cluster nor a Go program.
func TestRunExpressions(t *testing.T) {
	rows := filepath.Join(t.TempDir(), "rows.ndjson")
	if err := os.WriteFile(rows, []byte(`{"stu_id":101,"score_1":100,"score_2":90}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redis := testprocess.Address(t)
	testgrid.StartRedis(t, redis)
	code, out, log := testprocess.Run(t, testprocess.Config{Env: []string{"REDIS_ADDR=" + redis}}, "kisgrid", "run", expressions, "CalStuAvgScore12", "-f", rows)
	if want := `{"stu_id":101,"avg_score":95}` + "\n"; code != 0 || !strings.Contains(out, want) {
		t.Errorf("run ended with %d and printed:\n%s%s", code, out, log)
	}
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// averages is the output of the demo: the averages of the students' example.
const averages = `flow              stu_id  avg_score
CalStuAvgScore12  101     95
CalStuAvgScore12  102     90
CalStuAvgScore3   101     90
CalStuAvgScore3   102     83.33333333333333
`

func TestDemo(t *testing.T) {
	code, out, log := testprocess.Run(t, testprocess.Config{}, "kisgrid", "demo")
	if code != 0 || out != averages {
		t.Fatalf("demo ended with %d and printed:\n%s\nIt told:\n%s", code, out, log)
	}
	for _, step := range []string{"etcd is up: 127.0.0.1:", "redis is up: 127.0.0.1:", "coordinator is up: 127.0.0.1:", "worker is up: worker-2", "documents applied", "both flows submitted"} {
		if !strings.Contains(log, step) {
			t.Errorf("the demo does not tell %q", step)
		}
	}
}

// TestOperator does the work of an operator on the first day: apply, get, submit, explain, lint, stop.
func TestOperator(t *testing.T) {
	g := startGrid(t, 2)

	out := g.MustKisgrid("", "apply", "-f", conf)
	for _, want := range []string{
		"flow/CalStuAvgScore12 created", "flow/CalStuAvgScore3 created", "conn/Score12Cache created",
		"flow CalStuAvgScore12: active, taken by 2 of 2 workers", "flow CalStuAvgScore3: active, taken by 2 of 2 workers",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("apply does not print %q:\n%s", want, out)
		}
	}
	if out := g.MustKisgrid("", "apply", "-f", conf); !strings.Contains(out, "nothing to change") {
		t.Errorf("applying the same again prints:\n%s", out)
	}

	for kind, want := range map[string][]string{
		"flows":        {"CalStuAvgScore12", "CalStuAvgScore3", "active", "stu_id"},
		"workers":      {"w1-", "w2-", "ready"},
		"coordinators": {"coordinator-", g.Coordinators[0].Address},
		"functions":    {"VerifyStu", "LoadScoreAvg12"},
		"connectors":   {"Score12Cache"},
	} {
		out := g.MustKisgrid("", "get", kind)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("get %s does not print %q:\n%s", kind, w, out)
			}
		}
	}

	// Rows of CalStuAvgScore3 come first: they wait for the averages that CalStuAvgScore12 saves.
	waiting := testprocess.Start(t, testprocess.Config{Name: "submit CalStuAvgScore3", Stdin: "{\"stu_id\":101,\"score_3\":80}\n{\"stu_id\":102,\"score_3\":70}\n"},
		"kisgrid", "submit", "CalStuAvgScore3", "--results", "--server", g.Addresses())
	testprocess.Until(t, "flow 3 is under way", func() error {
		n, err := testgrid.Metric(g.Coordinators[0].HTTP, "kisgrid_rows_in_flight", `flow="CalStuAvgScore3"`)
		if err == nil && n != 2 {
			err = fmt.Errorf("%g rows in flight", n)
		}
		return err
	})
	code, out, log := g.Kisgrid("{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n{\"stu_id\":102,\"score_1\":100,\"score_2\":80}\n", "submit", "CalStuAvgScore12", "--results")
	if want := "{\"stu_id\":101,\"avg_score\":95}\n{\"stu_id\":102,\"avg_score\":90}\n"; code != 0 || out != want {
		t.Errorf("submit CalStuAvgScore12 ended with %d and printed:\n%s%s", code, out, log)
	}
	if !strings.Contains(log, "2 rows in 1 batches") || !strings.Contains(log, "2 done 0 filtered 0 aborted 0 dead 0 failed") {
		t.Errorf("submit's summary is:\n%s", log)
	}
	if want := "{\"stu_id\":101,\"avg_score\":90}\n{\"stu_id\":102,\"avg_score\":83.33333333333333}\n"; waiting.Wait() != 0 || waiting.Out() != want {
		t.Errorf("submit CalStuAvgScore3 ended with %d and printed:\n%s%s", waiting.Wait(), waiting.Out(), waiting.Log())
	}
	if got := average(g, 101); got != "95" {
		t.Errorf("Redis has %s as student 101's average", got)
	}

	// A bad row makes the exit code 1, and does not affect other rows.
	code, _, log = g.Kisgrid("{\"stu_id\":7,\"score_1\":1,\"score_2\":3}\nnot json\n{\"stu_id\":5000}\n", "submit", "CalStuAvgScore12")
	if code != 1 || !strings.Contains(log, "1 done 1 filtered 0 aborted 1 dead") || !strings.Contains(log, "line 2: dead: ROW_UNDECODABLE") ||
		!strings.Contains(log, "line 3: filtered in VerifyStu: DROPPED: stu_id 5000 is outside 0..999") {
		t.Errorf("submit of a bad row ended with %d and told:\n%s", code, log)
	}
	if got := average(g, 7); got != "2" {
		t.Errorf("Redis has %s as student 7's average", got)
	}

	if out := g.MustKisgrid("", "explain", "CalStuAvgScore12", "101"); !strings.Contains(out, "goes to w") || !strings.Contains(out, ", lane ") || !strings.Contains(out, "0 held back") {
		t.Errorf("explain prints %s", out)
	}
	if out := g.MustKisgrid("", "explain", "CalStuAvgScore12", "101", "-o", "json"); !json.Valid([]byte(out)) || !strings.Contains(out, `"worker": "w`) {
		t.Errorf("explain -o json prints %s", out)
	}
	if out := testprocess.MustRun(t, testprocess.Config{}, "kisgrid", "lint", conf); !strings.Contains(out, "2 flows, 6 functions, 1 connectors") {
		t.Errorf("lint prints %s", out)
	}

	// Both stop cleanly, and delete their keys in etcd.
	for _, w := range g.Workers {
		w.Stop()
	}
	testprocess.Until(t, "the coordinator has seen the workers go", func() error {
		if out := g.MustKisgrid("", "get", "workers"); !strings.Contains(out, "no workers") {
			return &told{out}
		}
		return nil
	})
	g.Coordinators[0].Stop()
}

// TestEtcdctl changes flows with etcdctl alone: the documents that it puts are those that run.
func TestEtcdctl(t *testing.T) {
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("etcdctl is not installed; .ci/run installs it")
	}
	g := startGrid(t, 1)
	t.Setenv("ETCDCTL_API", "3")
	etcdctl := func(stdin string, args ...string) string {
		t.Helper()
		return testprocess.MustRun(t, testprocess.Config{Stdin: stdin}, "etcdctl", append([]string{"--endpoints", g.Etcd}, args...)...)
	}
	err := filepath.WalkDir(conf, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		kind, name := documentName(t, string(text))
		etcdctl(string(text), "put", "/kisgrid/config/"+kind+"/"+name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitFlow := func(flow, want string) {
		t.Helper()
		testprocess.Until(t, flow+" is "+want, func() error {
			code, out, log := g.Kisgrid("", "get", "flow", flow)
			if code != 0 || !strings.Contains(out, want) {
				return fmt.Errorf("get flow ended with %d: %s%s", code, out, log)
			}
			return nil
		})
	}
	awaitFlow("CalStuAvgScore12", "active")
	rows := "{\"stu_id\":5000,\"score_1\":2,\"score_2\":4}\n"
	if _, _, log := g.Kisgrid(rows, "submit", "CalStuAvgScore12"); !strings.Contains(log, "1 filtered") {
		t.Errorf("before the change, submit told:\n%s", log)
	}

	// Without VerifyStu, student 5000 is like any other. The next batch already runs on the changed flow.
	flow := "kistype: flow\nstatus: 1\nflow_name: CalStuAvgScore12\nshard_key: stu_id\nflows:\n  - fname: AvgStuScore12\n  - fname: PrintStuAvgScore\n"
	etcdctl(flow, "put", "/kisgrid/config/flow/CalStuAvgScore12")
	testprocess.Until(t, "the new revision runs", func() error {
		if code, out, log := g.Kisgrid(rows, "submit", "CalStuAvgScore12", "--results"); code != 0 || out != "{\"stu_id\":5000,\"avg_score\":3}\n" {
			return fmt.Errorf("submit ended with %d: %s%s", code, out, log)
		}
		return nil
	})

	// A bad document changes nothing that runs. The status says where the document is wrong.
	etcdctl(strings.Replace(flow, "flow_name", "flow_nmae", 1), "put", "/kisgrid/config/flow/CalStuAvgScore12")
	awaitFlow("CalStuAvgScore12", "rejected")
	if out := g.MustKisgrid("", "get", "flow", "CalStuAvgScore12"); !strings.Contains(out, "flow_nmae") || !strings.Contains(out, "/kisgrid/config/flow/CalStuAvgScore12:3") {
		t.Errorf("the status does not name document, line and key:\n%s", out)
	}
	if out := g.MustKisgrid(rows, "submit", "CalStuAvgScore12", "--results"); out != "{\"stu_id\":5000,\"avg_score\":3}\n" {
		t.Errorf("with a bad document in etcd, submit prints:\n%s", out)
	}

	for _, key := range []string{"/kisgrid/config/func/VerifyStu", "/kisgrid/workers/w1-", "/kisgrid/coordinators/coordinator-", "/kisgrid/status/flow/CalStuAvgScore3", "/kisgrid/history/flow/CalStuAvgScore3/", "/kisgrid/leader"} {
		if out := etcdctl("", "get", "--prefix", "/kisgrid/", "--keys-only"); !strings.Contains(out, key) {
			t.Errorf("etcd has no key %s…:\n%s", key, out)
		}
	}
	etcdctl("", "del", "/kisgrid/config/flow/CalStuAvgScore12")
	testprocess.Until(t, "the flow is gone", func() error {
		if code, _, log := g.Kisgrid(rows, "submit", "CalStuAvgScore12"); code != 1 || !strings.Contains(log, "UNKNOWN_FLOW") {
			return fmt.Errorf("submit ended with %d: %s", code, log)
		}
		return nil
	})
}

// documentName reads kind and name of a document from its lines kistype and flow_name, fname or cname.
func documentName(t *testing.T, text string) (kind, name string) {
	t.Helper()
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "kistype":
			kind = value
		case "flow_name", "cname", "fname":
			if name == "" {
				name = value
			}
		}
	}
	if kind == "" || name == "" {
		t.Fatalf("a document without kind or name:\n%s", text)
	}
	return kind, name
}

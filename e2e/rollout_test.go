package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// short is the flow CalStuAvgScore12 without its first and third function.
const short = "kistype: flow\nstatus: 1\nflow_name: CalStuAvgScore12\nshard_key: stu_id\nflows:\n  - fname: AvgStuScore12\n  - fname: PrintStuAvgScore\n"

// TestRollout changes a flow back and forth with the command line. Each change that fails must be reported with exit code 1.
func TestRollout(t *testing.T) {
	g := startGrid(t, 1)
	says := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("it does not print %q:\n%s", w, out)
			}
		}
	}
	fails := func(stdin string, args ...string) string {
		t.Helper()
		code, out, log := g.Kisgrid(stdin, args...)
		if code != 1 {
			t.Errorf("kisgrid %s ended with %d:\n%s%s", strings.Join(args, " "), code, out, log)
		}
		return out + log
	}
	g.MustKisgrid("", "apply", "-f", conf)

	// Applying exported documents changes nothing.
	dir := filepath.Join(t.TempDir(), "backup")
	says(g.MustKisgrid("", "export", dir), "9 documents written")
	says(g.MustKisgrid("", "apply", "-f", dir), "nothing to change")

	// A dry run writes nothing. Documents from standard input are written like those of a file.
	says(g.MustKisgrid(short, "apply", "-f", "-", "--dry-run"), "flow/CalStuAvgScore12 changed", "-  - fname: VerifyStu", "1 documents would be written")
	says(g.MustKisgrid("", "apply", "-f", dir), "nothing to change")
	says(g.MustKisgrid(short, "apply", "-f", "-"), "flow/CalStuAvgScore12 changed", "-  - fname: VerifyStu", "1 documents written at revision", "flow CalStuAvgScore12: active, taken by 1 of 1 workers")
	says(g.MustKisgrid("", "rollout", "status", "CalStuAvgScore12"), "flow CalStuAvgScore12: active")
	history := g.MustKisgrid("", "rollout", "history", "CalStuAvgScore12")
	if lines := strings.Split(strings.TrimSpace(history), "\n"); len(lines) != 3 || !strings.Contains(lines[2], "yes") || strings.Contains(lines[1], "yes") {
		t.Errorf("the history is:\n%s", history)
	}
	testprocess.Until(t, "SaveScoreAvg12 is needed by nobody", func() error {
		if out := g.MustKisgrid("", "get", "function", "SaveScoreAvg12"); !strings.Contains(out, "unused") {
			return fmt.Errorf("it is: %s", out)
		}
		return nil
	})
	says(g.MustKisgrid("", "rollout", "undo", "CalStuAvgScore12"), "+  - fname: VerifyStu", "flow CalStuAvgScore12: active")
	says(g.MustKisgrid("", "apply", "-f", dir), "nothing to change")
	testprocess.Until(t, "the documents of functions and connectors have a status", func() error {
		out := g.MustKisgrid("", "get", "function", "VerifyStu") + g.MustKisgrid("", "get", "connector", "Score12Cache")
		if strings.Count(out, "2 of 2 flows that need it") != 2 || !strings.Contains(out, "CalStuAvgScore12") {
			return fmt.Errorf("get prints:\n%s", out)
		}
		return nil
	})
	says(g.MustKisgrid("", "get", "connector", "Score12Cache", "-o", "json"), `"state": "active"`, `"CalStuAvgScore3"`)

	// A change that can't be made is refused before anything is written.
	says(fails("", "rollout", "undo", "CalStuAvgScore12", "--to", "1"), "revision 1 of flow CalStuAvgScore12 is not kept")
	says(fails("kistype: func\nfname: Lost\nfmode: Save\noption:\n  cname: Nowhere\n", "apply", "-f", "-"), "nothing was written", "option.cname", "Nowhere")
	says(fails(strings.Replace(short, "flow_name", "flow_nmae", 1), "apply", "-f", "-"), "standard input:3", "flow_nmae")
	says(fails("", "delete", "function", "AvgStuScore12"), "nothing was deleted", "CalStuAvgScore12 needs it")
	many, large := "", ""
	for i := range 130 {
		many += fmt.Sprintf("---\nkistype: func\nfname: Many%d\nfmode: Verify\n", i)
	}
	for i := range 3 {
		large += fmt.Sprintf("---\nkistype: func\nfname: Large%d\nfmode: Verify\n# %s\n", i, strings.Repeat("x", 600<<10))
	}
	says(fails(many, "apply", "-f", "-"), "130 keys at once, etcd takes 128")
	says(fails(large, "apply", "-f", "-"), "bytes at once, etcd takes 1572864")
	says(g.MustKisgrid("", "apply", "-f", dir), "nothing to change")

	// A new revision whose function no worker has waits, and the old revision runs on.
	third := short + "  - fname: Third\n---\nkistype: func\nfname: Third\nfmode: Verify\n"
	says(fails(third, "apply", "-f", "-", "--timeout", "2s"), "flow CalStuAvgScore12: pending", "stays active", "function Third is missing on 1 live workers")
	says(fails("", "rollout", "status", "CalStuAvgScore12", "--timeout", "1s"), "pending", "Third")
	says(g.MustKisgrid("", "rollout", "undo", "CalStuAvgScore12", "--to", activeOf(t, g)), "flow CalStuAvgScore12: active")

	// A worker that does not answer is named when the time is up.
	g.Workers[0].Signal(syscall.SIGSTOP)
	out := fails(short, "apply", "-f", "-", "--timeout", "1s")
	g.Workers[0].Signal(syscall.SIGCONT)
	says(out, "applying, taken by 0 of 1 workers", "w1-", "has not answered yet", "not settled within --timeout 1s")
	testprocess.Until(t, "the worker takes it", func() error {
		if code, out, log := g.Kisgrid("", "rollout", "status", "CalStuAvgScore12"); code != 0 {
			return fmt.Errorf("rollout status ended with %d: %s%s", code, out, log)
		}
		return nil
	})
}

// activeOf is the revision that rollout history shows as active.
func activeOf(t *testing.T, g *testgrid.Grid) string {
	t.Helper()
	for line := range strings.Lines(g.MustKisgrid("", "rollout", "history", "CalStuAvgScore12")) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[3] == "yes" {
			return fields[0]
		}
	}
	t.Fatal("no revision is active")
	return ""
}

// TestBadDocumentOutlivesCoordinators puts a bad document, kills the only coordinator, and starts another one. The revision that ran
// before runs again, and the status of the flow gives the reason.
func TestBadDocumentOutlivesCoordinators(t *testing.T) {
	g := startGrid(t, 1)
	g.MustKisgrid("", "apply", "-f", conf)
	bad := definition.Document{Kind: definition.KindFunc, Name: "AvgStuScore12", YAML: []byte("kistype: func\nfname: AvgStuScore12\nfmode: Calkulate\n")}
	testgrid.OpenDefinitions(t, g.Etcd).Put(bad)
	rejected := func() error {
		code, out, log := g.Kisgrid("", "get", "flow", "CalStuAvgScore12")
		if code != 0 || !strings.Contains(out, "rejected") || !strings.Contains(out, "/kisgrid/config/func/AvgStuScore12:3") || !strings.Contains(out, "fmode") {
			return fmt.Errorf("get flow ended with %d: %s%s", code, out, log)
		}
		return nil
	}
	testprocess.Until(t, "the flow is rejected", rejected)
	g.Coordinators[0].Kill()
	g.Coordinators[0].Start().Ready()
	g.AwaitWorkers(1)
	if out := g.MustKisgrid("{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n", "submit", "CalStuAvgScore12", "--results"); out != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Errorf("after a restart submit prints:\n%s", out)
	}
	testprocess.Until(t, "the flow is still rejected", rejected)
	testprocess.Until(t, "the function is rejected", func() error {
		if out := g.MustKisgrid("", "get", "function", "AvgStuScore12"); !strings.Contains(out, "rejected") || !strings.Contains(out, "Calkulate") {
			return fmt.Errorf("get function prints:\n%s", out)
		}
		return nil
	})
}

package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// TestNewProject starts a new project with kisgrid new, and does everything that the project's README tells a reader to do.
func TestNewProject(t *testing.T) {
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "grades")
	if out := testprocess.MustRun(t, testprocess.Config{}, "kisgrid", "new", dir, "--replace", checkout); !strings.Contains(out, "go run . run ./conf Grades -f rows.ndjson") {
		t.Errorf("new prints:\n%s", out)
	}
	if code, _, log := testprocess.Run(t, testprocess.Config{}, "kisgrid", "new", dir, "--replace", checkout); code != 1 || !strings.Contains(log, "is not empty") {
		t.Errorf("a second new ended with %d: %s", code, log)
	}
	if out := testprocess.MustRun(t, testprocess.Config{}, "kisgrid", "lint", filepath.Join(dir, "conf")); out != "3 documents are right: 1 flows, 2 functions, 0 connectors\n" {
		t.Errorf("kisgrid lint prints %q", out)
	}

	// goRun runs the go command in the project's folder. The project's go.mod and go.sum must be complete for it.
	goRun := func(args ...string) (code int, out, log string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		var stdout, stderr bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}
	program := filepath.Join(t.TempDir(), "grades")
	for _, args := range [][]string{{"build", "-o", program, "."}, {"vet", "./..."}, {"test", "./..."}} {
		if code, out, log := goRun(args...); code != 0 {
			t.Fatalf("go %s ended with %d:\n%s%s", strings.Join(args, " "), code, out, log)
		}
	}
	for _, test := range []struct {
		args     []string
		out, log string
	}{
		{
			args: []string{"run", "./conf", "Grades", "-f", "rows.ndjson"},
			out:  "{\"student\":\"ada\",\"grade\":\"passed\"}\n{\"student\":\"ben\",\"grade\":\"failed\"}\n",
			log: "line 3: filtered in CheckPoints: DROPPED: 101 points are not within 0..100\n" +
				"Grades: 3 rows in 1 batches, T s: 2 done 1 filtered 0 aborted 0 dead 0 failed\n",
		},
		{args: []string{"lint", "./conf"}, out: "1 flows are right, with their 2 functions and 0 connectors\n"},
	} {
		code, out, log := goRun(append([]string{"run", "."}, test.args...)...)
		log = regexp.MustCompile(`\d+\.\d s:`).ReplaceAllString(log, "T s:")
		if code != 0 || out != test.out || log != test.log {
			t.Errorf("go run . %s ended with %d:\n%s%s", strings.Join(test.args, " "), code, out, log)
		}
	}

	// The same flow runs on a cluster, with the same outcomes as in one process.
	g := startGrid(t, 0)
	g.Worker.Path = program
	g.StartWorker("grades")
	g.AwaitWorkers(1)
	if out := g.MustKisgrid("", "apply", "-f", filepath.Join(dir, "conf")); !strings.Contains(out, "flow Grades: active, taken by 1 of 1 workers") {
		t.Errorf("apply prints:\n%s", out)
	}
	code, out, log := g.Kisgrid("", "submit", "Grades", "-f", filepath.Join(dir, "rows.ndjson"), "--results")
	if want := "{\"student\":\"ada\",\"grade\":\"passed\"}\n{\"student\":\"ben\",\"grade\":\"failed\"}\n"; code != 0 || out != want ||
		!strings.HasPrefix(log, "line 3: filtered in CheckPoints: DROPPED: 101 points are not within 0..100\nGrades: 3 rows in 1 batches") {
		t.Errorf("submit ended with %d:\n%s%s", code, out, log)
	}
}

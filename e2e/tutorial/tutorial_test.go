//go:build unix

// Package tutorial runs pages of the documents as a reader does, block by block in shells, and compares the output with the page. A
// block that is not run must give the reason.
package tutorial

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTutorial follows docs/tutorial.md, from an empty folder to a cluster that loses a worker.
func TestTutorial(t *testing.T) { follow(t, "docs/tutorial.md", "etcdctl") }

// TestReadme follows the quick start of README.md.
func TestReadme(t *testing.T) { follow(t, "README.md") }

// TestAuthoring follows docs/authoring.md. Its Go code is compiled and run by TestAuthoring of package e2e.
func TestAuthoring(t *testing.T) { follow(t, "docs/authoring.md") }

// TestOperating follows the quick start of docs/operating.md, which starts an etcd and a Redis of its own.
func TestOperating(t *testing.T) { follow(t, "docs/operating.md", "etcd", "redis-server") }

// TestSDK follows docs/sdk.md, which compiles and runs a program for each thing that the Go client can do.
func TestSDK(t *testing.T) { follow(t, "docs/sdk.md") }

// TestHTTP follows docs/http.md, whose programs are in curl, Python and JavaScript.
func TestHTTP(t *testing.T) { follow(t, "docs/http.md", "curl", "python3", "node") }

// TestFirstChange follows docs/first-change.md: it applies the diffs, and runs the commands on the changed code. It is skipped in the
// checkout of a reader who has made the change by hand: the diffs fit the code only once.
func TestFirstChange(t *testing.T) {
	types, err := os.ReadFile("../../pkg/definition/types.go")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(types), "SaveDecr") {
		t.Skip("pkg/definition/types.go has SaveDecr, so the change of docs/first-change.md is made already; if it is to stay, give the page another change")
	}
	follow(t, "docs/first-change.md")
}

// follow runs every block of a page, in order. It skips the test where a program is not installed that the page needs.
func follow(t *testing.T, page string, programs ...string) {
	t.Helper()
	startsRedis := false
	for _, program := range append(programs, "bash") {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
		startsRedis = startsRedis || program == "redis-server"
	}
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	r := newReader(t, startsRedis, slices.ContainsFunc(steps, func(s step) bool { return s.diff }))
	run := 0
	for _, s := range steps {
		switch {
		case s.notRun != "":
			t.Logf("%s:%d is not run: %s", page, s.line, s.notRun)
		case s.file != "":
			r.write(s)
		default:
			r.follow(s)
			run++
		}
	}
	if run < 3 {
		t.Errorf("%d blocks of %s were run: its quick start has more", run, page)
	}
}

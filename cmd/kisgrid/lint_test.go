package main

import (
	"errors"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	if out, err := kisgrid("lint", "../../examples/students/conf"); err != nil || out != "9 documents are right: 2 flows, 6 functions, 1 connectors\n" {
		t.Errorf("%v, %q", err, out)
	}
	dir := t.TempDir()
	write(t, dir, "all.yml", "kistype: flow\nflow_name: F\nstatus: yes\nflows:\n  - fname: Sum\n---\nkistype: func\nfname: Som\nfmode: Calculate\n")
	write(t, dir, "conn.yaml", "kistype: conn\ncname: C\ntype: radis\naddrs: a:1\n")
	out, err := kisgrid("lint", dir)
	want := `DIR/all.yml:3: status: wants a whole number, not "yes"
DIR/conn.yaml:3: type: is "radis"; it may be redis, memory, mysql, kafka, tidb, es; did you mean "redis"?
`
	if got := strings.ReplaceAll(out, dir, "DIR"); !errors.Is(err, errTold) || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := kisgrid("lint", dir+"/none"); err == nil || !strings.HasPrefix(err.Error(), "NOT_FOUND: reading definitions: ") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

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
	if got := strings.ReplaceAll(out, dir, "DIR"); !errors.Is(err, errReported) || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := kisgrid("lint", dir+"/none"); err == nil || !strings.HasPrefix(err.Error(), "NOT_FOUND: reading definitions: ") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// One run of lint reports mistakes of spelling, mistakes in documents and wrong references, and warns of unknown parameters.
func TestLintTellsAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "conn.yml", "kistype: conn\ncname: C\ntype: redis\naddrs: 127.0.0.1\nparams:\n  read_timeout: 3000\n  pool_sise: 3\ntls: 'on'\n")
	write(t, dir, "flow.yml", "kistype: flow\nflow_name: F\nstatus: 1\nflows:\n  - fname: Sum\n")
	write(t, dir, "func.yml", "kistype: func\nfname: Som\nfmode: Calculation\n")
	out, err := kisgrid("lint", dir)
	if !errors.Is(err, errReported) {
		t.Errorf("lint returned %v", err)
	}
	for _, want := range []string{
		"warning: DIR/conn.yml:7: params.pool_sise: ", `did you mean "pool_size"?`, "\nDIR/conn.yml:4: addrs: ", "\nDIR/conn.yml:6: params.read_timeout: ",
		"\nDIR/conn.yml:8: tls: ", "\nDIR/flow.yml:5: flows[0].fname: ", "\nDIR/func.yml:3: fmode: ",
	} {
		if got := "\n" + strings.ReplaceAll(out, dir, "DIR"); !strings.Contains(got, want) {
			t.Errorf("lint told\n%s\nwithout %q", got, want)
		}
	}
}

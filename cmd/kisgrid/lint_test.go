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

// Lint compiles expressions, also of flows that need Go functions and of functions that no flow uses. All mistakes are told together, each with
// line, column and a caret.
func TestLintOfExpressions(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "all.yml", `kistype: flow
flow_name: F
status: 1
flows: [{fname: A, params: {most: x}}, {fname: B}, {fname: Go}]
---
kistype: func
fname: A
fmode: Verify
source: {fields: {stu_id: int, name: "string?"}}
option:
  verify: 0 <= stu_idd && stu_id <= params.most
  reason: >-
    "stu_id " + stu_id +
      upper(name)
---
kistype: func
fname: B
fmode: Calculate
option: {calculate: {x: 1 / "a", y: foo(3)}}
---
kistype: func
fname: Go
fmode: Calculate
---
kistype: func
fname: Lonely
fmode: Calculate
source: {fields: {a: string}}
option: {calculate: {x: a * 2, y: params.z + 1}}
---
kistype: flow
flow_name: G
status: 2
flows: [{fname: Nobody}]
`)
	out, err := kisgrid("lint", dir)
	if !errors.Is(err, errReported) {
		t.Errorf("lint returned %v", err)
	}
	got := "\n" + strings.ReplaceAll(out, dir, "DIR")
	for _, want := range []string{
		"\nDIR/all.yml:11:16: option.verify: stu_idd is not a field of the row: write stu_id", "\n    0 <= stu_idd && stu_id <= params.most\n         ^^^^^^^\n",
		"\nDIR/all.yml:11:27: option.verify: <= can't compare an int with a string", "\nDIR/all.yml:13:5: option.reason: + can't have a string on the left and an int on the right: write string(stu_id)",
		"\nDIR/all.yml:14:13: option.reason: name may be null or missing", "\nDIR/all.yml:19:25: option.calculate.x: / can't have an int on the left and a string on the right",
		"\nDIR/all.yml:19:37: option.calculate.y: there is no function foo", "\nDIR/all.yml:29:25: option.calculate.x: * can't have a string on the left", "\nDIR/all.yml:33: status: is 2; it may be 0 to 1",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lint told\n%s\nwithout %q", got, want)
		}
	}
	if n := strings.Count(got, "\nDIR/"); n != 8 {
		t.Errorf("lint told %d mistakes:\n%s", n, got)
	}
}

// A mistake in one document hides none in the expressions of others.
func TestLintTellsTypesBesideBrokenDocuments(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "all.yml", `kistype: flow
flow_name: F
flows: [{fname: A}, {fname: B, params: {most: x}}, {fname: C}, {fname: D}]
---
kistype: func
fname: A
fmode: Calculate
option: {calculate: {x: n +}}
---
kistype: func
fname: B
fmode: Verify
source: {fields: {name: string}}
option: {verify: nmae == params.most}
---
kistype: func
fname: D
fmode: Save
source: {fields: {name: string}}
option: {cname: Nowhere, save: {key: "= name + 1", delete: true}}
`)
	out, err := kisgrid("lint", dir)
	got := strings.ReplaceAll(out, dir, "DIR")
	for _, want := range []string{
		"DIR/all.yml:8:", "option.calculate.x: ", "DIR/all.yml:14:18: option.verify: nmae is not a field of the row: write name", "DIR/all.yml:20: option.cname: no document describes the connector",
		`flows[2].fname: no document describes the function "C"`, "option.save.key: + can't have a string on the left and an int on the right",
	} {
		if !errors.Is(err, errReported) || !strings.Contains(got, want) {
			t.Errorf("%v, lint told\n%s\nwithout %q", err, got, want)
		}
	}
	if n := strings.Count("\n"+got, "\nDIR/"); n != 5 {
		t.Errorf("lint told %d mistakes:\n%s", n, got)
	}
}

// Of flows with expressions, lint tells what each function reads and gives.
func TestLintTellsTypes(t *testing.T) {
	out, err := kisgrid("lint", "../../examples/students/conf-expressions")
	for _, want := range []string{
		"flow CalStuAvgScore12\n  1 VerifyStu (Verify): reads {stu_id: int}\n", "      calculate.avg_score  (score_1 + score_2) / 2 : float\n", "\n9 documents are right: 2 flows, 6 functions, 1 connectors\n",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, without %q:\n%s", err, want, out)
		}
	}
}

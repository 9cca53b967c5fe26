package casefile

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// documents are a flow that halves numbers up to 100, and keeps the last one and all of them.
const documents = `kistype: flow
status: 0
flow_name: Halves
shard_key: id
flows:
  - fname: Check
  - fname: Half
  - fname: Keep
  - fname: Log
---
kistype: flow
flow_name: Plain
flows: [{fname: Check}]
---
kistype: func
fname: Check
fmode: Verify
option:
  verify: n <= 100
  reason: string(n) + " is over 100"
---
kistype: func
fname: Half
fmode: Calculate
source:
  fields: {id: string, n: int}
option: {calculate: {id: id, half: n / 2, tags: "[id, n]"}}
---
kistype: func
fname: Keep
fmode: Save
option: {cname: Store, save: {key: "{id}", set: {half: half, tags: tags}}}
---
kistype: func
fname: Log
fmode: Save
option: {cname: Store, save: {key: log, append: {half: half}}}
---
kistype: conn
cname: Store
type: redis
addrs: ${NO_SUCH_VARIABLE}
key: prefix_
params: {pool_size: "${NO_SUCH_VARIABLE}"}
`

// suite writes the documents and a test file into a folder.
func suite(t *testing.T, cases string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"flow.yml": documents, "a_test.yml": cases} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run runs all cases of a folder.
func run(t *testing.T, dir string) (results []*Result) {
	t.Helper()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	none := func(*kis.Registry) {}
	if err := s.Compile(regexp.MustCompile(""), none); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background(), regexp.MustCompile(""), none, func(r *Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	return results
}

// told returns what is printed of results, with the folder's name taken out.
func told(dir string, results []*Result) string {
	var b strings.Builder
	for _, r := range results {
		r.Tell(&b, false)
	}
	return strings.ReplaceAll(b.String(), dir+string(filepath.Separator), "")
}

const rightCases = `tests:
  - name: everything at once
    flow: Halves
    before:
      Store:
        a: {half: 7, kept: true}
        log: [1, two]
    rows:
      - {id: a, n: 5}
      - {id: b, n: 0x10}
      - {id: c, n: 101}
      - {id: d}
      - {id: a, n: 6}
    output:
      - {half: 2.50, id: a, tags: [a, 5]}
      - {id: b, half: 8.0, tags: [b, 16]}
      - {id: a, half: 3, tags: [a, 6]}
    outcomes:
      - {row: 3, outcome: filtered, function: Check, code: DROPPED, reason: 101 is over 100}
      - {row: 4, outcome: dead, function: Check, reason_contains: missing}
    after:
      Store:
        a: {half: 3.0, kept: true, tags: [a, 6]}
        b: {half: "8", tags: '["b",16]'}
        log: [1, two, 2.5, 8, 3]
  - name: rows of a file
    flow: Plain
    rows_file: rows.txt
    output: []
    outcomes: [{row: 1, outcome: filtered}, {row: 2, outcome: dead, code: ROW_UNDECODABLE}]
`

func TestCasesThatPass(t *testing.T) {
	dir := suite(t, rightCases)
	if err := os.WriteFile(filepath.Join(dir, "rows.txt"), []byte("{\"n\": 1000}\n\nno JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	results := run(t, dir)
	if got := told(dir, results); got != "" || len(results) != 2 {
		t.Errorf("%d results\n%s", len(results), got)
	}
}

// Each difference names its place, and the function where a row has ended.
func TestDifferences(t *testing.T) {
	const head = "tests:\n  - name: x\n    flow: Halves\n    rows: [{id: a, n: 5}, {id: b, n: 7}]\n"
	for _, tt := range []struct{ name, cases, want string }{
		{"field", "    output:\n      - {id: a, half: 2, tags: [a, 5, 6]}\n      - {id: b, half: \"3.5\", tags: [b], more: 1}\n", `line 6: output 1, of row 1: half: is 2.5, want 2
line 6: output 1, of row 1: tags[2]: is missing, want 6
line 7: output 2, of row 2: half: is 3.5, want "3.5"
line 7: output 2, of row 2: more: is missing, want 1
line 7: output 2, of row 2: tags[1]: is 7, want none`},
		{"one row too many", "    output:\n      - {id: b, half: 3.5, tags: [b, 7]}\n", `output 1, of row 1: is {"id":"a","half":2.5,"tags":["a",5]}, want none`},
		{"one row too few", "    output:\n      - {id: a, half: 2.5, tags: [a, 5]}\n      - {id: x}\n      - {id: b, half: 3.5, tags: [b, 7]}\n", `line 7: output 2: is missing, want {"id":"x"}`},
		{"no object", "    output: [3, {id: b, half: 3.5, tags: [b, 7]}]\n", `line 5: output 1, of row 1: is {"half":2.5,"id":"a","tags":["a",5]}, want 3`},
		{"outcome", "    outcomes:\n      - {row: 2, outcome: filtered}\n", `line 6: row 2: is done, want filtered`},
		{"key", "    after:\n      Store: {a: {half: 2.5}, log: {x: y}, c: [1]}\n", `line 6: connector Store, key "a": tags: is "[\"a\",5]", want none
line 6: connector Store, key "c": is missing, want [1]
line 6: connector Store, key "log": is ["2.5", "3.5"], want {x: "y"}
line 6: connector Store, key "b": is {half: "3.5", tags: "[\"b\",7]"}, want none`},
		{"list", "    after:\n      Store: {a: {half: 2.5, tags: [a, 5]}, b: {half: 3.5, tags: [b, 8]}, log: [2.5, 4, 5]}\n", `line 6: connector Store, key "b": tags: is "[\"b\",7]", want ["b",8]
line 6: connector Store, key "log": [1]: is "3.5", want 4
line 6: connector Store, key "log": [2]: is missing, want 5`},
		{"nothing", "", "BAD_DOCUMENT: the case compares nothing: write output, outcomes or after, or let --update write them"},
	} {
		dir := suite(t, head+tt.cases)
		var got []string
		for line := range strings.Lines(told(dir, run(t, dir))) {
			got = append(got, strings.TrimSpace(line))
		}
		want := append([]string{"FAIL  a_test.yml:2: x"}, strings.Split(tt.want, "\n")...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// A row that the case does not list must be done, whatever else the case compares; the function where it ended is told, with the reason.
func TestRowsThatAreNotListedMustBeDone(t *testing.T) {
	dir := suite(t, "tests:\n  - name: x\n    flow: Halves\n    rows: [{id: a, n: 500}, {id: b, n: word}]\n    output: []\n  - name: y\n    flow: Halves\n    rows: [{id: a, n: 500}]\n"+
		"    outcomes: [{row: 1, outcome: filtered, function: Half, reason: z, reason_contains: y}]\n  - name: z\n    flow: Halves\n    rows: [{id: a, n: 500}]\n    outcomes: [{row: 1, outcome: filtered, code: ABORTED}]\n")
	got := told(dir, run(t, dir))
	for _, want := range []string{
		"      row 1: is filtered in Check, want done\n        DROPPED: 500 is over 100\n", "      row 2: is dead in Check, want done\n        FUNCTION_ERROR: ",
		"line 9: row 1: function: is Check, want Half\n", `line 9: row 1: reason: is "500 is over 100", want "z"`, `want one that contains "y"`,
		"line 13: row 1: code: is DROPPED, want ABORTED\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told in\n%s", want, got)
		}
	}
}

// A file with a mistake is refused as a whole, with all mistakes: nothing that is misspelt passes.
func TestMistakes(t *testing.T) {
	const head = "tests:\n  - name: x\n    flow: Halves\n    rows: [{id: a}]\n"
	for _, tt := range []struct{ cases, want string }{
		{"", "is empty: write tests, with a list of cases, or remove the file"},
		{"test: []\n", "1: test: is not a key here; the keys are tests; did you mean \"tests\"?\n1: tests: is missing: write a list of cases"},
		{"tests:\n", "1: tests: wants a list, not nothing: write [] for none, or take the key out"},
		{"tests: []\n", "1: tests: has no case: write at least one, or remove the file"},
		{"tests: [a]\n", `1: tests[0]: wants keys with values, not "a"`},
		{"tests: [\n", "is not YAML: line 1: did not find expected node content"},
		{head + "---\ntests: []\n", "5: is a second document: write all cases under one tests"},
		{"tests: [{}]\n", "1: tests[0].name: is missing: say what the case shows\n1: tests[0].flow: is missing: write the name of the flow that the rows run through\n" +
			"1: tests[0].rows: is missing: write the rows that run through the flow, or rows_file with the name of a file"},
		{head + "    outputs: []\n", `5: tests[0].outputs: is not a key here; the keys are name, flow, before, rows, rows_file, output, outcomes, after; did you mean "output"?`},
		{head + "    output:\n", "5: tests[0].output: wants a list, not nothing: write [] for none, or take the key out"},
		{head + "    output: {id: a}\n", "5: tests[0].output: wants a list, not keys with values"},
		{head + "    output: [{a: .inf}]\n", "5: tests[0].output[0].a: is .inf, which JSON can't have: write a text in quotes, or a number in decimal digits"},
		{head + "    output: [{a: 1, a: 2}]\n", "5: tests[0].output[0].a: is written twice, first on line 5"},
		{head + "    rows_file: x\n", "5: tests[0].rows_file: comes beside rows: write one of the two"},
		{"tests: [{name: x, flow: Halves, rows: []}]\n", "1: tests[0].rows: has no row: write at least one"},
		{"tests: [{name: x, flow: Halve, rows: [1], output: []}]\n", `1: tests[0].flow: no document describes the flow "Halve"; did you mean "Halves"?`},
		{head + "    output: []\n  - name: x\n    flow: Plain\n    rows: [1]\n    output: []\n", `6: tests[1].name: is "x", as that of the case on line 2: give each case a name of its own`},
		{head + "    outcomes: [{row: 2, outcome: done}]\n", "5: tests[0].outcomes[0].row: is 2; the case has the rows 1 to 1"},
		{head + "    outcomes: [{row: 0, outcome: done}]\n", "5: tests[0].outcomes[0].row: is 0; the case has the rows 1 to 1"},
		{head + "    outcomes: [{row: 1.5, outcome: done}]\n", `5: tests[0].outcomes[0].row: wants the number of a row, from 1, not "1.5"`},
		{head + "    outcomes: [{outcome: done}, {row: 1}]\n", "5: tests[0].outcomes[0].row: is missing: write the number of the row, from 1\n" +
			"5: tests[0].outcomes[1].outcome: is missing: write one of done, filtered, aborted, dead, failed"},
		{head + "    outcomes: [{row: 1, outcome: filterd}]\n", `5: tests[0].outcomes[0].outcome: is "filterd"; it may be done, filtered, aborted, dead, failed; did you mean "filtered"?`},
		{head + "    outcomes: [{row: 1, outcome: dead}, {row: 1, outcome: done}]\n", "5: tests[0].outcomes[1].row: is 1, as on line 5: a row has one outcome"},
		{head + "    outcomes: [{row: 1, outcome: done, code: DROPPED}]\n", "5: tests[0].outcomes[0]: is done, and a row that is done has no function, code and reason: take them out"},
		{head + "    outcomes: [{row: 1, outcome: dead, function: Halt, code: DROPED}]\n", `5: tests[0].outcomes[0].function: is "Halt", which the flow Halves does not have (it has Check, Half, Keep, Log); did you mean "Half"?` + "\n" +
			`5: tests[0].outcomes[0].code: is "DROPED", which is no code; did you mean "DROPPED"?`},
		{head + "    outcomes: [{row: 1, outcome: dead, reasn: x}]\n", `5: tests[0].outcomes[0].reasn: is not a key here; the keys are row, outcome, function, code, reason, reason_contains; did you mean "reason"?`},
		{head + "    after: {}\n", "5: tests[0].after: names no connector, so it compares nothing: name one, with {} if it should hold nothing"},
		{head + "    after: {Stor: {}}\n", `5: tests[0].after.Stor: is no connector of the flow Halves (it uses Store); did you mean "Store"?`},
		{"tests: [{name: x, flow: Plain, rows: [1], after: {Store: {}}}]\n", "1: tests[0].after.Store: is no connector of the flow Plain (it uses none)"},
		{head + "    before: {Store: {a: 5}}\n", `5: tests[0].before.Store.a: wants the fields of a hash, as field: value, or a list, not "5"`},
		{head + "    before: {Store: {a: {}, b: [], c: {d: }}}\n", "5: tests[0].before.Store.a: has no field: a key without fields is not there; take it out\n" +
			"5: tests[0].before.Store.b: has no element: a key without elements is not there; take it out\n5: tests[0].before.Store.c.d: is empty: write the stored text, with \"\" for an empty one"},
	} {
		dir := suite(t, tt.cases)
		_, err := Load(dir)
		got := ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "BAD_DOCUMENT: ")
			got = strings.ReplaceAll(got, filepath.Join(dir, "a_test.yml")+":", "")
		}
		if strings.TrimSpace(got) != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.cases, got, tt.want)
		}
	}
}

// Update writes what has happened into the cases that did not pass, and leaves every other line alone. What it writes passes.
func TestUpdate(t *testing.T) {
	const before = `# A comment.
tests:
  # Of the first case.
  - name: a
    flow: Halves
    rows:
      - {id: a, n: 5} # five
      - {id: "yes", n: 500}
    output:
      - {id: a}   # wrong

    # Of the outcomes.
    outcomes:
      - {row: 2, outcome: filtered, reason_contains: over}
    after: {Store: {}}

  # Of the second case.
  - flow: Halves
    rows: [{id: "a: b", n: 7}, {id: b, n: 500}, {id: c, n: "\u0007"}]
    name: b
  # Of the third case.
  - output: [{id: a}]
    name: c
    flow: Halves
    rows:
      - {id: d, n: 100}
`
	const after = `# A comment.
tests:
  # Of the first case.
  - name: a
    flow: Halves
    rows:
      - {id: a, n: 5} # five
      - {id: "yes", n: 500}
    output:
      - {id: a, half: 2.5, tags: [a, 5]}

    # Of the outcomes.
    outcomes:
      - {row: 2, outcome: filtered, reason_contains: over}
    after:
      Store:
        a: {half: 2.5, tags: "[\"a\",5]"}
        log: [2.5]

  # Of the second case.
  - flow: Halves
    rows: [{id: "a: b", n: 7}, {id: b, n: 500}, {id: c, n: "\u0007"}]
    name: b
    output:
      - {id: "a: b", half: 3.5, tags: ["a: b", 7]}
    outcomes:
      - {row: 2, outcome: filtered, function: Check, code: DROPPED, reason: "500 is over 100"}
      - {row: 3, outcome: dead, function: Check, code: FUNCTION_ERROR}
    after:
      Store:
        "a: b": {half: 3.5, tags: "[\"a: b\",7]"}
        log: [3.5]
  # Of the third case.
  - output:
      - {id: d, half: 50, tags: [d, 100]}
    name: c
    flow: Halves
    rows:
      - {id: d, n: 100}
`
	dir := suite(t, before)
	changed, err := Update(run(t, dir))
	if path := filepath.Join(dir, "a_test.yml"); err != nil || len(changed) != 1 || changed[0] != path {
		t.Fatalf("changed %q, %v", changed, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "a_test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after, string(text)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	results := run(t, dir)
	if got := told(dir, results); got != "" {
		t.Errorf("after the update\n%s", got)
	}
	if changed, err := Update(results); err != nil || changed != nil {
		t.Errorf("the second update changed %q, %v", changed, err)
	}
	dir = suite(t, "tests: [{name: x, flow: Halves, rows: [{id: a, n: 5}], output: []}]\n")
	if _, err := Update(run(t, dir)); err == nil || !strings.Contains(err.Error(), `a_test.yml:1: the case "x" is written within { }`) {
		t.Errorf("a case on one line: %v", err)
	}
}

// Every text that Update writes is read as the same text.
func TestTextsAreWrittenAsYAML(t *testing.T) {
	for _, text := range []string{"", "a", "a b", "yes", "No", "null", "~", "true", "1", "1.5", ".5", "a: b", "a #b", "-", "- a", "[a", "{a}", "a, b", "'", `"`, "\\", "a\nb", " a", "a ", "\x00", "\u007f",
		"\u0085", "\u2028", "\ufeff", "😀", "ä", "?", "!a", "&a", "*a", "%a", "@a", "`a", "2026-11-30", "0x1f", "a:", "=", "<<", "y", "1_000", "=1+1", "50%", "a/b (c)"} {
		row, err := json.Marshal(map[string]any{text: []any{text}})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string][]any
		if err := yaml.Unmarshal([]byte("- "+flowStyle(row)), &[]any{&got}); err != nil {
			t.Errorf("%q: %v in %s", text, err, flowStyle(row))
			continue
		}
		var list []map[string][]any
		if err := yaml.Unmarshal([]byte("- "+flowStyle(row)), &list); err != nil || len(list) != 1 || len(list[0][text]) != 1 || list[0][text][0] != any(text) {
			t.Errorf("%q is written %s, and read as %v, %v", text, flowStyle(row), list, err)
		}
	}
}

func TestEqualValues(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true}, {"1", "10e-1", true}, {"0", "-0", true}, {"1", "2", false}, {"9007199254740993", "9007199254740992", false}, {"1", `"1"`, false},
		{"1e400", "10e399", true}, {"1e999999999999", "1e999999999998", false}, {"null", "null", true}, {"null", "0", false}, {"true", "true", true}, {"true", "false", false},
		{"[]", "{}", false}, {"[1]", "[1,2]", false}, {"[1,[2]]", "[1.0,[2]]", true}, {`{"a":1,"b":2}`, `{"b":2,"a":1}`, true}, {`{"a":null}`, "{}", false}, {"3", "[3]", false}, {`{"a":1}`, `{"b":1}`, false},
	} {
		a, errA := decode([]byte(tt.a))
		b, errB := decode([]byte(tt.b))
		if errA != nil || errB != nil || equal(a, b) != tt.want || equal(b, a) != tt.want {
			t.Errorf("%s and %s: equal is not %v (%v, %v)", tt.a, tt.b, tt.want, errA, errB)
		}
	}
}

// Two projects in one folder have documents of the same names: each test file is about those of its own folder.
func TestProjectsInOneFolder(t *testing.T) {
	dir := t.TempDir()
	for name, n := range map[string]string{"one": "1", "two": "2"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "func"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"flow.yml":      "kistype: flow\nflow_name: F\nflows: [{fname: N}]\n",
			"func/n.yml":    "kistype: func\nfname: N\nfmode: Calculate\noption: {calculate: {n: " + n + "}}\n",
			"case_test.yml": "tests: [{name: x, flow: F, rows: [{}], output: [{n: " + n + "}]}]\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name, filepath.FromSlash(file)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	results := run(t, dir)
	if got := told(dir, results); got != "" || len(results) != 2 {
		t.Errorf("%d results\n%s", len(results), got)
	}
	if err := os.WriteFile(filepath.Join(dir, "two", "flow.yml"), []byte("kistype: flow\nflow_name: F\nflows: [{fname: M}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), `no document describes the function "M"`) || strings.Contains(err.Error(), "one") {
		t.Errorf("a mistake in one of the projects: %v", err)
	}
}

// Lines that Update writes end as the others of the file.
func TestUpdateKeepsLineEnds(t *testing.T) {
	before := strings.ReplaceAll("tests:\n  - name: x\n    flow: Plain\n    rows: [{n: 1}]\n    output:\n      - 5\n", "\n", "\r\n")
	dir := suite(t, before)
	if _, err := Update(run(t, dir)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "a_test.yml"))
	if want := strings.Replace(before, "- 5", "- {n: 1}", 1); err != nil || string(text) != want {
		t.Errorf("the file is %q, want %q, %v", text, want, err)
	}
}

package worker

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

type score struct {
	Student int     `json:"student"`
	Points  float64 `json:"points"`
}

type grade struct {
	Student int    `json:"student"`
	Grade   string `json:"grade"`
}

func pointsGiven(context.Context, score) error { return nil }

func toGrade(_ context.Context, s score) (grade, error) {
	if s.Points >= 50 {
		return grade{s.Student, "passed"}, nil
	}
	return grade{s.Student, "failed"}, nil
}

func saveGrade(_ context.Context, to kis.Writer, g grade) error {
	to.Set(g.Grade, "student", g.Student)
	return nil
}

// registerGrades is what the documents of grades need.
func registerGrades(r *kis.Registry) {
	r.Func("PointsGiven", kis.Verify(pointsGiven))
	r.Func("ToGrade", kis.Calculate(toGrade))
	r.Func("SaveGrade", kis.Save(saveGrade))
}

// grades are documents that are right, by their files' names.
func grades() map[string]string {
	return map[string]string{
		"conn.yml":        "kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: grade_\n",
		"flow.yml":        "kistype: flow\nflow_name: Grades\nstatus: 1\nshard_key: student\nflows:\n  - fname: PointsGiven\n  - fname: ToGrade\n  - fname: SaveGrade\n",
		"PointsGiven.yml": "kistype: func\nfname: PointsGiven\nfmode: Verify\n",
		"ToGrade.yml":     "kistype: func\nfname: ToGrade\nfmode: Calculate\n",
		"SaveGrade.yml":   "kistype: func\nfname: SaveGrade\nfmode: Save\noption:\n  cname: Store\n",
	}
}

// writeConf writes documents into a new folder.
func writeConf(t *testing.T, documents map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runMain runs a worker's command line as a shell does.
func runMain(register func(*kis.Registry), stdin string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = execute(register, append([]string{"/bin/grades"}, args...), strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestLint(t *testing.T) {
	code, out, errs := runMain(registerGrades, "", "lint", writeConf(t, grades()))
	if code != 0 || out != "1 flows are right, with their 3 functions and 1 connectors\n" || errs != "" {
		t.Errorf("ended with %d, %q, %q", code, out, errs)
	}
	code, _, errs = runMain(registerGrades, "", "lint", "/no/such/folder")
	if want := "grades: NOT_FOUND: reading definitions: stat /no/such/folder: no such file or directory\n"; code != 1 || errs != want {
		t.Errorf("ended with %d, %q", code, errs)
	}
}

// TestLintMistakes has what people get wrong, and what they read then: where it is, what was found, what is wanted.
func TestLintMistakes(t *testing.T) {
	for _, test := range []struct {
		name     string
		file     string // that is written anew; "": none
		text     string
		register func(*kis.Registry) // nil: registerGrades
		want     string
	}{
		// Documents.
		{
			name: "a tab", file: "flow.yml", text: "kistype: flow\n\tflow_name: Grades\n",
			want: `flow.yml:2: is not YAML: found a tab character that violates indentation`,
		},
		{
			name: "a colon that is missing", file: "ToGrade.yml", text: "kistype: func\nfname ToGrade\nfmode: Calculate\n",
			want: `ToGrade.yml:2: is not YAML: could not find expected ':'
flow.yml:7: flows[1].fname: no document describes the function "ToGrade"; perhaps the document with the mistake at ToGrade.yml:2 does`,
		},
		{
			name: "no kistype", file: "ToGrade.yml", text: "fname: ToGrade\nfmode: Calculate\n",
			want: `ToGrade.yml:1: kistype: is missing: write one of flow, func, conn, global
flow.yml:7: flows[1].fname: no document describes the function "ToGrade"; perhaps the document with the mistake at ToGrade.yml:1 does`,
		},
		{
			name: "a key that is misspelt", file: "flow.yml", text: "kistype: flow\nflow_nam: Grades\nstatus: 1\nflows: [fname: ToGrade]\n",
			want: `flow.yml:1: flow_name: is missing: write the flow's name
flow.yml:2: flow_nam: is not a key here; the keys are kistype, status, flow_name, flows, shard_key, copies, timeout; did you mean "flow_name"?`,
		},
		{
			name: "an option outside option", file: "ToGrade.yml", text: "kistype: func\nfname: ToGrade\nfmode: Calculate\nretry_times: 3\n",
			want: `ToGrade.yml:4: retry_times: is not a key here; the keys are kistype, fname, fmode, source, option, timeout; it belongs under option`,
		},
		{
			name: "a mode in lower case", file: "ToGrade.yml", text: "kistype: func\nfname: ToGrade\nfmode: calculate\n",
			want: `ToGrade.yml:3: fmode: is "calculate"; it may be Verify, Save, Load, Calculate, Expand; did you mean "Calculate"?`,
		},
		{
			name: "a key written twice", file: "ToGrade.yml", text: "kistype: func\nfname: ToGrade\nfmode: Calculate\nfname: ToGrades\n",
			want: `ToGrade.yml:4: fname: is written twice, first on line 2`,
		},
		{
			name: "a function that is misspelt in the flow", file: "flow.yml", text: "kistype: flow\nflow_name: Grades\nstatus: 1\nflows:\n  - fname: ToGrad\n",
			want: `flow.yml:5: flows[0].fname: no document describes the function "ToGrad"; did you mean "ToGrade"?`,
		},
		{
			name: "a list of names", file: "flow.yml", text: "kistype: flow\nflow_name: Grades\nstatus: on\nflows: [ToGrade, SaveGrade]\n",
			want: `flow.yml:3: status: wants a whole number, not "on"
flow.yml:4: flows[0]: wants keys with values, not "ToGrade"
flow.yml:4: flows[1]: wants keys with values, not "SaveGrade"`,
		},
		{
			name: "a time without a unit", file: "flow.yml", text: "kistype: flow\nflow_name: Grades\nstatus: 1\ntimeout: 30\ncopies: 0\nflows: [fname: ToGrade]\n",
			want: `flow.yml:4: timeout: is "30", without a unit: write a duration such as 30s or 500ms
flow.yml:5: copies: is 0; it may be 1 to 65536`,
		},
		{
			name: "a connector that is misspelt", file: "SaveGrade.yml", text: "kistype: func\nfname: SaveGrade\nfmode: Save\noption:\n  cname: Stor\n",
			want: `SaveGrade.yml:5: option.cname: no document describes the connector "Stor"; did you mean "Store"?`,
		},
		{
			name: "a connector without addresses", file: "conn.yml", text: "kistype: conn\ncname: Store\ntype: reddis\nkey: ${KEY\n",
			want: `conn.yml:1: addrs: is missing: write the store's addresses, separated by commas
conn.yml:3: type: is "reddis"; it may be redis, memory, mysql, kafka, tidb, es; did you mean "redis"?
conn.yml:4: key: has a ${ without its }: a literal ${ is written $${`,
		},
		{
			name: "two documents for one function", file: "again.yml", text: "kistype: func\nfname: ToGrade\nfmode: Calculate\n",
			want: `again.yml:1: is a second document for the function "ToGrade": the first is ToGrade.yml:1; take one away`,
		},
		{
			name: "a wait in a function that does not load", file: "ToGrade.yml", text: "kistype: func\nfname: ToGrade\nfmode: Calculate\noption: {wait: 5s}\n",
			want: `ToGrade.yml:4: option.wait: is for functions of fmode Load; this one is Calculate`,
		},

		// Registration.
		{
			name: "a name that is registered twice",
			register: func(r *kis.Registry) {
				registerGrades(r)
				r.Func("ToGrade", kis.Calculate(toGrade))
			},
			want: `lint_test.go:N: register function "ToGrade": the name is taken since lint_test.go:N: choose another, or remove one of the two`,
		},
		{
			name: "functions that are none",
			register: func(r *kis.Registry) {
				registerGrades(r)
				r.Func("Nothing", kis.Verify[score](nil))
				r.Func("Channel", kis.Verify(func(context.Context, chan score) error { return nil }))
				r.FaaS("Shapeless", func([]score, ...int) {})
			},
			want: `lint_test.go:N: register function "Nothing": kis.Verify was given no function (nil): pass one
lint_test.go:N: register function "Channel": it reads chan worker.score, which JSON can't hold: a row is a struct, a map or a pointer to one
lint_test.go:N: register function "Shapeless": func([]worker.score, ...int) takes 0 context.Context and 0 kis.Flow: a FaaS function takes both
lint_test.go:N: register function "Shapeless": func([]worker.score, ...int) is variadic: take a slice instead
lint_test.go:N: register function "Shapeless": func([]worker.score, ...int) must return an error and nothing else`,
		},

		// Compiling.
		{
			name: "a function that is registered under another name",
			register: func(r *kis.Registry) {
				r.Func("PointsGiven", kis.Verify(pointsGiven))
				r.Func("toGrade", kis.Calculate(toGrade))
				r.Func("SaveGrade", kis.Save(saveGrade))
			},
			want: `flow.yml:7: flows[1].fname: no function "ToGrade" is registered here (these are: PointsGiven, SaveGrade, toGrade): register it under this name, or correct the name; did you mean "toGrade"?`,
		},
		{
			name: "a mode that is not the constructor's", file: "PointsGiven.yml", text: "kistype: func\nfname: PointsGiven\nfmode: Expand\n",
			want: `PointsGiven.yml:3: fmode: is Expand, but PointsGiven is registered as kis.Verify (lint_test.go:N): make the two agree`,
		},
		{
			name: "a Save without a connector", file: "SaveGrade.yml", text: "kistype: func\nfname: SaveGrade\nfmode: Save\noption:\n  retry_times: 1\n",
			want: `SaveGrade.yml:4: option.cname: is missing: SaveGrade is a kis.Save (lint_test.go:N), and needs the name of a connector`,
		},
		{
			name: "a field that the function before loses",
			file: "flow.yml", text: "kistype: flow\nflow_name: Grades\nstatus: 1\nflows:\n  - fname: ToGrade\n  - fname: PointsGiven\n",
			want: `flow.yml:6: flows[1].fname: PointsGiven reads (as worker.score) the field points, which worker.grade lacks, that ToGrade passes on (it has student, grade): add the field there`,
		},
		{
			name: "a field of another type",
			register: func(r *kis.Registry) {
				r.Func("PointsGiven", kis.Verify(pointsGiven))
				r.Func("ToGrade", kis.Calculate(toGrade))
				r.Func("SaveGrade", kis.Save(func(context.Context, kis.Writer, struct {
					Grade float64 `json:"grade"`
				}) error {
					return nil
				}))
			},
			want: `flow.yml:8: flows[2].fname: SaveGrade reads (as struct { Grade float64 "json:\"grade\"" }) the field grade as float64, but it is string in worker.grade, that ToGrade passes on: make the two types agree`,
		},
		{
			name: "a field that source.must names", file: "SaveGrade.yml", text: "kistype: func\nfname: SaveGrade\nfmode: Save\nsource: {must: [studnet]}\noption: {cname: Store}\n",
			want: `flow.yml:8: flows[2].fname: SaveGrade must have (source.must) the field studnet, which worker.grade lacks, that ToGrade passes on (it has student, grade): add the field there; did you mean "student"?`,
		},
		{
			name: "a declared Save that is registered too", file: "SaveGrade.yml",
			text: "kistype: func\nfname: SaveGrade\nfmode: Save\noption:\n  cname: Store\n  save: {key: '{student}', set: {grade: grade}}\n",
			want: `SaveGrade.yml:6: option.save: SaveGrade is declared by its document, and registered as kis.Save too (lint_test.go:N): remove one of the two`,
		},

		// All of it at once.
		{
			name: "mistakes of every kind", file: "PointsGiven.yml", text: "kistype: func\nfname: PointsGiven\nfmode: Verify\ntimeout: 5\n---\nkistype: flow\nflow_name: Other\nflows:\n- fname: SaveGrade\n- fname: ToGrade\n",
			register: func(r *kis.Registry) {
				r.Func("", kis.Verify(pointsGiven))
				r.Func("SaveGrade", kis.Calculate(toGrade))
			},
			want: `PointsGiven.yml:4: timeout: is "5", without a unit: write a duration such as 30s or 500ms
lint_test.go:N: register function "": the name is empty: give the function the name that the flow's document uses
flow.yml:7: flows[1].fname: no function "ToGrade" is registered here (these are: SaveGrade): register it under this name, or correct the name
SaveGrade.yml:3: fmode: is Save, but SaveGrade is registered as kis.Calculate (lint_test.go:N): make the two agree
PointsGiven.yml:10: flows[1].fname: no function "ToGrade" is registered here (these are: SaveGrade): register it under this name, or correct the name`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			documents := grades()
			if test.file != "" {
				documents[test.file] = test.text
			}
			if test.register == nil {
				test.register = registerGrades
			}
			dir := writeConf(t, documents)
			code, out, errs := runMain(test.register, "", "lint", dir)
			if code != 1 || out != "" {
				t.Errorf("ended with %d and printed %q", code, out)
			}
			if diff := cmp.Diff(test.want, told(errs, dir)); diff != "" {
				t.Error(diff)
			}
			// What can't be linted can't be run, for the same reasons.
			if code, _, again := runMain(test.register, "", "run", dir, "Grades"); code != 1 || again != errs {
				t.Errorf("run ended with %d and told\n%s", code, again)
			}
		})
	}
}

// told is what was written, without the folder's name and the lines of this file.
func told(errs, dir string) string {
	errs = strings.ReplaceAll(strings.TrimSpace(errs), dir+"/", "")
	parts := strings.Split(errs, "lint_test.go:")
	for i := 1; i < len(parts); i++ {
		parts[i] = "N" + strings.TrimLeft(parts[i], "0123456789")
	}
	return strings.Join(parts, "lint_test.go:")
}

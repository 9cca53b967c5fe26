package flowcmd_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/flowcmd"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program runs the command line of a program with the verbs test and run, as its main function does.
func program(register func(*kis.Registry), args ...string) (out string, status int) {
	var b bytes.Buffer
	root := &cobra.Command{Use: "program", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(flowcmd.Test(register), flowcmd.Run(register))
	root.SetArgs(flowcmd.Arguments(args))
	root.SetOut(&b)
	root.SetErr(&b)
	err := root.Execute()
	if err != nil {
		b.WriteString(err.Error() + "\n")
	}
	return b.String(), flowcmd.ExitStatus(err)
}

// flow has the documents of a flow that doubles numbers; right is a test file that passes, and failing one that does not.
const (
	flow    = "kistype: flow\nstatus: 1\nflow_name: Twice\nflows: [{fname: Twice}]\n---\nkistype: func\nfname: Twice\nfmode: Calculate\noption: {calculate: {n: 2 * n}}\n"
	right   = "tests:\n  - name: doubles\n    flow: Twice\n    rows: [{n: 2}]\n    output: [{n: 4}]\n"
	failing = "tests:\n  - name: triples\n    flow: Twice\n    rows:\n      - {n: 2}\n    output:\n      - {n: 6}\n"
)

// folder writes files, given as name, text, name, text.
func folder(t *testing.T, files ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The exit status says whether all cases passed, one failed, or nothing ran.
func TestExitStatus(t *testing.T) {
	noTests := folder(t, "flow.yml", flow)
	both := folder(t, "flow.yml", flow, "sub/a_test.yml", right, "sub/b_test.yaml", failing, ".hidden/c_test.yml", "x")
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string // in the output
	}{
		{"passed", []string{folder(t, "flow.yml", flow, "a_test.yml", right)}, 0, "1 case passed\n"},
		{"failed", []string{both}, 1, "line 7: output 1, of row 1: n: is 4, want 6\n1 case passed, 1 failed\n"},
		{"one file", []string{filepath.Join(folder(t, "flow.yml", flow, "a_test.yml", right, "b_test.yml", failing), "a_test.yml")}, 0, "1 case passed\n"},
		{"one file without documents beside it", []string{filepath.Join(both, "sub", "a_test.yml")}, 2, "NOT_FOUND: no .yml or .yaml file is under "},
		{"run", []string{both, "-run", "^doub"}, 0, "1 case passed\n"},
		{"run with =", []string{"-run=^doub", both, "-v"}, 0, "ok    " + filepath.Join(both, "sub", "a_test.yml") + ": doubles (1 rows, "},
		{"--run", []string{both, "--run", "triples"}, 1, "1 failed"},
		{"run matches nothing", []string{both, "-run", "quadruples"}, 1, `--run "quadruples" matches none of the 2 cases under ` + both + ", so nothing was compared\n"},
		{"run is no regexp", []string{both, "-run", "("}, 1, `--run "(": error parsing regexp`},
		{"no tests", []string{noTests}, 1, "NOT_FOUND: no test file is under " + noTests + ", so nothing was compared: write one, whose name ends in _test.yml\n"},
		{"compares nothing", []string{folder(t, "flow.yml", flow, "a_test.yml", "tests: [{name: x, flow: Twice, rows: [{n: 1}]}]\n")}, 1, "the case compares nothing"},
		{"a mistake in a test", []string{folder(t, "flow.yml", flow, "a_test.yml", right+"    aftr: {}\n")}, 2, `a_test.yml:6: tests[0].aftr: is not a key here; `},
		{"mistakes in documents", []string{folder(t, "flow.yml", strings.Replace(flow, "2 * n", "2 * ", 1), "a_test.yml", right)}, 2, "flow.yml:9:28: option.calculate.n: "},
		{"a mistake in types", []string{folder(t, "flow.yml", strings.Replace(flow, "2 * n", `2 * 'n'`, 1)+"\n", "a_test.yml", right)}, 2, "flow.yml:9:25: option.calculate.n: * can't have an int on the left and a string on the right"},
		{"no folder", []string{"nowhere"}, 2, "NOT_FOUND: read the tests: "},
		{"no argument", nil, 1, "needs a folder of documents, but the arguments are []"},
		{"no format", []string{noTests, "-o", "xml"}, 1, `--output "xml": give json, or leave it out`},
	} {
		if out, status := program(nil, append([]string{"test"}, tt.args...)...); status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%s: ended with %d, not %d, and printed\n%s\nwithout %s", tt.name, status, tt.status, out, tt.want)
		}
	}
}

func TestReports(t *testing.T) {
	dir := folder(t, "flow.yml", flow, "a_test.yml", right, "b_test.yml", failing, "c_test.yml", "tests: [{name: x, flow: Twice, rows: [{n: <}]}]\n")
	report := filepath.Join(dir, "junit.xml")
	out, status := program(nil, "test", dir, "-o", "json", "--junit", report)
	var got struct {
		Passed, Failed int
		Cases          []struct {
			Name, Flow, Error string
			Line              int
			Passed            bool
			Differences       []struct{ Section, Place, Field, Got, Want string }
		}
	}
	if err := json.Unmarshal([]byte(strings.TrimSuffix(out, flowcmd.ErrReported.Error()+"\n")), &got); err != nil || status != 1 || got.Passed != 1 || got.Failed != 2 || len(got.Cases) != 3 {
		t.Fatalf("%v, %d\n%s", err, status, out)
	}
	if c := got.Cases[1]; c.Name != "triples" || c.Flow != "Twice" || c.Line != 2 || c.Passed || len(c.Differences) != 1 || c.Differences[0].Got != "4" || c.Differences[0].Want != "6" || c.Differences[0].Field != "n" {
		t.Errorf("the second case is %+v", c)
	}
	if c := got.Cases[2]; !strings.Contains(c.Error, "compares nothing") {
		t.Errorf("the third case is %+v", c)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string  `xml:"name,attr"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil || suites.Tests != 3 || suites.Failures != 1 || suites.Errors != 1 || len(suites.Suites) != 3 {
		t.Fatalf("%v\n%s", err, text)
	}
	if c := suites.Suites[1].Cases[0]; c.Failure == nil || !strings.Contains(*c.Failure, "n: is 4, want 6") || suites.Suites[0].Cases[0].Failure != nil || suites.Suites[2].Cases[0].Error == nil {
		t.Errorf("the file is\n%s", text)
	}
}

func TestUpdateByFlag(t *testing.T) {
	dir := folder(t, "flow.yml", flow, "b_test.yml", failing)
	path := filepath.Join(dir, "b_test.yml")
	if out, status := program(nil, "test", dir, "--update"); status != 0 || !strings.HasSuffix(out, path+" is written again\n") {
		t.Errorf("ended with %d\n%s", status, out)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != strings.Replace(failing, "{n: 6}", "{n: 4}", 1) {
		t.Errorf("the file is\n%s\n%v", text, err)
	}
	if out, status := program(nil, "test", dir); status != 0 {
		t.Errorf("afterwards it ended with %d\n%s", status, out)
	}
}

// A worker's program runs tests of its Go functions, and kisgrid says that it has none. Flows that no case names may need any functions.
func TestGoFunctions(t *testing.T) {
	const cases = `tests:
  - name: averages
    flow: CalStuAvgScore12
    rows:
      - {stu_id: 101, score_1: 80, score_2: 95}
      - {stu_id: 1001, score_1: 80, score_2: 95}
    output:
      - {stu_id: 101, avg_score: 87.5}
    outcomes:
      - {row: 2, outcome: filtered, function: VerifyStu}
    after:
      Score12Cache:
        "101": {avg_score: 87.5}
`
	dir := folder(t, "students_test.yml", cases)
	if err := os.CopyFS(filepath.Join(dir, "conf"), os.DirFS("../../examples/students/conf")); err != nil {
		t.Fatal(err)
	}
	if out, status := program(students.Register, "test", dir); status != 0 || out != "1 case passed\n" {
		t.Errorf("the worker ended with %d\n%s", status, out)
	}
	out, status := program(nil, "test", dir)
	want := filepath.Join(dir, "students_test.yml") + `:2: case "averages": UNKNOWN_FUNCTION: the flow CalStuAvgScore12 needs the Go functions `
	if status != 2 || !strings.HasPrefix(out, want) || !strings.Contains(out, "use the program of your worker, such as go run . test "+dir+"\n") {
		t.Errorf("kisgrid ended with %d\n%s", status, out)
	}
	own := folder(t, "flow.yml", flow, "a_test.yml", right)
	if err := os.CopyFS(filepath.Join(own, "conf"), os.DirFS("../../examples/students/conf")); err != nil {
		t.Fatal(err)
	}
	if out, status := program(nil, "test", own); status != 0 || out != "1 case passed\n" {
		t.Errorf("beside flows with Go functions it ended with %d\n%s", status, out)
	}
}

// kisgrid runs flows that need no Go functions, also beside others, and says of the others what to use.
func TestRunWithoutGo(t *testing.T) {
	dir := folder(t, "flow.yml", flow, "a_test.yml", right, "rows.ndjson", "{\"n\": 2}\n{\"n\": 9007199254740993}\n")
	if err := os.CopyFS(filepath.Join(dir, "conf"), os.DirFS("../../examples/students/conf")); err != nil {
		t.Fatal(err)
	}
	rows := filepath.Join(dir, "rows.ndjson")
	if out, status := program(nil, "run", dir, "Twice", "-f", rows); status != 0 || !strings.HasPrefix(out, "{\"n\":4}\n{\"n\":18014398509481986}\n") {
		t.Errorf("ended with %d\n%s", status, out)
	}
	for args, want := range map[string]string{
		"CalStuAvgScore12": "UNKNOWN_FUNCTION: the flow CalStuAvgScore12 needs the Go functions ",
		"Twise":            "UNKNOWN_FLOW: no document in " + dir + ` describes the flow "Twise"; did you mean "Twice"?`,
	} {
		if out, status := program(nil, "run", dir, args, "-f", rows); status != 1 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: ended with %d\n%s", args, status, out)
		}
	}
	wrong := folder(t, "flow.yml", strings.Replace(flow, "2 * n", "2 * (n", 1))
	if out, status := program(nil, "run", wrong, "Twice", "-f", rows); status != 1 || !strings.Contains(out, "flow.yml:9:29: option.calculate.n: ") || !strings.Contains(out, "^") {
		t.Errorf("a mistake: ended with %d\n%s", status, out)
	}
}

// The tests beside the examples pass.
func TestExamplesPass(t *testing.T) {
	for _, dir := range []string{"../../examples/students/conf-expressions"} {
		if out, status := program(nil, "test", dir, "-v"); status != 0 || strings.Count(out, "ok    ") < 5 {
			t.Errorf("%s: ended with %d\n%s", dir, status, out)
		}
	}
}

// The documents and the test file in docs/testing-flows.md are right, and the test file passes.
func TestDocumentedCasesPass(t *testing.T) {
	text, err := os.ReadFile("../../docs/testing-flows.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, block := range strings.Split(string(text), "```yaml file=")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		body, _, ended := strings.Cut(rest, "```\n")
		if !ended {
			t.Fatalf("the block %s has no end", name)
		}
		files[name] += body
	}
	if len(files) != 2 {
		t.Fatalf("the page has the files %v", files)
	}
	var list []string
	for name, body := range files {
		list = append(list, name, body)
	}
	dir := folder(t, list...)
	if out, status := program(nil, "test", dir, "-v"); status != 0 || strings.Count(out, "ok    ") != 4 {
		t.Errorf("ended with %d\n%s", status, out)
	}
	// The page shows a failure: it is that of a document whose limit is another one.
	path := filepath.Join(dir, "grades.yml")
	if err := os.WriteFile(path, []byte(strings.Replace(files["grades.yml"], "pass: 50", "pass: 45", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := program(nil, "test", dir)
	_, shown, _ := strings.Cut(string(text), "```text\n")
	shown, _, _ = strings.Cut(shown, "```\n")
	got := strings.TrimSuffix(strings.ReplaceAll(out, dir+string(filepath.Separator), "conf/"), flowcmd.ErrReported.Error()+"\n")
	if status != 1 || got != shown {
		t.Errorf("ended with %d and printed\n%s\nand the page shows\n%s", status, got, shown)
	}
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

var seconds = regexp.MustCompile(`\d+\.\d s:`)

// TestRun has a row of each kind, and an empty line, which is none.
func TestRun(t *testing.T) {
	dir := writeConf(t, grades())
	rows := filepath.Join(dir, "rows.ndjson")
	text := "{\"student\":1,\"points\":70}\n\n  {\"student\":2,\"points\":20}\n{\"student\":3,\"points\":\"many\"}\n{\"points\":5}\n{\"student\":4,\"points\":-1}\n{\"student\":5}"
	if err := os.WriteFile(rows, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	register := func(r *kis.Registry) {
		r.Func("PointsGiven", kis.Verify(func(_ context.Context, s score) error {
			switch {
			case s.Points < 0:
				return kis.Drop("%g points are none", s.Points)
			case s.Points == 0:
				return errors.New("no points")
			}
			return nil
		}))
		r.Func("ToGrade", kis.Calculate(toGrade))
		r.Func("SaveGrade", kis.Save(saveGrade))
	}
	const (
		out    = "{\"student\":1,\"grade\":\"passed\"}\n{\"student\":2,\"grade\":\"failed\"}\n"
		listed = `line 4: dead in PointsGiven: ROW_UNDECODABLE: the row does not fit PointsGiven: points must be a number, it is a string
line 5: dead: MISSING_SHARD_KEY: `
	)
	code, gotOut, errs := runMain(register, "", "run", dir, "Grades", "-f", rows)
	lines := strings.Split(seconds.ReplaceAllString(errs, "T s:"), "\n")
	if code != 1 || gotOut != out || !strings.HasPrefix(errs, listed) || len(lines) != 6 {
		t.Fatalf("ended with %d\n%s%s", code, gotOut, errs)
	}
	want := []string{
		"line 6: filtered in PointsGiven: DROPPED: -1 points are none",
		"line 7: dead in PointsGiven: FUNCTION_ERROR: no points",
		"Grades: 6 rows in 1 batches, T s: 2 done 1 filtered 0 aborted 3 dead 0 failed",
	}
	if diff := cmp.Diff(want, lines[2:5]); diff != "" {
		t.Error(diff)
	}

	// The same from standard input, one row a batch, as JSON and with metrics.
	code, gotOut, errs = runMain(register, text, "run", dir, "Grades", "-o", "json", "--results=false", "--batch-rows", "1", "--metrics")
	var summary struct {
		Flow      string         `json:"flow"`
		Rows      int            `json:"rows"`
		Batches   int            `json:"batches"`
		Outcomes  map[string]int `json:"outcomes"`
		Revisions []int64        `json:"revisions"`
	}
	if err := json.Unmarshal([]byte(gotOut), &summary); err != nil || code != 1 {
		t.Fatalf("ended with %d, printed %q: %v", code, gotOut, err)
	}
	if got := fmt.Sprintf("%s %d %d %v %v", summary.Flow, summary.Rows, summary.Batches, summary.Outcomes, summary.Revisions); got != "Grades 6 6 map[aborted:0 dead:3 done:2 failed:0 filtered:1] [0]" {
		t.Errorf("the summary is %s", got)
	}
	for _, want := range []string{
		`kisgrid_rows_in_total{flow="Grades"} 6`, `kisgrid_rows_in_flight{flow="Grades"} 0`,
		`kisgrid_rows_ended_total{flow="Grades",outcome="dead"} 3`, `kisgrid_rows_ended_total{flow="Grades",outcome="done"} 2`,
		`kisgrid_function_rows_total{flow="Grades",function="SaveGrade"} 2`,
	} {
		if !strings.Contains(errs, want+"\n") {
			t.Errorf("the metrics have no %s:\n%s", want, errs)
		}
	}

	// With JSON and results, results have standard output for themselves.
	code, gotOut, errs = runMain(register, "{\"student\":1,\"points\":70}\n", "run", dir, "Grades", "-o", "json")
	if code != 0 || gotOut != "{\"student\":1,\"grade\":\"passed\"}\n" || !strings.HasPrefix(errs, `{"flow":"Grades","rows":1,`) {
		t.Errorf("ended with %d\n%s%s", code, gotOut, errs)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := writeConf(t, grades())
	for _, test := range []struct {
		args  []string
		stdin string
		want  string
		usage bool
	}{
		{[]string{dir, "Grade"}, "{}", `grades: UNKNOWN_FLOW: submit to flow "Grade": there is no such flow: the documents have Grades; did you mean "Grades"?`, false},
		{[]string{dir, "Grades", "-f", "/no/rows"}, "", "grades: open rows: open /no/rows: no such file or directory", false},
		{[]string{dir, "Grades", "-o", "xml"}, "", `grades: --output "xml": give json, or leave it out`, true},
		{[]string{dir, "Grades", "--batch-rows", "0"}, "", "grades: --batch-rows 0: give 1 or more", true},
		{[]string{dir, "Grades", "--log-level", "loud"}, "", `grades: --log-level "loud": give trace, debug, info, warn, error or off`, false},
		{[]string{dir, "Grades"}, "id,name\n1,ada\n", "grades: line 1: the input is CSV, not one JSON value a line: give its format as csv (--format csv, or a file name that ends in .csv)", false},
		{[]string{dir + "/none", "Grades"}, "", "grades: NOT_FOUND: reading definitions: stat " + dir + "/none: no such file or directory", false},
	} {
		code, out, errs := runMain(registerGrades, test.stdin, append([]string{"run"}, test.args...)...)
		status := 1
		if test.usage {
			status = 2
		}
		if code != status || out != "" || errs != test.want+"\n" {
			t.Errorf("%v ended with %d, %q\n%s", test.args, code, out, errs)
		}
	}
}

// While rows run, --http serves the metrics.
func TestRunServesMetrics(t *testing.T) {
	dir := writeConf(t, grades())
	in, rows := io.Pipe()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	done := make(chan int)
	go func() {
		done <- execute(registerGrades, []string{"grades", "run", dir, "Grades", "--batch-rows", "1", "--http", address}, in, io.Discard, io.Discard)
	}()
	if _, err := rows.Write([]byte("{\"student\":1,\"points\":70}\n")); err != nil { // it reads: it serves
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !strings.Contains(string(text), `kisgrid_rows_in_total{flow="Grades"} `) || !strings.Contains(string(text), "go_goroutines ") {
		t.Errorf("the metrics are %s, %v", text, err)
	}
	rows.Close()
	if code := <-done; code != 0 {
		t.Errorf("ended with %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
}

package casefile

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// maxTold is the most differences of one case that are printed for people.
const maxTold = 20

// Tell prints one result for people: a line for a case that has passed, else all differences under it.
func (r *Result) Tell(out io.Writer, verbose bool) {
	if r.Passed() {
		if verbose {
			fmt.Fprintf(out, "ok    %s: %s (%d rows, %.2fs)\n", r.File.Path, r.Case.Name, r.Rows, r.Took.Seconds())
		}
		return
	}
	fmt.Fprintf(out, "FAIL  %s:%d: %s\n", r.File.Path, r.Case.Line, r.Case.Name)
	told := 0
	if r.Err != nil {
		fmt.Fprintf(out, "      %s\n", indent(r.Err.Error()))
	}
	for _, d := range r.Differences {
		if told++; told > maxTold {
			continue
		}
		line := ""
		if d.Line > 0 {
			line = fmt.Sprintf("line %d: ", d.Line)
		}
		fmt.Fprintf(out, "      %s%s\n", line, indent(d.String()))
	}
	if told > maxTold {
		fmt.Fprintf(out, "      … and %d more differences\n", told-maxTold)
	}
}

// indent sets off the lines behind the first one.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n        ") }

// resultJSON is one result as -o json prints it.
type resultJSON struct {
	File        string       `json:"file"`
	Line        int          `json:"line"`
	Name        string       `json:"name"`
	Flow        string       `json:"flow"`
	Rows        int          `json:"rows"`
	Seconds     float64      `json:"seconds"`
	Passed      bool         `json:"passed"`
	Error       string       `json:"error,omitempty"`
	Differences []Difference `json:"differences"`
}

// WriteJSON writes all results as one JSON object.
func WriteJSON(out io.Writer, results []*Result) error {
	report := struct {
		Cases  []resultJSON `json:"cases"`
		Passed int          `json:"passed"`
		Failed int          `json:"failed"`
	}{Cases: []resultJSON{}}
	for _, r := range results {
		one := resultJSON{
			File: r.File.Path, Line: r.Case.Line, Name: r.Case.Name, Flow: r.Case.Flow, Rows: r.Rows,
			Seconds: r.Took.Seconds(), Passed: r.Passed(), Differences: r.Differences,
		}
		if one.Differences == nil {
			one.Differences = []Difference{}
		}
		if r.Err != nil {
			one.Error = r.Err.Error()
		}
		if r.Passed() {
			report.Passed++
		} else {
			report.Failed++
		}
		report.Cases = append(report.Cases, one)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

package casefile

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The elements of a JUnit file, as servers for continuous integration read them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
		seconds  float64
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Error   *junitMessage `xml:"error,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes all results in the XML of JUnit, with a suite for each file. A case that could not run, or compared nothing, is an error;
// one with differences is a failure.
func WriteJUnit(out io.Writer, results []*Result) error {
	var all junitSuites
	total := 0.0
	for _, r := range results {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != r.File.Path {
			all.Suites = append(all.Suites, junitSuite{Name: r.File.Path})
		}
		s := &all.Suites[len(all.Suites)-1]
		c := junitCase{Name: r.Case.Name, Class: r.Case.Flow, File: r.File.Path, Line: r.Case.Line, Time: seconds(r.Took.Seconds())}
		switch {
		case r.Err != nil:
			c.Error = &junitMessage{Message: r.Err.Error(), Text: r.Err.Error()}
			s.Errors++
			all.Errors++
		case len(r.Differences) > 0:
			var texts []string
			for _, d := range r.Differences {
				texts = append(texts, d.String())
			}
			first, _, _ := strings.Cut(texts[0], "\n")
			c.Failure = &junitMessage{Message: first, Text: strings.Join(texts, "\n")}
			s.Failures++
			all.Failures++
		}
		s.Tests++
		all.Tests++
		s.seconds += r.Took.Seconds()
		total += r.Took.Seconds()
		s.Cases = append(s.Cases, c)
	}
	for i := range all.Suites {
		all.Suites[i].Time = seconds(all.Suites[i].seconds)
	}
	all.Time = seconds(total)
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(out)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

// seconds returns a time for an attribute.
func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

package flowcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/casefile"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// testRun has the flags of one "test" command.
type testRun struct {
	register func(*kis.Registry) // nil means that the program has no Go functions

	run     string // which cases run, as a regular expression
	update  bool   // write the files again
	junit   string // path of the JUnit file; empty means none
	format  string // "" for people, or json
	verbose bool   // also tell the cases that have passed
}

// Test makes the command "test", which runs the test files beside documents. register registers the Go functions of the program; nil means that
// it has none.
func Test(register func(*kis.Registry)) *cobra.Command {
	t := testRun{register: register}
	verb, functions := "worker test", "Rows run through the Go functions of this program, and through functions that are made of their documents."
	if register == nil {
		verb, functions = "kisgrid test", "For flows with Go functions, use the program of your worker, such as go run . test DIR: it has the same verb."
	}
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "Run the tests of flows, which stand beside the documents in *_test.yml",
		Long: `test reads the documents in a folder and the folders in it, and the test files there, whose names end in _test.yml. A test file has cases.
Each case runs its rows through a flow in this process, without a cluster: connectors are stores in memory, which hold the data under
before. Then the output, the outcomes of the rows, and the data in the connectors are compared with those that the case wants.

  tests:
    - name: points become a grade, and too many points are filtered
      flow: Grades
      rows:
        - {student: ada, points: 71}
        - {student: cleo, points: 101}
      output:
        - {student: ada, grade: passed}
      outcomes:
        - {row: 2, outcome: filtered, function: CheckPoints}

` + functions + `

With --update, the cases that did not pass are written again, with what has happened: look at the changes before you keep them. DIR may
also be one test file.

The exit status is 0 when all cases have passed, 1 when a case has failed or nothing was compared, and 2 when documents or test files have
mistakes, so that nothing ran.`,
		Example: "  " + verb + " ./conf\n  " + verb + " ./conf -run 'grade|points' -v\n  " + verb + " ./conf --update\n  " + verb + " ./conf --junit report.xml",
		Args:    ExactArgs("a folder of documents"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return t.test(ctx, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&t.run, "run", "", "run only the cases whose names match this `regexp`; -run works too")
	fs.BoolVar(&t.update, "update", false, "write the output, outcomes and data that there were into the cases that did not pass")
	fs.BoolVarP(&t.verbose, "verbose", "v", false, "also print the cases that have passed")
	fs.StringVar(&t.junit, "junit", "", "also write the results to this `file`, as JUnit's XML")
	fs.StringVarP(&t.format, "output", "o", "", "`format` of the results: json (default: for people)")
	return cmd
}

// Arguments returns the arguments of a program with -run, of the verb test, as --run, as it is spelled in Go.
func Arguments(args []string) []string {
	at := slices.Index(args, "test")
	if at < 0 {
		return args
	}
	args = slices.Clone(args)
	for i := at + 1; i < len(args) && args[i] != "--"; i++ {
		if args[i] == "-run" || strings.HasPrefix(args[i], "-run=") {
			args[i] = "-" + args[i]
		}
	}
	return args
}

// test runs the command.
func (t *testRun) test(ctx context.Context, path string, out, errs io.Writer) error {
	if t.format != "" && t.format != "json" {
		return fmt.Errorf("--output %q: give json, or leave it out", t.format)
	}
	run, err := regexp.Compile(t.run)
	if err != nil {
		return fmt.Errorf("--run %q: %w", t.run, err)
	}
	suite, err := casefile.Load(path)
	if err != nil {
		return unusable(errs, err)
	}
	register := t.register
	if register == nil {
		register = NoFunctions
		if err := withoutGo(suite, run, path); err != nil {
			return unusable(errs, err)
		}
	}
	if err := suite.Compile(run, register); err != nil {
		return unusable(errs, err)
	}
	var results []*casefile.Result
	err = suite.Run(ctx, run, register, func(r *casefile.Result) {
		results = append(results, r)
		if t.format == "" {
			r.Tell(out, t.verbose)
		}
	})
	if err := errors.Join(err, t.report(results, out)); err != nil {
		return err
	}
	if len(results) == 0 {
		return nothingRan(suite, path, t.run)
	}
	if t.update {
		return t.write(results, out, errs)
	}
	if slices.ContainsFunc(results, func(r *casefile.Result) bool { return !r.Passed() }) {
		return ErrReported
	}
	return nil
}

// report prints the summary and the JSON, and writes the JUnit file.
func (t *testRun) report(results []*casefile.Result, out io.Writer) error {
	if t.junit != "" {
		f, err := os.Create(t.junit)
		if err != nil {
			return fmt.Errorf("write the JUnit file: %w", err)
		}
		if err := errors.Join(casefile.WriteJUnit(f, results), f.Close()); err != nil {
			return fmt.Errorf("write the JUnit file: %w", err)
		}
	}
	if t.format == "json" {
		return casefile.WriteJSON(out, results)
	}
	if len(results) == 0 {
		return nil
	}
	passed := 0
	for _, r := range results {
		if r.Passed() {
			passed++
		}
	}
	text := fmt.Sprintf("%d case%s passed", passed, plural(passed))
	if failed := len(results) - passed; failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// write updates the test files. The error is ErrReported if a case could not run, so that it was not updated.
func (t *testRun) write(results []*casefile.Result, out, errs io.Writer) error {
	if t.format == "json" {
		out = errs
	}
	paths, err := casefile.Update(results)
	for _, path := range paths {
		fmt.Fprintf(out, "%s is written again\n", path)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r *casefile.Result) bool { return !r.Ran() }) {
		return ErrReported
	}
	return nil
}

// nothingRan is the error of a run without any case.
func nothingRan(suite *casefile.Suite, path, run string) error {
	cases := 0
	for _, f := range suite.Files {
		cases += len(f.Cases)
	}
	if cases == 0 {
		return batch.Errorf(batch.CodeNotFound, "no test file is under %s, so nothing was compared: write one, whose name ends in _test.yml", path)
	}
	return batch.Errorf(batch.CodeNotFound, "--run %q matches none of the %d cases under %s, so nothing was compared", run, cases, path)
}

// withoutGo returns an error if cases that are to run need Go functions, for a program that has none.
func withoutGo(suite *casefile.Suite, run *regexp.Regexp, path string) error {
	for _, f := range suite.Files {
		for _, c := range f.Cases {
			if names := GoFunctions(f.Set, c.Flow); len(names) > 0 && run.MatchString(c.Name) {
				return fmt.Errorf("%s:%d: case %q: %w", f.Path, c.Line, c.Name, needsGo(c.Flow, names, "test", path))
			}
		}
	}
	return nil
}

// unusable prints why nothing could run, and returns the error for exit status 2.
func unusable(errs io.Writer, err error) error {
	if mistakes := definition.MistakesOf(err); mistakes != nil {
		err = mistakes
	}
	_, printed := fmt.Fprintln(errs, err)
	return cmp.Or(printed, errUnusable)
}

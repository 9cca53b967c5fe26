package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/expr"
)

// evaluation is one call of the command kisgrid eval, as its flags say.
type evaluation struct {
	path   string // of the file of rows; "" for one row without fields
	fields string // the types of the rows' fields, as source.fields in a document; "" declares none
	params string // the params, as YAML
	kind   bool   // print the type of the expression instead of values
}

// evalCommand makes the command kisgrid eval, which tries an expression.
func evalCommand() *cobra.Command {
	var e evaluation
	cmd := &cobra.Command{
		Use:   "eval EXPRESSION",
		Short: "Try an expression on rows, without a cluster",
		Long: `eval computes an expression for each row of a file, one JSON object in each line, and prints one value in each line. A row whose value
is missing prints missing. A row that fails prints its line and the reason to standard error, and eval ends with exit code 1.

docs/expressions.md is the reference of the language.`,
		Example: `  kisgrid eval '(score_1 + score_2) / 2' -f rows.ndjson
  kisgrid eval 'score > params.limit' --fields '{score: int?}' --params '{limit: 60}' -f -
  kisgrid eval 'format_time(from_unix(1796047200), "%A", "Asia/Shanghai")'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.run(args[0], cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&e.path, "filename", "f", "", "`file` of rows, one JSON object in each line; - for standard input (default: one row without fields)")
	flags.StringVar(&e.fields, "fields", "", "`types` of the rows' fields, such as '{score: int, note: string?}', so that mistakes are found before any row is read")
	flags.StringVar(&e.params, "params", "", "`params` of the function, such as '{limit: 60}'")
	flags.BoolVar(&e.kind, "type", false, "print the type of the expression, and read no rows")
	return cmd
}

// run compiles the expression and evaluates it for each row.
func (e *evaluation) run(text string, in io.Reader, out, log io.Writer) error {
	scope, err := e.scope()
	if err != nil {
		return err
	}
	program, err := scope.Compile(expr.Source{Text: text}, expr.Any)
	if mistakes, ok := errors.AsType[expr.Mistakes](err); ok {
		fmt.Fprintln(log, mistakes)
		return errReported
	}
	if e.kind {
		_, err := fmt.Fprintln(out, program.Type())
		return err
	}
	switch e.path {
	case "":
		in = strings.NewReader("{}\n")
	case "-":
	default:
		f, err := os.Open(e.path)
		if err != nil {
			return fmt.Errorf("open rows: %w", err)
		}
		defer f.Close()
		in = f
	}
	return evaluateRows(scope, program, in, out, log)
}

// scope returns the names that the expression may use.
func (e *evaluation) scope() (*expr.Scope, error) {
	names := expr.Names{Row: expr.Any}
	if e.fields != "" {
		row, err := expr.ParseType(e.fields)
		if err != nil {
			return nil, fmt.Errorf("--fields: %w", err)
		}
		if names.Row = row; row.Kind() != expr.KindObject {
			return nil, fmt.Errorf("--fields %s is the type %s: write names with types, such as {score: int}", e.fields, row)
		}
	}
	var params map[string]any
	if err := yaml.Unmarshal([]byte(e.params), &params); err != nil {
		return nil, fmt.Errorf("--params %s: write names with values, such as {limit: 60}: %w", e.params, err)
	}
	values, err := expr.ValueOf(params)
	if err != nil {
		return nil, fmt.Errorf("--params: %w", err)
	}
	names.Params = values
	return expr.NewScope(names), nil
}

// maxLine is the longest line of rows that eval reads, in bytes.
const maxLine = 4 << 20

// evaluateRows evaluates a program for each row. The error is errReported if a row failed.
func evaluateRows(scope *expr.Scope, program *expr.Program, in io.Reader, out, log io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	printed := bufio.NewWriter(out)
	failed := false
	fr := scope.NewFrame(expr.Budget{})
	var b []byte
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		fr.Next()
		err := scope.ReadJSON(fr, lines.Text())
		if err == nil {
			b, err = appendValue(b[:0], program, fr)
		}
		if err != nil {
			failed = true
			if err := printed.Flush(); err != nil { // so that both outputs stay in order on a terminal
				return err
			}
			fmt.Fprintf(log, "line %d: %v\n", n, err)
			continue
		}
		if _, err := printed.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	if err := printed.Flush(); err != nil {
		return err
	}
	if failed {
		return errReported
	}
	return nil
}

// appendValue appends the value of a program as JSON, or the word missing.
func appendValue(b []byte, program *expr.Program, fr *expr.Frame) ([]byte, error) {
	v, err := program.Value(fr)
	if err != nil {
		return b, err
	}
	if v.Kind() == expr.KindMissing {
		return append(b, "missing"...), nil
	}
	return fr.AppendJSON(b, v)
}

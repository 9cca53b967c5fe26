package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/flowcmd"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// lintCommand makes the command kisgrid lint, which checks the documents of a folder without a cluster.
func lintCommand() *cobra.Command {
	var steps int
	var o output
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Check documents without a cluster",
		Long: `lint parses the documents of a folder, and checks that those which refer to each other fit together. It compiles all expressions: a
mistake in one is shown with the expression and a caret under the wrong part. It prints every mistake on a line of its own, and ends with exit
code 1 when there is one.

For flows with expressions it prints each function with the fields that it reads, the rows that it gives, and the type of each expression.

It can't check whether the Go functions exist and whether their row types fit. A worker's own program has a lint that does:
go run ./cmd/worker lint DIR.

With -o json it prints {documents, flows, functions, connectors, mistakes, warnings, notes}; a mistake is {document, line, column, key, code, problem}.`,
		Example: "  kisgrid lint examples/students/conf\n  kisgrid lint examples/students/conf-expressions",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := definition.Read(args[0])
			if err != nil {
				return err
			}
			set, err := definition.NewSet(docs)
			if o.format == "" {
				for _, warning := range set.Warnings() {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
				}
			}
			plans, wrong := flowcmd.CompileDeclared(set)
			mistakes := append(definition.MistakesOf(errors.Join(err, set.Intake(steps))), wrong...)
			if len(mistakes) > 0 && o.format == "" { // printed as compilers print them, one on a line
				fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
				return errReported
			}
			warnings, notes := set.FlowWarnings(), set.Notes()
			for _, name := range slices.Sorted(maps.Keys(plans)) {
				warnings, notes = append(warnings, plans[name].Warnings()...), append(notes, plans[name].Notes()...)
			}
			if o.format == "json" {
				return printLint(cmd.OutOrStdout(), set, mistakes, append(set.Warnings(), warnings...), notes)
			}
			if err := errors.Join(flowcmd.PrintNotices(cmd.ErrOrStderr(), "warning", warnings), flowcmd.PrintNotices(cmd.ErrOrStderr(), "note", notes)); err != nil {
				return err
			}
			if err := flowcmd.PrintTypes(cmd.OutOrStdout(), set); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents are right: %d flows, %d functions, %d connectors\n",
				len(set.Documents()), len(set.Flows), len(set.Functions), len(set.Connectors))
			return err
		},
	}
	cmd.Flags().IntVar(&steps, "max-steps", definition.MaxSteps, "how many `steps` a flow may have: give the number of the coordinators' --max-steps")
	o.bind(cmd, "json")
	return cmd
}

// lintView is what lint has found, as -o json prints it.
type lintView struct {
	Documents  int           `json:"documents"`
	Flows      int           `json:"flows"`
	Functions  int           `json:"functions"`
	Connectors int           `json:"connectors"`
	Mistakes   []mistakeView `json:"mistakes"`
	Warnings   []string      `json:"warnings"`
	Notes      []string      `json:"notes"`
}

// mistakeView is one mistake in a document. A line or column of 0 is not known.
type mistakeView struct {
	Document string `json:"document"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Key      string `json:"key,omitempty"`
	Code     string `json:"code"`
	Problem  string `json:"problem"`
}

// printLint prints what lint has found as JSON. It returns errReported if there are mistakes.
func printLint(out io.Writer, set *definition.Set, mistakes definition.Mistakes, warnings, notes []string) error {
	v := lintView{Documents: len(set.Documents()), Flows: len(set.Flows), Functions: len(set.Functions), Connectors: len(set.Connectors),
		Mistakes: []mistakeView{}, Warnings: append([]string{}, warnings...), Notes: append([]string{}, notes...)}
	for _, m := range mistakes {
		v.Mistakes = append(v.Mistakes, mistakeView{m.Document, m.Line, m.Column, m.Key, m.Code.String(), m.Problem})
	}
	if err := printJSON(out, v); err != nil || len(mistakes) == 0 {
		return err
	}
	return errReported
}

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/flowcmd"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// lintCommand makes the command kisgrid lint, which checks the documents of a folder without a cluster.
func lintCommand() *cobra.Command {
	var steps int
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Check documents without a cluster",
		Long: `lint parses the documents of a folder, and checks that those which refer to each other fit together. It compiles all expressions: a
mistake in one is shown with the expression and a caret under the wrong part. It prints every mistake on a line of its own, and ends with exit
code 1 when there is one.

For flows with expressions it prints each function with the fields that it reads, the rows that it gives, and the type of each expression.

It can't check whether the Go functions exist and whether their row types fit. A worker's own program has a lint that does:
go run ./cmd/worker lint DIR.`,
		Example: "  kisgrid lint examples/students/conf\n  kisgrid lint examples/students/conf-expressions",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := definition.Read(args[0])
			if err != nil {
				return err
			}
			set, err := definition.NewSet(docs)
			for _, warning := range set.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
			}
			plans, wrong := flowcmd.CompileDeclared(set)
			mistakes := append(definition.MistakesOf(errors.Join(err, set.Intake(steps))), wrong...)
			if len(mistakes) > 0 { // printed as compilers print them, one on a line
				fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
				return errReported
			}
			warnings, notes := set.FlowWarnings(), set.Notes()
			for _, name := range slices.Sorted(maps.Keys(plans)) {
				warnings, notes = append(warnings, plans[name].Warnings()...), append(notes, plans[name].Notes()...)
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
	return cmd
}

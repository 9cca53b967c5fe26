package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// lintCommand makes the command kisgrid lint, which checks the documents of a folder without a cluster.
func lintCommand() *cobra.Command {
	var steps int
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Check documents without a cluster",
		Long: `lint parses the documents of a folder, and checks that those which refer to each other fit together. It prints every mistake on a
line of its own, and ends with exit code 1 when there is one.

It can't check whether the Go functions exist and whether their row types fit. A worker's own program has a lint that does:
go run ./cmd/worker lint DIR.`,
		Example: "  kisgrid lint examples/students/conf",
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
			var mistakes definition.Mistakes
			for _, err := range []error{err, set.Intake(steps)} {
				more, _ := errors.AsType[definition.Mistakes](err)
				mistakes = append(mistakes, more...)
			}
			if len(mistakes) > 0 { // printed as compilers print them, one on a line
				fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
				return errReported
			}
			for _, warning := range set.FlowWarnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
			}
			for _, note := range set.Notes() {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: "+note)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents are right: %d flows, %d functions, %d connectors\n",
				len(set.Documents()), len(set.Flows), len(set.Functions), len(set.Connectors))
			return err
		},
	}
	cmd.Flags().IntVar(&steps, "max-steps", definition.MaxSteps, "how many `steps` a flow may have: give the number of the coordinators' --max-steps")
	return cmd
}

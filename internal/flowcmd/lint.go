package flowcmd

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Lint makes the command "lint" of a worker's program, which compiles a folder of documents with this program's functions and prints every
// mistake.
func Lint(register func(*kis.Registry)) *cobra.Command {
	var access command.DocumentAccess
	var steps int
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Check a folder of documents against the functions of this build",
		Long: `lint reads the flow, func and conn documents of a folder, and compiles each flow as a worker of this build does. It finds, for example,
unknown keys, missing functions, wrong modes, and fields that a function reads but the function before it does not pass on. With the
--document-env and --document-files of your workers it also finds environment variables and files that connectors may not read.

It prints every mistake, one in each line, and then exits with 1. A possible mistake is a warning: a field that a Verify function
reads but rows never have at this place, and a key that differs from the shard key only in spelling.`,
		Args: ExactArgs("a folder of documents"),
		RunE: func(cmd *cobra.Command, args []string) error {
			registry := kis.NewRegistry()
			register(registry)
			docs, err := definition.Read(args[0])
			if err != nil {
				return err
			}
			documents := access.Access(cmd.Flags())
			if err := documents.Valid(); err != nil {
				return err
			}
			set, err := definition.NewSet(docs)
			if err := PrintNotices(cmd.ErrOrStderr(), "warning", set.Warnings()); err != nil {
				return err
			}
			plans, err := flowexec.CompileAll(set, err, registry)
			if err := errors.Join(err, set.Intake(steps), documents.CheckSet(set)); err != nil {
				return PrintMistakes(cmd.ErrOrStderr(), err)
			}
			warnings, notes := set.FlowWarnings(), set.Notes()
			for _, name := range slices.Sorted(maps.Keys(plans)) {
				warnings = append(warnings, plans[name].Warnings()...)
				notes = append(notes, plans[name].Notes()...)
			}
			if err := errors.Join(PrintNotices(cmd.ErrOrStderr(), "warning", warnings), PrintNotices(cmd.ErrOrStderr(), "note", notes)); err != nil {
				return err
			}
			if err := PrintTypes(cmd.OutOrStdout(), set); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d flows are right, with their %d functions and %d connectors\n",
				len(set.Flows), len(set.Functions), len(set.Connectors))
			return err
		},
	}
	access.BindFlags(cmd.Flags())
	cmd.Flags().IntVar(&steps, "max-steps", definition.MaxSteps, "how many `steps` a flow may have; use the value that the coordinators have")
	return cmd
}

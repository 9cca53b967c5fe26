package worker

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// lintCommand makes the command "lint", which compiles a folder of documents with this program's functions and prints every
// mistake.
func lintCommand(register func(*kis.Registry)) *cobra.Command {
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
		Args: exactArgs("a folder of documents"),
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
			if err := printNotices(cmd.ErrOrStderr(), "warning", set.Warnings()); err != nil {
				return err
			}
			plans, err := flowexec.CompileAll(set, err, registry)
			if err := errors.Join(err, set.Intake(steps), documents.CheckSet(set)); err != nil {
				return printMistakes(cmd.ErrOrStderr(), err)
			}
			warnings, notes := set.FlowWarnings(), set.Notes()
			for _, name := range slices.Sorted(maps.Keys(plans)) {
				warnings = append(warnings, plans[name].Warnings()...)
				notes = append(notes, plans[name].Notes()...)
			}
			if err := errors.Join(printNotices(cmd.ErrOrStderr(), "warning", warnings), printNotices(cmd.ErrOrStderr(), "note", notes)); err != nil {
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

// printNotices writes warnings or notes, one in each line, with the kind in front.
func printNotices(out io.Writer, kind string, texts []string) error {
	for _, text := range texts {
		if _, err := fmt.Fprintln(out, kind+": "+text); err != nil {
			return err
		}
	}
	return nil
}

// printMistakes writes the mistakes in documents that err has, one in each line as compilers do, and then returns
// errAlreadyPrinted. An error without mistakes is returned unchanged.
func printMistakes(out io.Writer, err error) error {
	mistakes := mistakesOf(err)
	if mistakes == nil {
		return err
	}
	if _, err := fmt.Fprintln(out, mistakes); err != nil {
		return err
	}
	return errAlreadyPrinted
}

// mistakesOf collects the mistakes in documents that err, or each error joined in it, has. It returns nil when there are none.
func mistakesOf(err error) (all definition.Mistakes) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // made by errors.Join
		for _, e := range joined.Unwrap() {
			all = append(all, mistakesOf(e)...)
		}
		return all
	}
	all, _ = errors.AsType[definition.Mistakes](err)
	return all
}

// exactArgs accepts exactly as many arguments as there are names. The error lists the names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("%s needs %s, but the arguments are %q: write %s", cmd.CommandPath(), strings.Join(names, " and "), args, cmd.UseLine())
	}
}

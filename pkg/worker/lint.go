package worker

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func lintCommand(register func(*kis.Registry)) *cobra.Command {
	return &cobra.Command{
		Use:   "lint DIR",
		Short: "Check a folder of documents against the functions of this build",
		Long: `lint reads the flow, func and conn documents of a folder and compiles each flow as a worker of this build would: unknown
keys, functions that are missing, modes that differ, fields that a function reads and the one before it loses. It tells
everything that is wrong, and exits with 1 if anything is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			registry := kis.NewRegistry()
			register(registry)
			flows, err := lint(args[0], registry)
			if err != nil {
				told := map[string]bool{} // flows share functions, and their mistakes
				for _, m := range mistakes(err) {
					if !told[m] {
						fmt.Fprintln(cmd.ErrOrStderr(), m)
					}
					told[m] = true
				}
				return errTold
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d flows are good\n", flows)
			return nil
		},
	}
}

// lint returns how many flows a folder has, or all its mistakes, joined.
func lint(dir string, registry *kis.Registry) (flows int, err error) {
	if err := registry.Err(); err != nil {
		return 0, err
	}
	set, _, err := definition.Load(dir)
	if err != nil {
		return 0, err
	}
	var all []error
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		b, err := set.Bundle(name)
		if err == nil {
			_, err = flowexec.Compile(b, registry)
		}
		all = append(all, err)
	}
	return len(set.Flows), errors.Join(all...)
}

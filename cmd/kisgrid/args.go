package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exactly checks that a command has one argument for each of the names, such as FLOW. The error names those that are missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", strings.Join(names[len(args):], " "))
		case len(args) > len(names):
			return fmt.Errorf("%q is too much: the command takes %s", args[len(names)], strings.Join(names, " "))
		}
		return nil
	}
}

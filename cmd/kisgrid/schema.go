package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/casefile"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// schemaCommand makes the command kisgrid schema, which prints the JSON Schema of documents or of test files, for editors.
func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [documents|tests]",
		Short: "Print the JSON Schema of documents or of tests, for editors",
		Long: `schema prints a JSON Schema (draft 7) of documents, or of test files. An editor with the YAML language server completes keys by it, explains
them, and marks mistakes while you write. Write it into a file, and name that in the first line of your documents:

  # yaml-language-server: $schema=./schema.json

The schema knows every key of a document, as the parser does. References between documents, and the types of expressions, are for lint.`,
		Example:   "  kisgrid schema > schema.json\n  kisgrid schema tests > tests.schema.json",
		ValidArgs: []string{"documents", "tests"},
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := definition.Schema()
			switch {
			case len(args) == 0, args[0] == "documents":
			case args[0] == "tests":
				text = casefile.Schema()
			default:
				return fmt.Errorf("there is no schema of %q: give documents or tests%s", args[0], definition.Suggest(args[0], []string{"documents", "tests"}))
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/access"
)

// tokenCommand makes the command kisgrid token.
func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make tokens, by which coordinators know callers"}
	var o output
	draw := &cobra.Command{
		Use:   "new",
		Short: "Draw a token, and print it with its hash",
		Long: `new draws a token of 256 random bits. The token goes to standard output, for its owner. Its SHA-256 goes to standard error, for the access
file of the coordinators. With -o json both are in one object, {token, sha256}. Nobody else gets to know the token, and it can't be found out from the hash.`,
		Example: "  kisgrid token new > token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, hash := access.NewToken()
			if o.format == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]string{"token": secret, "sha256": hash})
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), secret); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "for the access file: {sha256: %s}\n", hash)
			return err
		},
	}
	o.bind(draw, "json")
	cmd.AddCommand(draw)
	return cmd
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/access"
)

// tokenCommand makes the command kisgrid token.
func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make tokens, by which coordinators know callers"}
	cmd.AddCommand(&cobra.Command{
		Use:   "new",
		Short: "Draw a token, and print it with its hash",
		Long: `new draws a token of 256 random bits. The token goes to standard output, for its owner. Its SHA-256 goes to standard error, for the access
file of the coordinators. Nobody else gets to know the token, and it can't be found out from the hash.`,
		Example: "  kisgrid token new > token",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, hash := access.NewToken()
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), secret); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "for the access file: {sha256: %s}\n", hash)
			return err
		},
	})
	return cmd
}

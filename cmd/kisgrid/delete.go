package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deleteCommand makes the command kisgrid delete, which deletes documents of flows, functions and connectors from etcd.
func deleteCommand() *cobra.Command {
	var s server
	var o output
	cmd := &cobra.Command{
		Use:   "delete flow|function|connector NAME...",
		Short: "Delete documents, in one transaction",
		Long: `delete removes documents, all of them in one transaction. Batches of a deleted flow that are under way still run to their end. A
function or connector that a flow still needs is not deleted: delete fails, and deletes nothing.`,
		Example: "  kisgrid delete flow CalStuAvgScore12",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, ok := map[string]definition.Kind{
				"flow": definition.KindFlow, "flows": definition.KindFlow,
				"function": definition.KindFunc, "functions": definition.KindFunc, "func": definition.KindFunc,
				"connector": definition.KindConn, "connectors": definition.KindConn, "conn": definition.KindConn,
			}[args[0]]
			if !ok {
				return fmt.Errorf("there is no kind %q: delete flow, function or connector", args[0])
			}
			in := &pb.DeleteRequest{}
			for _, name := range args[1:] {
				in.Documents = append(in.Documents, &pb.DocumentName{Kind: string(kind), Name: name})
			}
			return s.admin(func(a pb.AdminClient) error {
				r, err := a.Delete(cmd.Context(), in)
				if err == nil && o.format == "json" {
					return printJSON(cmd.OutOrStdout(), map[string]any{"kind": string(kind), "names": args[1:], "revision": r.GetRevision()})
				}
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s deleted at revision %d\n", args[0], strings.Join(args[1:], ", "), r.GetRevision())
				}
				return err
			})
		},
	}
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

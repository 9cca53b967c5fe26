package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deleteCommand makes the command kisgrid delete, which deletes documents of flows, functions and connectors from etcd.
func deleteCommand() *cobra.Command {
	var s server
	var o output
	var dry bool
	cmd := &cobra.Command{
		Use:   "delete flow|function|connector NAME...",
		Short: "Delete documents, in one transaction",
		Long: `delete removes documents, all of them in one transaction. Batches of a deleted flow that are under way still run to their end. A
function or connector that a flow still needs is not deleted: delete fails, and deletes nothing.`,
		Example: "  kisgrid delete flow CalStuAvgScore12 --dry-run\n  kisgrid delete flow CalStuAvgScore12",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := documentKind(args[0])
			if err != nil {
				return err
			}
			in := &pb.DeleteRequest{}
			for _, name := range args[1:] {
				in.Documents = append(in.Documents, &pb.DocumentName{Kind: string(kind), Name: name})
			}
			return s.admin(func(a pb.AdminClient) error {
				if dry {
					return checkDelete(cmd, a, in, &o)
				}
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
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check that the documents may be deleted")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// checkDelete asks a coordinator whether the documents of a request may be deleted, and prints that they may.
func checkDelete(cmd *cobra.Command, a pb.AdminClient, in *pb.DeleteRequest, o *output) error {
	_, err := a.CheckDelete(cmd.Context(), &pb.CheckDeleteRequest{Documents: in.GetDocuments()})
	if status.Code(err) == codes.Unimplemented {
		return batch.Errorf(batch.CodeProtocolMismatch, "the coordinator's build is too old for --dry-run, and nothing was deleted: upgrade it, or name another one with --server")
	}
	if err != nil {
		return err
	}
	var names []string
	for _, d := range in.GetDocuments() {
		names = append(names, d.GetName())
	}
	if o.format == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{"kind": in.GetDocuments()[0].GetKind(), "names": names, "dry_run": true})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s would be deleted\n", in.GetDocuments()[0].GetKind(), strings.Join(names, ", "))
	return err
}

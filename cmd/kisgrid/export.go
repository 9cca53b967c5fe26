package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// exportCommand makes the command kisgrid export, which writes all documents of a cluster into a folder, one file each.
func exportCommand() *cobra.Command {
	var s server
	var o output
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write all documents of a cluster into a folder",
		Long: `export writes every document as it stands in etcd into a file of its own. To apply the folder to the same cluster changes nothing; to
apply it to another cluster copies the flows.`,
		Example: "  kisgrid export backup",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var docs []definition.Document
			err := s.admin(func(a pb.AdminClient) error {
				for _, kind := range []string{"flows", "functions", "connectors"} {
					got, err := a.Get(cmd.Context(), &pb.GetRequest{Kind: kind})
					if err != nil {
						return err
					}
					for _, r := range got.GetResources() {
						d := r.GetDocument()
						docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := definition.ExportDir(args[0], docs); err != nil {
				return err
			}
			if o.format == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{"documents": len(docs), "folder": args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents written into %s\n", len(docs), args[0])
			return err
		},
	}
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

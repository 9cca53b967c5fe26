package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func deleteCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:     "delete flow|function|connector NAME...",
		Short:   "Delete documents, in one transaction",
		Long:    "delete removes documents. A flow's batches under way end; what a flow still needs is not deleted.",
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
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s deleted at revision %d\n", args[0], strings.Join(args[1:], ", "), r.GetRevision())
				}
				return err
			})
		},
	}
	s.bind(cmd)
	return cmd
}

func exportCommand() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:     "export DIR",
		Short:   "Write the cluster's documents into a folder, to apply elsewhere",
		Long:    "export writes every document as it stands in etcd, one file each. Applying the folder to the same cluster changes nothing.",
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
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents written into %s\n", len(docs), args[0])
			return err
		},
	}
	s.bind(cmd)
	return cmd
}

func lintCommand() *cobra.Command {
	var steps int
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Check documents without a cluster",
		Long: `lint parses a folder's documents and checks what they say of each other. Whether functions exist and row types fit, the
lint of a worker's own program checks: go run ./cmd/worker lint DIR.`,
		Example: "  kisgrid lint examples/students/conf",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := definition.Read(args[0])
			if err != nil {
				return err
			}
			set, err := definition.NewSet(docs)
			for _, warning := range set.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
			}
			var mistakes definition.Mistakes
			for _, err := range []error{err, set.Intake(steps)} {
				more, _ := errors.AsType[definition.Mistakes](err)
				mistakes = append(mistakes, more...)
			}
			if len(mistakes) > 0 { // as compilers tell them, a line each
				fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
				return errTold
			}
			for _, warning := range set.FlowWarnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
			}
			for _, note := range set.Notes() {
				fmt.Fprintln(cmd.ErrOrStderr(), "note: "+note)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents are right: %d flows, %d functions, %d connectors\n",
				len(set.Documents()), len(set.Flows), len(set.Functions), len(set.Connectors))
			return err
		},
	}
	cmd.Flags().IntVar(&steps, "max-steps", definition.MaxSteps, "how many `steps` a flow may have: what the coordinators' flag says")
	return cmd
}

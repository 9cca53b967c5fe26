package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// noComparison is the error of a diff that could not compare. The program ends with exit code 2.
type noComparison struct{ error }

// Unwrap returns the reason.
func (e noComparison) Unwrap() error { return e.error }

// diffCommand makes the command kisgrid diff, which compares documents with those of a cluster.
func diffCommand() *cobra.Command {
	var s server
	var o output
	var path string
	var prune bool
	cmd := &cobra.Command{
		Use:   "diff -f DIR|FILE|-",
		Short: "Compare documents with those of the cluster",
		Long: `diff shows how kisgrid apply would change the documents of a cluster, as diff -u does: lines with - are in the cluster only, lines with +
in the given documents only. It checks the documents as apply does, and writes nothing. With --prune it also shows the documents that
apply --prune would delete.

The exit code is 0 when nothing differs, 1 when something does, and 2 after an error.`,
		Example: "  kisgrid diff -f examples/students/conf\n  kisgrid diff -f conf --prune && echo the cluster has what the folder has",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := readDocuments(path, cmd.InOrStdin())
			if err != nil {
				return noComparison{err}
			}
			var d *pb.Diff
			err = s.admin(func(a pb.AdminClient) (err error) {
				d, err = diffOf(cmd.Context(), a, docs, prune)
				return err
			})
			if err != nil {
				return noComparison{err}
			}
			return printDiff(cmd.OutOrStdout(), d, docs, &o)
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "`path` of a folder or a file of documents; - for standard input")
	cmd.Flags().BoolVar(&prune, "prune", false, "show also the documents of the cluster that are not among the given ones")
	o.bind(cmd, "json")
	s.bind(cmd)
	_ = cmd.MarkFlagRequired("filename")
	return cmd
}

// diffOf asks a coordinator how documents differ from those of the cluster.
func diffOf(ctx context.Context, a pb.AdminClient, docs []definition.Document, prune bool) (*pb.Diff, error) {
	in := &pb.ApplyRequest{DryRun: true, Prune: prune}
	var err error
	if in.Documents, err = parsed(docs); err != nil {
		return nil, ownError{err}
	}
	events, err := a.Apply(ctx, in)
	if err != nil {
		return nil, err
	}
	d := &pb.Diff{}
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if e.GetDiff() != nil {
			d = e.GetDiff()
		}
	}
	if prune && !d.GetPrunes() {
		return nil, errors.New("the coordinator's build is too old for --prune: upgrade it, or name another one with --server")
	}
	return d, nil
}

// printDiff prints differences, and returns errReported if there are some.
func printDiff(out io.Writer, d *pb.Diff, docs []definition.Document, o *output) error {
	differs := false
	for _, c := range d.GetChanges() {
		differs = differs || c.GetAction() != "unchanged"
		if o.format == "" && c.GetAction() != "unchanged" {
			fmt.Fprint(out, c.GetDiff())
		}
	}
	if o.format == "json" {
		if err := printEvent(out, &pb.ApplyEvent{Kind: &pb.ApplyEvent_Diff{Diff: d}}); err != nil {
			return err
		}
	} else if err := printChangedTypes(out, docs, d.GetChanges()); err != nil {
		return err
	}
	if differs {
		return errReported
	}
	return nil
}

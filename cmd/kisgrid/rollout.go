package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout status|history|undo FLOW",
		Short: "Follow, list and undo changes of a flow",
	}
	cmd.AddCommand(rolloutStatusCommand(), rolloutHistoryCommand(), rolloutUndoCommand())
	return cmd
}

func rolloutStatusCommand() *cobra.Command {
	var s server
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status FLOW",
		Short: "Wait until what the documents ask for has settled",
		Long:  "status tells how far the workers are with what the documents ask for, and waits until it is active, or says why it isn't; then it exits with 1.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not settled within --timeout %s", timeout))
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return rolloutStatus(ctx, a, args[0], cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the workers")
	s.bind(cmd)
	return cmd
}

func rolloutStatus(ctx context.Context, a pb.AdminClient, flow string, out io.Writer) error {
	events, err := a.Rollout(ctx, &pb.RolloutRequest{Flow: flow})
	if err != nil {
		return err
	}
	state := ""
	for {
		p, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return inTime(ctx, err)
		}
		describeProgress(out, p)
		state = p.GetState()
	}
	if state != cluster.StateActive && state != cluster.StateDisabled {
		return errTold
	}
	return nil
}

func rolloutHistoryCommand() *cobra.Command {
	var s server
	var o output
	cmd := &cobra.Command{
		Use:   "history FLOW",
		Short: "List the accepted revisions of a flow: the last 10, and those of the last 10 minutes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var h *pb.HistoryResponse
			err := s.admin(func(a pb.AdminClient) (err error) {
				h, err = a.History(cmd.Context(), &pb.HistoryRequest{Flow: args[0]})
				return err
			})
			if err != nil {
				return err
			}
			return printHistory(cmd.OutOrStdout(), h, o.format)
		},
	}
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

func printHistory(out io.Writer, h *pb.HistoryResponse, format string) error {
	if format == "json" {
		type accepted struct {
			Revision  int64             `json:"revision"`
			Accepted  time.Time         `json:"accepted"`
			Enabled   bool              `json:"enabled"`
			Active    bool              `json:"active"`
			Documents map[string]string `json:"documents"`
		}
		all := []accepted{}
		for _, r := range h.GetRevisions() {
			one := accepted{r.GetRevision(), time.UnixMilli(r.GetAcceptedUnixMilliseconds()).UTC(), r.GetEnabled(), r.GetActive(), map[string]string{}}
			for _, d := range r.GetDocuments() {
				one.Documents[d.GetKind()+"/"+d.GetName()] = string(d.GetYaml())
			}
			all = append(all, one)
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "REVISION\tACCEPTED\tENABLED\tACTIVE\tDOCUMENTS")
	for _, r := range h.GetRevisions() {
		active := "-"
		if r.GetActive() {
			active = "yes"
		}
		fmt.Fprintf(w, "%d\t%s\t%t\t%s\t%d\n", r.GetRevision(), time.UnixMilli(r.GetAcceptedUnixMilliseconds()).UTC().Format(time.RFC3339), r.GetEnabled(), active, len(r.GetDocuments()))
	}
	return w.Flush()
}

func rolloutUndoCommand() *cobra.Command {
	var s server
	var to int64
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "undo FLOW",
		Short: "Go back to the revision before the active one, or to another one of the history",
		Long: `undo writes the documents of an earlier revision again, in one transaction: the flow's, and those of its functions and
connectors. Other flows that share them are concerned too, as with apply. The revision gets a new number.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not settled within --timeout %s", timeout))
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				docs, err := earlier(ctx, a, args[0], to)
				if err != nil {
					return err
				}
				return apply(ctx, a, docs, false, false, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "`revision` to go back to (default: the one before the active one)")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the workers")
	s.bind(cmd)
	return cmd
}

// earlier finds the documents of the revision to go back to.
func earlier(ctx context.Context, a pb.AdminClient, flow string, to int64) ([]definition.Document, error) {
	h, err := a.History(ctx, &pb.HistoryRequest{Flow: flow})
	if err != nil {
		return nil, err
	}
	var found *pb.Accepted
	for _, r := range h.GetRevisions() {
		if to != 0 && r.GetRevision() == to || to == 0 && !r.GetActive() {
			found = r
		}
		if to == 0 && r.GetActive() {
			break
		}
	}
	switch {
	case found == nil && to != 0:
		return nil, batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %s is not kept: kisgrid rollout history %s lists those that are", to, flow, flow)
	case found == nil:
		return nil, batch.Errorf(batch.CodeRevisionGone, "no revision of flow %s before the active one is kept", flow)
	}
	var docs []definition.Document
	for _, d := range found.GetDocuments() {
		docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
	}
	return docs, nil
}

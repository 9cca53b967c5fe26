package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
		Long: `status tells how far the workers are with what the documents ask for, and waits until it is active, or says why it isn't; then it
exits with 1. It does so too where the flow is active and unserved: no worker can run it. A worker that is about to come, or to
come back, is waited for, 10 s at the most.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not settled within --timeout %s", timeout))
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return rolloutStatus(ctx, a, args[0], min(workerPatience, timeout), cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the workers")
	s.bind(cmd)
	return cmd
}

// workerPatience is how long rollout status waits for a worker where none can run the flow: as long as rows wait by default.
const workerPatience = 10 * time.Second

func rolloutStatus(ctx context.Context, a pb.AdminClient, flow string, workers time.Duration, out io.Writer) error {
	events, err := a.Rollout(ctx, &pb.RolloutRequest{Flow: flow, WorkersMilliseconds: milliseconds(workers)})
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
	var how applyOptions
	cmd := &cobra.Command{
		Use:   "undo FLOW",
		Short: "Drop a change that is not active, or go back to the revision before the active one, or to another one of the history",
		Long: `undo takes back the last change of a flow. Where the documents ask for what is not active, because it was rejected, waits for a
worker or is still being applied, the documents of the active revision are written again, and it stays. Else, and with --to, those of
an earlier revision are: the flow's, and those of its functions and connectors. Other flows that share them are concerned too,
as with apply. The revision gets a new number.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := how.bound(cmd.Context())
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return undo(ctx, a, args[0], to, how, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "`revision` to go back to (default: the active one where something else is wanted, else the one before)")
	how.bind(cmd)
	s.bind(cmd)
	return cmd
}

func undo(ctx context.Context, a pb.AdminClient, flow string, to int64, how applyOptions, out io.Writer) error {
	h, err := a.History(ctx, &pb.HistoryRequest{Flow: flow})
	if err != nil {
		return inTime(ctx, err)
	}
	all := h.GetRevisions()
	if active := slices.IndexFunc(all, (*pb.Accepted).GetActive); to == 0 && active >= 0 {
		drops, err := differs(ctx, a, all[active])
		if err != nil {
			return inTime(ctx, err)
		}
		if drops {
			fmt.Fprintf(out, "flow %s: what its documents ask for is not active, and is dropped; revision %d stays\n", flow, all[active].GetRevision())
			return apply(ctx, a, documentsOf(all[active]), how, out)
		}
		to = before(all[:active], all[active])
	} else if to == 0 && len(all) > 0 {
		to = all[len(all)-1].GetRevision() // none is active: the last that was
	}
	i := slices.IndexFunc(all, func(r *pb.Accepted) bool { return r.GetRevision() == to })
	switch {
	case to == 0:
		return batch.Errorf(batch.CodeRevisionGone, "no revision of flow %s before the active one is kept: write the documents that it is to have, and apply them", flow)
	case i < 0:
		return batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %s is not kept: kisgrid rollout history %s lists those that are", to, flow, flow)
	}
	return apply(ctx, a, documentsOf(all[i]), how, out)
}

// before is the last of earlier revisions that has other documents than the active one; 0 for none. To write the same again
// would undo nothing.
func before(earlier []*pb.Accepted, active *pb.Accepted) int64 {
	for _, r := range slices.Backward(earlier) {
		if !slices.EqualFunc(r.GetDocuments(), active.GetDocuments(), func(a, b *pb.Document) bool {
			return a.GetKind() == b.GetKind() && a.GetName() == b.GetName() && bytes.Equal(a.GetYaml(), b.GetYaml())
		}) {
			return r.GetRevision()
		}
	}
	return 0
}

// differs reports whether documents that a revision was made of have changed since, or are gone.
func differs(ctx context.Context, a pb.AdminClient, r *pb.Accepted) (bool, error) {
	events, err := a.Apply(ctx, &pb.ApplyRequest{Documents: r.GetDocuments(), DryRun: true})
	if err != nil {
		return false, err
	}
	found := false
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return false, err
		}
		found = found || slices.ContainsFunc(e.GetDiff().GetChanges(), func(c *pb.Change) bool { return c.GetAction() != "unchanged" })
	}
}

func documentsOf(r *pb.Accepted) (docs []definition.Document) {
	for _, d := range r.GetDocuments() {
		docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
	}
	return docs
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// rolloutCommand makes the command kisgrid rollout, and its subcommands status, history and undo.
func rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout status|history|undo FLOW",
		Short: "Follow, list and undo changes of a flow",
	}
	cmd.AddCommand(rolloutStatusCommand(), rolloutHistoryCommand(), rolloutUndoCommand())
	return cmd
}

// rolloutStatusCommand makes the command kisgrid rollout status, which waits until the newest documents of a flow are active.
func rolloutStatusCommand() *cobra.Command {
	var s server
	var o output
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status FLOW",
		Short: "Wait until the newest documents of a flow are active",
		Long: `status shows how many workers have taken the newest documents of a flow, and waits until that revision is active.

The exit code is 1, and status says why, when the revision is rejected or not active within --timeout. It is 1 as well when the
revision is active and no worker can run it ("unserved"). A worker may be about to start or to come back: status waits for it, for
10 s at most. With -o json it prints an object a line, as apply does.`,
		Example: "  kisgrid rollout status CalStuAvgScore12\n  kisgrid rollout status CalStuAvgScore12 --timeout 10s -o json",
		Args:    exactly("FLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not settled within --timeout %s", timeout))
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return rolloutStatus(ctx, a, args[0], min(workerPatience, timeout), o.format, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait until the flow is active")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// workerPatience is how long rollout status waits for a worker when none can run the flow. Rows wait as long by default
// (--no-worker of the coordinators).
const workerPatience = 10 * time.Second

// rolloutStatus prints how far a change of a flow has come until it has settled. It returns errReported if the flow is neither
// active nor disabled in the end. workers bounds the wait for a worker that can run the flow.
func rolloutStatus(ctx context.Context, a pb.AdminClient, flow string, workers time.Duration, format string, out io.Writer) error {
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
		if state = p.GetState(); format == "json" {
			err = printJSON(out, progressOf(p))
		} else {
			describeProgress(out, p)
		}
		if err != nil {
			return err
		}
	}
	if state != cluster.StateActive && state != cluster.StateDisabled {
		return errReported
	}
	return nil
}

// rolloutHistoryCommand makes the command kisgrid rollout history, which lists the accepted revisions of a flow.
func rolloutHistoryCommand() *cobra.Command {
	var s server
	var o output
	cmd := &cobra.Command{
		Use:     "history FLOW",
		Short:   "List the accepted revisions of a flow that are kept: the last 10, and all of the last 10 minutes",
		Example: "  kisgrid rollout history CalStuAvgScore12\n  kisgrid rollout history CalStuAvgScore12 -o json",
		Args:    exactly("FLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var h *pb.HistoryResponse
			err := s.admin(func(a pb.AdminClient) (err error) {
				h, err = a.History(cmd.Context(), &pb.HistoryRequest{Flow: args[0]})
				return err
			})
			if err != nil {
				return err
			}
			return printHistory(cmd.OutOrStdout(), h, &o)
		},
	}
	o.bind(cmd, listFormats...)
	s.bind(cmd)
	return cmd
}

// acceptedView is a revision of a flow as -o json prints it.
type acceptedView struct {
	Revision  int64             `json:"revision"`
	Accepted  time.Time         `json:"accepted"`
	Enabled   bool              `json:"enabled"`
	Active    bool              `json:"active"`
	Author    string            `json:"author,omitempty"`
	Documents map[string]string `json:"documents"`
}

// acceptedViews converts the revisions of a flow into the form that -o json prints.
func acceptedViews(h *pb.HistoryResponse) []acceptedView {
	all := []acceptedView{}
	for _, r := range h.GetRevisions() {
		one := acceptedView{r.GetRevision(), time.UnixMilli(r.GetAcceptedUnixMilliseconds()).UTC(), r.GetEnabled(), r.GetActive(), r.GetAuthor(), map[string]string{}}
		for _, d := range r.GetDocuments() {
			one.Documents[d.GetKind()+"/"+d.GetName()] = string(d.GetYaml())
		}
		all = append(all, one)
	}
	return all
}

// printHistory prints the revisions as a table, or as data with their documents.
func printHistory(out io.Writer, h *pb.HistoryResponse, o *output) error {
	all := acceptedViews(h)
	l := &list{heading: []string{"REVISION", "ACCEPTED", "ENABLED", "ACTIVE", "DOCUMENTS", "AUTHOR"}, none: "no revision was ever active"}
	for _, one := range all {
		active := "-"
		if one.Active {
			active = "yes"
		}
		number := strconv.FormatInt(one.Revision, 10)
		l.names = append(l.names, number)
		l.rows = append(l.rows, []string{number, one.Accepted.Format(time.RFC3339), strconv.FormatBool(one.Enabled), active, strconv.Itoa(len(one.Documents)), cmp.Or(one.Author, "-")})
	}
	l.value = all
	return o.print(out, l)
}

// rolloutUndoCommand makes the command kisgrid rollout undo, which writes the documents of an older revision of a flow again.
func rolloutUndoCommand() *cobra.Command {
	var s server
	var o output
	var to int64
	var opts applyOptions
	cmd := &cobra.Command{
		Use:   "undo FLOW",
		Short: "Take back the last change of a flow, or go back to an older revision",
		Long: `undo takes back the last change of a flow by writing older documents again: those of the flow, of its functions and of its connectors.

  - The newest documents are not active (they were rejected, wait for a worker, or are still being applied): undo writes the
    documents of the active revision, which stays active.
  - The newest documents are active: undo writes the documents of the revision before.
  - --to names a revision of kisgrid rollout history: undo writes the documents of that revision.

The result is a new revision with a new number. Other flows that use the same functions or connectors change too, as with apply.
With -o json it prints an object a line, as apply does.`,
		Example: "  kisgrid rollout undo CalStuAvgScore12 --dry-run\n  kisgrid rollout undo CalStuAvgScore12 --to 17",
		Args:    exactly("FLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.asJSON = o.format == "json"
			ctx, cancel := opts.bound(cmd.Context())
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return undo(ctx, a, args[0], to, opts, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "`revision` to go back to (default: the active one while a newer one is not active, else the one before the active one)")
	opts.bind(cmd)
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// undo implements kisgrid rollout undo: it writes the documents of an older revision of a flow again, and waits until they are
// active. The argument to is the number of that revision; 0 means that undo chooses the revision, as the help text says.
func undo(ctx context.Context, a pb.AdminClient, flow string, to int64, opts applyOptions, out io.Writer) error {
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
			if !opts.asJSON {
				fmt.Fprintf(out, "flow %s: the newest documents are not active, and are dropped; revision %d stays\n", flow, all[active].GetRevision())
			}
			return apply(ctx, a, documentsOf(all[active]), opts, out)
		}
		to = before(all[:active], all[active]) // the newest documents are active
	} else if to == 0 && len(all) > 0 {
		to = all[len(all)-1].GetRevision() // none is active: the newest that was
	}
	i := slices.IndexFunc(all, func(r *pb.Accepted) bool { return r.GetRevision() == to })
	switch {
	case to == 0:
		return batch.Errorf(batch.CodeRevisionGone, "the history of flow %s has no revision before the active one: write the documents that you want, and apply them", flow)
	case i < 0:
		return batch.Errorf(batch.CodeRevisionGone, "revision %d of flow %s is not kept: kisgrid rollout history %s lists those that are", to, flow, flow)
	}
	return apply(ctx, a, documentsOf(all[i]), opts, out)
}

// before returns the number of the revision to which an undo without --to goes: the newest of the earlier revisions whose documents
// differ from those of the active one. 0 means that there is none. A revision with the same documents is passed over, because to
// write them again would undo nothing.
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

// differs reports whether a document of a revision has been changed or deleted since the revision was accepted. It asks the
// coordinator for a dry run of applying the documents.
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

// documentsOf converts the documents of an accepted revision into the type that apply takes.
func documentsOf(r *pb.Accepted) (docs []definition.Document) {
	for _, d := range r.GetDocuments() {
		docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
	}
	return docs
}

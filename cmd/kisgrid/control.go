package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// controlled is the answer of pause, resume, cordon, uncordon and drain, as -o json prints it.
type controlled struct {
	Kind    string `json:"kind"` // flow or worker
	Name    string `json:"name"`
	State   string `json:"state"`   // paused, resumed, cordoned, uncordoned or drained
	Changed bool   `json:"changed"` // false: it was so already
	DryRun  bool   `json:"dry_run,omitempty"`
}

// print writes the answer in the format: json, or text for people if it is empty.
func (c controlled) print(out io.Writer, format string) error {
	switch format {
	case "":
		already := ""
		if c.DryRun {
			c.State = "would be " + c.State
		}
		if !c.Changed {
			already = " already"
			if strings.HasSuffix(c.State, "resumed") || strings.HasSuffix(c.State, "uncordoned") {
				already = ": it was not " + map[string]string{"resumed": "paused", "uncordoned": "cordoned"}[strings.TrimPrefix(c.State, "would be ")]
			}
		}
		_, err := fmt.Fprintf(out, "%s %s %s%s\n", c.Kind, c.Name, c.State, already)
		return err
	case "json":
		text, err := json.Marshal(c)
		if err == nil {
			_, err = fmt.Fprintln(out, string(text))
		}
		return err
	}
	return fmt.Errorf("--output %q: give json", format)
}

// pauseCommand makes the commands kisgrid pause and kisgrid resume, as resume says.
func pauseCommand(resume bool) *cobra.Command {
	var s server
	var o output
	var reason string
	var dry bool
	cmd := &cobra.Command{
		Use:   "pause FLOW",
		Short: "Make a flow take no new batches",
		Long: `pause makes a flow refuse new batches, with the code FLOW_DISABLED and the reason that you give. Rows under way go on, and rows that
wait for a Save go on waiting. It lasts until kisgrid resume, also when the flow is applied again, deleted and made anew, or everything
restarts. It is the key control/flow/FLOW in etcd, below the prefix.`,
		Example: "  kisgrid pause CalStuAvgScore12 --reason \"scores are being corrected, until 3 o'clock\"\n  kisgrid get flow CalStuAvgScore12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.admin(func(a pb.AdminClient) error {
				if dry {
					v, err := pausedNow(cmd.Context(), a, args[0])
					if err != nil {
						return err
					}
					state := map[bool]string{false: "paused", true: "resumed"}[resume]
					return controlled{Kind: "flow", Name: args[0], State: state, Changed: v == resume, DryRun: true}.print(cmd.OutOrStdout(), o.format)
				}
				r, err := a.Pause(cmd.Context(), &pb.PauseRequest{Flow: args[0], Resume: resume, Reason: reason})
				if err != nil {
					return err
				}
				state := "paused"
				if resume {
					state = "resumed"
				}
				return controlled{Kind: "flow", Name: args[0], State: state, Changed: r.GetChanged()}.print(cmd.OutOrStdout(), o.format)
			})
		},
	}
	if resume {
		cmd.Use, cmd.Short = "resume FLOW", "Make a paused flow take batches again"
		cmd.Long = "resume ends what kisgrid pause has begun: the flow takes new batches again."
		cmd.Example = "  kisgrid resume CalStuAvgScore12"
	} else {
		bindReason(cmd, &reason)
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// bindReason adds the flag --reason to cmd.
func bindReason(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for those who find it so")
}

// cordonCommand makes the commands kisgrid cordon and kisgrid uncordon, as uncordon says.
func cordonCommand(uncordon bool) *cobra.Command {
	var s server
	var o output
	var reason string
	var dry bool
	cmd := &cobra.Command{
		Use:   "cordon WORKER",
		Short: "Give a worker no new rows",
		Long: `cordon makes all coordinators send a worker no new rows. Other workers get its slots, and rows that it has not begun come back. Its
process goes on, and so do the rows that it has begun. WORKER is the worker's name or id; a process that starts later under that name is
cordoned, too. It lasts until kisgrid uncordon. It is the key control/worker/NAME in etcd, below the prefix. kisgrid drain also waits
until the worker has no row any more.`,
		Example: "  kisgrid cordon worker-3 --reason \"its disk is full\"\n  kisgrid get workers",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.admin(func(a pb.AdminClient) error {
				if dry {
					state := map[bool]string{false: "cordoned", true: "uncordoned"}[uncordon]
					return dryCordon(cmd, a, args[0], state, uncordon, &o)
				}
				r, err := a.Cordon(cmd.Context(), &pb.CordonRequest{Worker: args[0], Uncordon: uncordon, Reason: reason})
				if err != nil {
					return err
				}
				state := "cordoned"
				if uncordon {
					state = "uncordoned"
				}
				return controlled{Kind: "worker", Name: r.GetName(), State: state, Changed: r.GetChanged()}.print(cmd.OutOrStdout(), o.format)
			})
		},
	}
	if uncordon {
		cmd.Use, cmd.Short = "uncordon WORKER", "Give a cordoned worker rows again"
		cmd.Long = "uncordon ends what kisgrid cordon and kisgrid drain have begun: the worker gets slots and rows again."
		cmd.Example = "  kisgrid uncordon worker-3"
	} else {
		bindReason(cmd, &reason)
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// drainCommand makes the command kisgrid drain, which cordons a worker and waits until it has no row any more.
func drainCommand() *cobra.Command {
	var s server
	var o output
	var reason string
	var dry bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain WORKER",
		Short: "Give a worker no new rows, and wait until it has none",
		Long: `drain does what kisgrid cordon does, and then waits until every coordinator has said that the worker has no row of it any more. Then
the process can be stopped, and nothing runs twice. The worker stays cordoned, also if drain ends early: kisgrid uncordon gives it rows
again. A worker that is stopped by SIGTERM, as Kubernetes does, needs no drain: it hands its rows back by itself.`,
		Example: "  kisgrid drain worker-3 --timeout 10m && ssh worker-3 sudo apt upgrade",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.admin(func(a pb.AdminClient) error {
				if dry {
					return dryCordon(cmd, a, args[0], "drained", false, &o)
				}
				r, err := a.Cordon(cmd.Context(), &pb.CordonRequest{Worker: args[0], Reason: reason})
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, batch.Errorf(batch.CodeDeadline, "%s is over (--timeout)", timeout))
				defer cancel()
				if err := awaitDrained(ctx, a, r.GetName(), cmd.ErrOrStderr()); err != nil {
					return err
				}
				return controlled{Kind: "worker", Name: r.GetName(), State: "drained", Changed: r.GetChanged()}.print(cmd.OutOrStdout(), o.format)
			})
		},
	}
	bindReason(cmd, &reason)
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// drainPoll is the interval at which awaitDrained asks. Coordinators tell about once a second.
const drainPoll = 300 * time.Millisecond

// awaitDrained blocks until all workers of a name have no row any more, or there is none. It writes the rows that are left to progress whenever
// their number changes. If ctx ends first, it returns an error that has this number.
func awaitDrained(ctx context.Context, a pb.AdminClient, name string, progress io.Writer) error {
	told := ""
	for {
		got, err := a.Get(ctx, &pb.GetRequest{Kind: "workers"})
		left := told
		if err == nil {
			if left, err = undrained(got, name); err == nil && left == "" {
				return nil
			}
		}
		if ctx.Err() == nil && err != nil {
			return err
		}
		if left != told {
			told = left
			fmt.Fprintf(progress, "worker %s: %s\n", name, left)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until worker %s is drained: %w; %s; it stays cordoned: run kisgrid drain %s again to go on waiting, or kisgrid uncordon %s",
				name, context.Cause(ctx), told, name, name)
		case <-time.After(drainPoll):
		}
	}
}

// undrained says in words what the workers of a name still have; "" means nothing.
func undrained(got *pb.GetResponse, name string) (string, error) {
	for _, r := range got.GetResources() {
		var v coordinator.WorkerView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return "", fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
		}
		switch c := v.Cordoned; {
		case v.Name != name || c != nil && c.Drained:
		case c == nil:
			return "the coordinator has not heard of it yet", nil
		case len(c.NotTold) > 0:
			return "no word yet from " + strings.Join(c.NotTold, ", "), nil
		default:
			rows := int64(0)
			for n := range maps.Values(c.Rows) {
				rows += n
			}
			return fmt.Sprintf("%d rows left, sent by %s", rows, strings.Join(slices.DeleteFunc(slices.Sorted(maps.Keys(c.Rows)), func(id string) bool { return c.Rows[id] == 0 }), ", ")), nil
		}
	}
	return "", nil
}

// pausedNow reports whether a flow is paused.
func pausedNow(ctx context.Context, a pb.AdminClient, flow string) (bool, error) {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: "flows", Name: flow, Known: true})
	if err != nil {
		return false, err
	}
	for _, r := range got.GetResources() {
		var v coordinator.FlowView
		err := json.Unmarshal(r.GetStatus(), &v)
		return v.Paused != nil, err
	}
	return false, batch.Errorf(batch.CodeNotFound, "there is no flow %q: kisgrid get flows lists them", flow)
}

// dryCordon prints whether a cordon of a worker, which is named by its name or id, would change something.
func dryCordon(cmd *cobra.Command, a pb.AdminClient, worker, state string, uncordon bool, o *output) error {
	got, err := a.Get(cmd.Context(), &pb.GetRequest{Kind: "workers"})
	if err != nil {
		return err
	}
	for _, r := range got.GetResources() {
		var v coordinator.WorkerView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
		}
		if v.ID == worker || v.Name == worker {
			c := controlled{Kind: "worker", Name: v.Name, State: state, Changed: (v.Cordoned != nil) == uncordon, DryRun: true}
			return c.print(cmd.OutOrStdout(), o.format)
		}
	}
	return batch.Errorf(batch.CodeNotFound, "there is no worker %q: kisgrid get workers lists them", worker)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func applyCommand() *cobra.Command {
	var s server
	var o output
	var path string
	var how applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f DIR|FILE|-",
		Short: "Change flows, functions and connectors as one",
		Long: `apply shows what the documents would change, checks them together with those stored, writes them in one transaction, and
waits until each flow concerned runs on every capable worker, or says why it doesn't. What runs stays until then. A flow
that no worker can run yet is waited for: workers may be about to start.

Once the flows are active it waits, for --wait at the most, until their connectors are connected on each worker, and says which are
not, and why. They are tried again and again, and the flows run: that is no failure unless --require-connected says so.

One transaction takes 128 documents (the coordinators' --max-txn-ops) and 1.5 MiB. With --in-parts more are written in several:
connectors, then functions, then flows, each as long as nobody else has changed them. What runs meanwhile may be some of the
change; where the command is cut off, the same command writes the rest.

It exits with 1 when a flow is rejected, or has not settled within --timeout.`,
		Example: "  kisgrid apply -f examples/students/conf\n  kisgrid apply -f flow.yml --dry-run\n  cat flow.yml | kisgrid apply -f -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := readDocuments(path, cmd.InOrStdin())
			if err != nil {
				return err
			}
			how.asJSON = o.format == "json"
			ctx, cancel := how.bound(cmd.Context())
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return apply(ctx, a, docs, how, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "`folder`, file, or - for standard input")
	cmd.Flags().BoolVar(&how.dryRun, "dry-run", false, "only show what would change")
	how.bind(cmd)
	o.bind(cmd, "json, one event a line")
	s.bind(cmd)
	_ = cmd.MarkFlagRequired("filename")
	return cmd
}

// applyOptions say how documents are applied.
type applyOptions struct {
	dryRun, asJSON bool
	timeout        time.Duration // of all of it
	wait           time.Duration // for connectors
	connected      bool          // they must be
	inParts        bool
}

func (o *applyOptions) bind(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "how long to wait for the workers, and for all else")
	cmd.Flags().DurationVar(&o.wait, "wait", 10*time.Second, "how long to wait for the flows' connectors, once the flows are active")
	cmd.Flags().BoolVar(&o.connected, "require-connected", false, "exit with 1 when a connector is not connected then")
	cmd.Flags().BoolVar(&o.inParts, "in-parts", false, "write more documents than one transaction takes: connectors, then functions, then flows")
}

// bound is ctx, which ends with the timeout.
func (o *applyOptions) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not settled within --timeout %s", o.timeout))
}

// readDocuments reads a folder, a file, or standard input. Nothing is parsed: the coordinator does that.
func readDocuments(path string, stdin io.Reader) ([]definition.Document, error) {
	if path == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, 64<<20))
		if err != nil {
			return nil, fmt.Errorf("read documents from standard input: %w", err)
		}
		return definition.Split("standard input", text), nil
	}
	return definition.Read(path)
}

// apply sends the documents and prints what comes of them.
func apply(ctx context.Context, a pb.AdminClient, docs []definition.Document, how applyOptions, out io.Writer) error {
	in := &pb.ApplyRequest{DryRun: how.dryRun, WorkersMilliseconds: milliseconds(how.timeout), TellConnectors: true, ConnectorsMilliseconds: milliseconds(how.wait), InParts: how.inParts}
	var mistakes []error
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		if p.Global != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: a global document rules local runs only, flags rule clusters\n", d)
			continue
		}
		for _, warning := range p.Warnings() {
			fmt.Fprintf(os.Stderr, "warning: %s\n", warning)
		}
		d = p.Document()
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	events, err := a.Apply(ctx, in)
	if err != nil {
		return err
	}
	settled := map[string]*pb.Progress{}
	var connectors *pb.Connectors
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return inTime(ctx, err)
		}
		if p := e.GetProgress(); p != nil {
			settled[p.GetFlow()] = p
		}
		if c := e.GetConnectors(); c != nil {
			connectors = c
		}
		if how.asJSON {
			if err := printEvent(out, e); err != nil {
				return err
			}
			continue
		}
		describeEvent(out, e, how.dryRun)
	}
	for _, p := range settled {
		if p.GetState() != cluster.StateActive && p.GetState() != cluster.StateDisabled {
			return errTold
		}
	}
	switch {
	case !how.connected || how.dryRun:
	case connectors == nil:
		return errors.New("the coordinator is of a build that does not say how connectors stand: upgrade it, or leave --require-connected out")
	case len(connectors.GetDegraded())+len(connectors.GetUnknown()) > 0:
		return errTold
	}
	return nil
}

// milliseconds is a wait as requests have it.
func milliseconds(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }

// inTime is the error of a call, or that the time given for it was up: the coordinator may see that a moment earlier.
func inTime(ctx context.Context, err error) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < time.Second && status.Code(err) == codes.DeadlineExceeded {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func describeEvent(out io.Writer, e *pb.ApplyEvent, dryRun bool) {
	if d := e.GetDiff(); d != nil {
		written := 0
		for _, c := range d.GetChanges() {
			fmt.Fprintf(out, "%s/%s %s\n", c.GetKind(), c.GetName(), map[string]string{"create": "created", "update": "changed", "unchanged": "unchanged"}[c.GetAction()])
			if c.GetAction() == "update" || dryRun {
				fmt.Fprint(out, c.GetDiff())
			}
			if c.GetAction() != "unchanged" {
				written++
			}
		}
		switch {
		case written == 0:
			fmt.Fprintln(out, "nothing to change")
		case dryRun:
			fmt.Fprintf(out, "%d documents would be written\n", written)
		default:
			fmt.Fprintf(out, "%d documents written at revision %d\n", written, d.GetRevision())
		}
		return
	}
	if p := e.GetProgress(); p != nil {
		describeProgress(out, p)
	}
	if c := e.GetConnectors(); c != nil {
		describeStandings(out, "degraded", c.GetDegraded())
		describeStandings(out, "not known to be connected", c.GetUnknown())
	}
}

func describeStandings(out io.Writer, state string, all []*pb.ConnectorStanding) {
	for _, s := range all {
		fmt.Fprintf(out, "connector %s: %s on worker %s: %s\n", s.GetConnector(), state, s.GetWorker(), s.GetReason())
	}
}

func describeProgress(out io.Writer, p *pb.Progress) {
	fmt.Fprintf(out, "flow %s: %s", p.GetFlow(), p.GetState())
	if p.GetOf() > 0 {
		fmt.Fprintf(out, ", taken by %d of %d workers", p.GetApplied(), p.GetOf())
	}
	if p.GetActive() > 0 && p.GetActive() != p.GetWanted() {
		fmt.Fprintf(out, ", revision %d stays active", p.GetActive())
	}
	fmt.Fprintln(out)
	for _, reason := range p.GetReasons() {
		fmt.Fprintln(out, "  "+strings.ReplaceAll(reason, "\n", "\n  "))
	}
	describeStandings(out, "degraded", p.GetDegraded())
}

// printEvent prints an event as one line of JSON.
func printEvent(out io.Writer, e *pb.ApplyEvent) error {
	line := map[string]any{}
	if d := e.GetDiff(); d != nil {
		changes := []map[string]string{}
		for _, c := range d.GetChanges() {
			changes = append(changes, map[string]string{"kind": c.GetKind(), "name": c.GetName(), "action": c.GetAction(), "diff": c.GetDiff()})
		}
		line["changes"], line["revision"] = changes, d.GetRevision()
	} else if c := e.GetConnectors(); c != nil {
		line["degraded"], line["unknown"] = standings(c.GetDegraded()), standings(c.GetUnknown())
	} else {
		p := e.GetProgress()
		line["flow"], line["state"], line["wanted"], line["active"] = p.GetFlow(), p.GetState(), p.GetWanted(), p.GetActive()
		line["applied"], line["of"], line["reasons"] = p.GetApplied(), p.GetOf(), append([]string{}, p.GetReasons()...)
	}
	return json.NewEncoder(out).Encode(line)
}

func standings(all []*pb.ConnectorStanding) []map[string]string {
	out := []map[string]string{}
	for _, s := range all {
		out = append(out, map[string]string{"connector": s.GetConnector(), "worker": s.GetWorker(), "reason": s.GetReason()})
	}
	return out
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// applyCommand makes the command kisgrid apply, which writes documents into etcd and waits until the flows run on them.
func applyCommand() *cobra.Command {
	var s server
	var o output
	var path string
	var opts applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f DIR|FILE|-",
		Short: "Change flows, functions and connectors in one transaction",
		Long: `apply changes the documents of a cluster while it runs:

  1. It compares the given documents with those in etcd, and shows the differences. Of changed flows and functions with expressions it
     also shows the types of rows and expressions.
  2. It checks the given documents together with those in etcd.
  3. It writes them in one transaction. With --dry-run it stops before this step.
  4. It waits until each changed flow is active: every worker that has the flow's functions has compiled the new revision. Until then
     the old revision runs. A flow whose functions no worker has is waited for too, because such a worker may be about to start.
  5. It waits, for --wait at most, until the connectors of these flows are connected on each worker, and says which are not, and why.
     Workers try such connectors again and again, and the flows run meanwhile. It is a failure only with --require-connected.

With --prune, documents of the cluster that are not among the given ones are deleted in the same transaction: so the cluster has what the
folder has. Look at kisgrid diff --prune first. Documents that you may not change stay.

A document may also be what kisgrid get flow NAME -o yaml prints.

One transaction takes 128 documents (--max-txn-ops of the coordinators) and 1.5 MiB. With --in-parts, more documents are written in
several transactions: first connectors, then functions, then flows. Each transaction takes place only if nobody else has changed its
documents. Meanwhile the cluster may run with some of the changes. When the command is interrupted, run it again: it writes the rest.

The exit code is 1 when a flow is rejected, or when a flow is not active within --timeout.`,
		Example: "  kisgrid apply -f examples/students/conf\n  kisgrid apply -f flow.yml --dry-run\n  cat flow.yml | kisgrid apply -f -\n  kisgrid get flow Half -o yaml | sed s/Half/Third/ | kisgrid apply -f -\n  kisgrid apply -f conf --prune --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := readDocuments(path, cmd.InOrStdin())
			if err != nil {
				return err
			}
			opts.asJSON = o.format == "json"
			ctx, cancel := opts.bound(cmd.Context())
			defer cancel()
			return s.admin(func(a pb.AdminClient) error {
				return apply(ctx, a, docs, opts, cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "`path` of a folder or a file of documents; - for standard input")
	cmd.Flags().BoolVar(&opts.prune, "prune", false, "delete the documents of the cluster that are not among the given ones")
	opts.bind(cmd)
	o.bind(cmd, "json")
	s.bind(cmd)
	_ = cmd.MarkFlagRequired("filename")
	return cmd
}

// applyOptions are the flags of kisgrid apply that say how documents are applied. kisgrid rollout undo and edit have the same flags, without
// --prune.
type applyOptions struct {
	dryRun, asJSON bool
	timeout        time.Duration // bounds the whole command
	wait           time.Duration // bounds the wait for connectors
	connected      bool          // a connector that is not connected in the end is a failure
	inParts        bool          // several transactions may be used
	prune          bool          // documents that are not given are deleted
	compare        bool          // the documents must still be stored at their revisions
}

// bind adds the flags that apply and rollout undo share to cmd. The flags write into o.
func (o *applyOptions) bind(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only show the differences, and write nothing")
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "how long the whole command may take, the wait for workers included")
	cmd.Flags().DurationVar(&o.wait, "wait", 10*time.Second, "how long to wait for the connectors of the flows, once the flows are active")
	cmd.Flags().BoolVar(&o.connected, "require-connected", false, "exit with 1 when a connector is not connected at the end of --wait")
	cmd.Flags().BoolVar(&o.inParts, "in-parts", false, "use several transactions where one can't take all documents: connectors first, flows last")
}

// bound returns ctx with --timeout as its time limit. When the time is over, the context's cause is an error that names the flag.
func (o *applyOptions) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not settled within --timeout %s", o.timeout))
}

// readDocuments reads the documents from a folder or a file, or from standard input where the path is "-". It splits the text into
// documents and does not parse them.
func readDocuments(path string, stdin io.Reader) ([]definition.Document, error) {
	if path == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, 64<<20))
		if err != nil {
			return nil, fmt.Errorf("read documents from standard input: %w", err)
		}
		return unwrapped(definition.Split("standard input", text)), nil
	}
	docs, err := definition.Read(path)
	return unwrapped(docs), err
}

// unwrapped replaces documents that kisgrid get has printed, as -o yaml or -o json do, by the documents that stand in them.
func unwrapped(docs []definition.Document) (all []definition.Document) {
	for _, d := range docs {
		var one printedDocument
		var several []printedDocument
		switch {
		case yaml.Unmarshal(d.YAML, &one) == nil && one.Document != "":
			several = []printedDocument{one}
		case yaml.Unmarshal(d.YAML, &several) != nil || len(several) == 0 || slices.Contains(several, printedDocument{}):
			all = append(all, d)
			continue
		}
		for _, p := range several {
			all = append(all, definition.Document{Path: d.Path, Line: d.Line, YAML: []byte(p.Document)})
		}
	}
	return all
}

// printedDocument is the part of the output of kisgrid get that has a document. A document itself has none of these fields.
type printedDocument struct {
	Kind     string `yaml:"kind"`
	Document string `yaml:"document"`
}

// parsed checks the spelling of documents and converts them to messages. All mistakes are reported at once. Documents of kind global are left
// out.
func parsed(docs []definition.Document) (out []*pb.Document, err error) {
	var mistakes []error
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		if p.Global != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: a document of kind global is for local runs; a cluster has flags instead\n", d)
			continue
		}
		for _, warning := range p.Warnings() {
			fmt.Fprintf(os.Stderr, "warning: %s\n", warning)
		}
		d = p.Document()
		out = append(out, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML, Revision: d.Revision})
	}
	return out, errors.Join(mistakes...)
}

// apply sends the documents to a coordinator and prints its events until the flows have settled. It returns errReported if a flow
// is neither active nor disabled in the end, or if --require-connected is given and a connector is not known to be connected.
func apply(ctx context.Context, a pb.AdminClient, docs []definition.Document, opts applyOptions, out io.Writer) error {
	in := &pb.ApplyRequest{DryRun: opts.dryRun, WorkersMilliseconds: milliseconds(opts.timeout), TellConnectors: true, ConnectorsMilliseconds: milliseconds(opts.wait), InParts: opts.inParts, Prune: opts.prune, CompareRevisions: opts.compare}
	var err error
	if in.Documents, err = parsed(docs); err != nil {
		return ownError{err}
	}
	if len(in.GetDocuments()) == 0 && opts.prune {
		return command.Usage("--prune would delete everything, because there are no documents: use kisgrid delete")
	}
	events, err := a.Apply(ctx, in)
	if err != nil {
		return err
	}
	latest := map[string]*pb.Progress{} // by flow: its latest progress
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
			latest[p.GetFlow()] = p
		}
		if c := e.GetConnectors(); c != nil {
			connectors = c
		}
		if opts.asJSON {
			if err := printEvent(out, e); err != nil {
				return err
			}
			continue
		}
		describeEvent(out, e, opts.dryRun)
		if d := e.GetDiff(); d != nil {
			if opts.prune && !d.GetPrunes() {
				return errors.New("the coordinator's build is too old for --prune: nothing was deleted; upgrade it, or name another one with --server")
			}
			if err := printChangedTypes(out, docs, d.GetChanges()); err != nil {
				return err
			}
		}
	}
	for _, p := range latest {
		if p.GetState() != cluster.StateActive && p.GetState() != cluster.StateDisabled {
			return errReported
		}
	}
	// The flows are active. Connectors count only with --require-connected.
	switch {
	case !opts.connected || opts.dryRun:
	case connectors == nil:
		return errors.New("the coordinator's build is too old to tell whether connectors are connected: upgrade it, or leave out --require-connected")
	case len(connectors.GetDegraded())+len(connectors.GetUnknown()) > 0:
		return errReported
	}
	return nil
}

// milliseconds returns a duration in whole milliseconds, as requests to coordinators have it. A negative duration gives 0.
func milliseconds(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }

// inTime returns the error to print for a call that failed with err. If the time of --timeout is up, that is the error which names
// the flag, in place of gRPC's DEADLINE_EXCEEDED. A coordinator may notice the deadline a moment before ctx ends: then inTime waits
// for that moment.
func inTime(ctx context.Context, err error) error {
	if end, ok := ctx.Deadline(); ok && time.Until(end) < time.Second && status.Code(err) == codes.DeadlineExceeded {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// describeEvent prints one event of a call of Apply as text for people: the differences of documents, the progress of a flow, or the
// connectors that are not connected.
func describeEvent(out io.Writer, e *pb.ApplyEvent, dryRun bool) {
	if d := e.GetDiff(); d != nil {
		written, deleted := 0, 0
		for _, c := range d.GetChanges() {
			fmt.Fprintf(out, "%s/%s %s\n", c.GetKind(), c.GetName(), map[string]string{"create": "created", "update": "changed", "delete": "deleted", "unchanged": "unchanged"}[c.GetAction()])
			if c.GetAction() == "update" || dryRun && c.GetAction() != "delete" {
				fmt.Fprint(out, c.GetDiff())
			}
			switch c.GetAction() {
			case "unchanged":
			case "delete":
				deleted++
			default:
				written++
			}
		}
		switch {
		case written+deleted == 0:
			fmt.Fprintln(out, "nothing to change")
		case dryRun && deleted > 0:
			fmt.Fprintf(out, "%d documents would be written, %d deleted\n", written, deleted)
		case dryRun:
			fmt.Fprintf(out, "%d documents would be written\n", written)
		case deleted > 0:
			fmt.Fprintf(out, "%d documents written, %d deleted at revision %d\n", written, deleted, d.GetRevision())
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

// describeStandings prints a line for each connector that is not connected on some worker. The text state says how, such as
// "degraded".
func describeStandings(out io.Writer, state string, all []*pb.ConnectorStanding) {
	for _, s := range all {
		fmt.Fprintf(out, "connector %s: %s on worker %s: %s\n", s.GetConnector(), state, s.GetWorker(), s.GetReason())
	}
}

// describeProgress prints how many workers have taken the newest documents of a flow, and the reasons where the flow is not active.
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

// printEvent prints one event of a call of Apply as one line of JSON. docs/cli.md describes the fields.
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
		line = progressOf(e.GetProgress())
	}
	return printJSON(out, line)
}

// progressOf converts the progress of a flow into a value for JSON.
func progressOf(p *pb.Progress) map[string]any {
	return map[string]any{
		"flow": p.GetFlow(), "state": p.GetState(), "wanted": p.GetWanted(), "active": p.GetActive(),
		"applied": p.GetApplied(), "of": p.GetOf(), "reasons": append([]string{}, p.GetReasons()...),
	}
}

// standings converts connectors that are not connected on some worker into values for JSON.
func standings(all []*pb.ConnectorStanding) []map[string]string {
	out := []map[string]string{}
	for _, s := range all {
		out = append(out, map[string]string{"connector": s.GetConnector(), "worker": s.GetWorker(), "reason": s.GetReason()})
	}
	return out
}

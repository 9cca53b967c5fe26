package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// describeCommand makes the command kisgrid describe, which shows a thing of a cluster and everything around it.
func describeCommand() *cobra.Command {
	var s server
	var o output
	cmd := &cobra.Command{
		Use:   "describe flow|function|connector|worker NAME",
		Short: "Show a flow, function, connector or worker, and everything around it, on one page",
		Long: `describe shows everything that kisgrid get shows about one thing, and the things that it needs or that need it:

  flow        its functions and connectors, the workers that have all functions, its dead letters, and the revisions that were accepted
  function    the flows that need it, the workers that have it, and its types
  connector   the flows that need it, and the workers that can't use its store
  worker      its functions, the flows for which it has all functions, its stores, and the coordinators that can't reach it

A worker is named by its name or its id. Parts that you may not see, or that can't be found out now, are left out, with the reason.`,
		Example: "  kisgrid describe flow CalStuAvgScore12\n  kisgrid describe worker worker-3",
		Args:    exactly("flow|function|connector|worker", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := plural(args[0])
			if !slices.Contains([]string{"flows", "functions", "connectors", "workers"}, kind) {
				return fmt.Errorf("there is no kind %q: describe flow, function, connector or worker", args[0])
			}
			return s.admin(func(a pb.AdminClient) error {
				d, err := surroundings(cmd.Context(), a, kind, args[1])
				if err != nil {
					return err
				}
				if o.format == "json" {
					return d.printJSON(cmd.OutOrStdout())
				}
				return d.print(cmd.OutOrStdout())
			})
		},
	}
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// description is a thing of a cluster, and the things around it. The lists of resources are sorted by name; those that do not belong to the
// thing are left out.
type description struct {
	kind                         string // in the plural, as Get has it
	got                          *pb.GetResponse
	types                        []flowTypes // of a function
	flows, functions, connectors []*pb.Resource
	workers, coordinators        []*pb.Resource
	store                        *pb.DeadStore // of a flow's dead letters; nil means that nothing is known
	history                      *pb.HistoryResponse
	missing                      []string            // the parts that could not be found out, and why
	needs                        map[string][]string // by flow: the functions of Go code that a worker must have to run it
	flow                         coordinator.FlowView
	document                     coordinator.DocumentView
	worker                       coordinator.WorkerView
}

// surroundings asks a coordinator for everything that a description needs.
func surroundings(ctx context.Context, a pb.AdminClient, kind, name string) (*description, error) {
	d := &description{kind: kind}
	in := &pb.GetRequest{Kind: kind, Name: name, Known: true}
	if kind == "workers" {
		in.Name = "" // it may be named by its name or its id
	}
	var err error
	if d.got, err = a.Get(ctx, in); err != nil {
		return nil, err
	}
	if kind == "workers" {
		if err := d.keepWorker(name); err != nil {
			return nil, err
		}
	}
	if len(d.got.GetResources()) != 1 {
		return nil, batch.Errorf(batch.CodeNotFound, "there is no %s %q: kisgrid get %s lists them", strings.TrimSuffix(kind, "s"), name, kind)
	}
	r := d.got.GetResources()[0]
	if kind == "flows" || kind == "workers" {
		if d.needs, err = functionNeeds(ctx, a); err != nil {
			d.lacks("functions of flows", err)
		}
	}
	into := map[string]any{"flows": &d.flow, "functions": &d.document, "connectors": &d.document, "workers": &d.worker}[kind]
	if err := json.Unmarshal(r.GetStatus(), into); err != nil {
		return nil, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
	}
	if d.types, err = typesOf(ctx, a, in, d.got); err != nil {
		d.lacks("types of rows", err)
	}
	d.flows = d.list(ctx, a, "flows", d.hasFlow)
	d.workers = d.list(ctx, a, "workers", d.hasWorker)
	switch kind {
	case "flows":
		needed := func(r *pb.Resource) bool {
			var v coordinator.DocumentView
			return json.Unmarshal(r.GetStatus(), &v) == nil && slices.Contains(v.Flows, name)
		}
		d.functions = d.list(ctx, a, "functions", needed)
		d.connectors = d.list(ctx, a, "connectors", needed)
		d.letters(ctx, a)
	case "workers":
		d.coordinators = d.list(ctx, a, "coordinators", func(r *pb.Resource) bool {
			var c cluster.Coordinator
			return json.Unmarshal(r.GetStatus(), &c) == nil && slices.ContainsFunc(c.Unreachable, func(u cluster.Unreachable) bool { return u.Worker == d.worker.ID })
		})
	}
	return d, nil
}

// keepWorker drops all resources but the worker with this name or id. Of several workers of one name the newest is kept.
func (d *description) keepWorker(name string) error {
	var kept *pb.Resource
	var started time.Time
	for _, r := range d.got.GetResources() {
		var v coordinator.WorkerView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
		}
		if (v.ID == name || v.Name == name) && (kept == nil || v.Started.After(started)) {
			kept, started = r, v.Started
		}
	}
	d.got.Resources = nil
	if kept != nil {
		d.got.Resources = []*pb.Resource{kept}
	}
	return nil
}

// lacks notes that a part of the description could not be found out.
func (d *description) lacks(part string, err error) {
	d.missing = append(d.missing, fmt.Sprintf("%s: %s", part, firstLine(wire.FromStatus(err).Error())))
}

// list returns the resources of a kind that belong to the description.
func (d *description) list(ctx context.Context, a pb.AdminClient, kind string, belongs func(*pb.Resource) bool) []*pb.Resource {
	if kind == d.kind {
		return nil
	}
	got, err := a.Get(ctx, &pb.GetRequest{Kind: kind, Known: true})
	if err != nil {
		d.lacks(kind, err)
	}
	return slices.DeleteFunc(got.GetResources(), func(r *pb.Resource) bool { return !belongs(r) })
}

// hasFlow reports whether a flow needs the function or connector, or can run on the worker.
func (d *description) hasFlow(r *pb.Resource) bool {
	if d.kind != "workers" {
		return slices.Contains(d.document.Flows, r.GetName())
	}
	return d.needs != nil && hasAll(d.worker, d.needs[r.GetName()])
}

// functionNeeds returns, by flow, the functions that some worker has registered and that the flow needs. A worker without one of them can't run
// the flow. Flows of declared functions alone need none.
func functionNeeds(ctx context.Context, a pb.AdminClient) (map[string][]string, error) {
	workers, err := a.Get(ctx, &pb.GetRequest{Kind: "workers", Known: true})
	if err != nil {
		return nil, err
	}
	registered := map[string]bool{}
	for _, r := range workers.GetResources() {
		var v coordinator.WorkerView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return nil, fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
		}
		for _, f := range v.Functions {
			registered[f.Name] = true
		}
	}
	functions, err := a.Get(ctx, &pb.GetRequest{Kind: "functions", Known: true})
	if err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for _, r := range functions.GetResources() {
		var v coordinator.DocumentView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return nil, fmt.Errorf("read the status of function %s: %w", r.GetName(), err)
		}
		for _, flow := range v.Flows {
			if registered[r.GetName()] {
				needs[flow] = append(needs[flow], r.GetName())
			}
		}
	}
	return needs, nil
}

// hasAll reports whether a worker has registered all functions of the names.
func hasAll(v coordinator.WorkerView, names []string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(v.Functions, func(f cluster.Function) bool { return f.Name == name }) {
			return false
		}
	}
	return true
}

// hasWorker reports whether a worker has all functions of the flow, has the function, or can't use the connector's store.
func (d *description) hasWorker(r *pb.Resource) bool {
	var v coordinator.WorkerView
	if json.Unmarshal(r.GetStatus(), &v) != nil {
		return false
	}
	name := d.got.GetResources()[0].GetName()
	switch d.kind {
	case "flows":
		return d.needs != nil && hasAll(v, d.needs[name])
	case "functions":
		return slices.ContainsFunc(v.Functions, func(f cluster.Function) bool { return f.Name == name })
	}
	return v.Stores[name] != ""
}

// letters finds out how full the flow's store of dead letters is, and the revisions that were accepted.
func (d *description) letters(ctx context.Context, a pb.AdminClient) {
	name := d.got.GetResources()[0].GetName()
	events, err := a.ListDead(ctx, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Flow: name}, NoRows: true, Limit: 1})
	for err == nil {
		var e *pb.DeadEvent
		if e, err = events.Recv(); e.GetStore() != nil {
			d.store = e.GetStore()
		}
	}
	if !errors.Is(err, io.EOF) {
		d.lacks("dead letters", err)
	}
	d.history, err = a.History(ctx, &pb.HistoryRequest{Flow: name})
	if err != nil && status.Code(err) != codes.NotFound && batch.CodeOf(wire.FromStatus(err)) != batch.CodeNotFound {
		d.lacks("history", err)
	}
}

// print writes the description as text for people.
func (d *description) print(out io.Writer) error {
	r := d.got.GetResources()[0]
	var err error
	switch d.kind {
	case "flows":
		err = describeFlow(out, r)
	case "workers":
		err = d.printWorker(out)
	default:
		err = describeDocument(out, r, d.types)
	}
	if err != nil {
		return err
	}
	for _, part := range []struct {
		kind      string
		resources []*pb.Resource
	}{{"flows", d.flows}, {"functions", d.functions}, {"connectors", d.connectors}, {"workers", d.workers}} {
		if len(part.resources) == 0 {
			continue
		}
		title := part.kind
		if d.kind == "connectors" && part.kind == "workers" {
			title = "workers that can't use it"
		}
		fmt.Fprintf(out, "\n%s:\n", title)
		l, err := (&getter{kind: part.kind}).toList(&pb.GetResponse{Resources: part.resources}, nil)
		if err != nil {
			return err
		}
		if err := (&output{}).print(out, l); err != nil {
			return err
		}
	}
	if len(d.coordinators) > 0 {
		fmt.Fprintln(out)
		if err := printUnreachable(out, d.coordinators); err != nil {
			return err
		}
	}
	if d.store != nil {
		fmt.Fprintf(out, "\ndead letters:\n%s\n", storeLine(d.store))
	}
	if len(d.history.GetRevisions()) > 0 {
		fmt.Fprintln(out, "\nhistory:")
		if err := printHistory(out, d.history, &output{}); err != nil {
			return err
		}
	}
	for _, lack := range d.missing {
		fmt.Fprintf(out, "\nnot known: %s\n", lack)
	}
	return nil
}

// printWorker prints the record of the worker and its functions.
func (d *description) printWorker(out io.Writer) error {
	v := d.worker
	cells, err := row("workers", d.got.GetResources()[0])
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, line := range [][2]string{
		{"worker", v.Name}, {"id", v.ID}, {"state", cells[stateColumn["workers"]]}, {"address", v.Address}, {"session", or(v.Session, "-")},
		{"started", fmt.Sprintf("%s (%s)", v.Started.UTC().Format(time.RFC3339), age(v.Started))}, {"build", or(v.Build, "-")}, {"lanes", fmt.Sprint(v.Lanes)},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	if c := v.Cordoned; c != nil {
		rows := int64(0)
		for n := range maps.Values(c.Rows) {
			rows += n
		}
		fmt.Fprintf(w, "cordoned\tby %s since %s: %s; %d rows left\n", or(c.By, "-"), c.At.UTC().Format(time.RFC3339), or(c.Reason, "no reason given"), rows)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Stores)) {
		fmt.Fprintf(w, "without\t%s: %s\n", name, v.Stores[name])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	l := &list{heading: []string{"NAME", "MODE", "READS", "GIVES"}, none: "it has no functions"}
	for _, f := range v.Functions {
		l.rows = append(l.rows, []string{f.Name, f.Mode, or(f.In, "any"), or(f.Out, "any")})
	}
	fmt.Fprintln(out, "\nfunctions:")
	return (&output{}).print(out, l)
}

// printJSON writes the description as JSON. docs/cli.md describes the fields.
func (d *description) printJSON(out io.Writer) error {
	all, err := views(d.got, d.types)
	if err != nil {
		return err
	}
	one, _ := all[0].(map[string]any)
	for kind, resources := range map[string][]*pb.Resource{
		"flows": d.flows, "functions": d.functions, "connectors": d.connectors, "workers": d.workers, "coordinators": d.coordinators,
	} {
		if len(resources) == 0 {
			continue
		}
		if one[kind], err = views(&pb.GetResponse{Resources: resources}, nil); err != nil {
			return err
		}
	}
	if d.store != nil {
		one["dead_letters"] = storeView(d.store)
	}
	if d.history != nil {
		one["history"] = acceptedViews(d.history)
	}
	if len(d.missing) > 0 {
		one["not_known"] = d.missing
	}
	return printIndented(out, one)
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// getCommand makes the command kisgrid get, which lists the flows, functions, connectors, workers or coordinators of a cluster.
func getCommand() *cobra.Command {
	var s server
	var o output
	kinds := []string{"flows", "functions", "connectors", "workers", "coordinators"}
	cmd := &cobra.Command{
		Use:   "get " + strings.Join(kinds, "|") + " [NAME]",
		Short: "List the flows, functions, connectors, workers or coordinators of a cluster",
		Long: `get lists everything of one kind, or, with a NAME, shows everything about one thing. For a function it also shows the fields that the function
reads, the rows that it gives, and the types of its expressions.

The counts of a flow's rows are those of one coordinator, the one that get asks: they count the rows that came in through it. While
etcd is away, that coordinator answers from its memory, and get says how old the answer is.`,
		Example:   "  kisgrid get flows\n  kisgrid get flow CalStuAvgScore12 -o yaml\n  kisgrid get function AvgStuScore12\n  kisgrid get workers -o json",
		ValidArgs: kinds,
		Args:      cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := &pb.GetRequest{Kind: plural(args[0]), Known: true}
			if len(args) == 2 {
				in.Name = args[1]
			}
			var got *pb.GetResponse
			var types []flowTypes
			err := s.admin(func(a pb.AdminClient) (err error) {
				if got, err = a.Get(cmd.Context(), in); err == nil && o.format != "name" {
					types, err = typesOf(cmd.Context(), a, in, got)
				}
				return err
			})
			if err != nil {
				return err
			}
			if got.GetKnownUnixMilliseconds() != 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "etcd does not answer (%s): this is the state of %s ago\n",
					got.GetAway(), age(time.UnixMilli(got.GetKnownUnixMilliseconds())))
			}
			return printResources(cmd.OutOrStdout(), in, got, types, o.format)
		},
	}
	o.bind(cmd, "json, yaml or name")
	s.bind(cmd)
	return cmd
}

// plural returns a kind of resource in the plural, such as "flows" for "flow".
func plural(kind string) string {
	if !strings.HasSuffix(kind, "s") {
		kind += "s"
	}
	return kind
}

// printResources prints the answer of get in the format json, yaml or name. If format is empty, it prints text for people. Any
// other format is an error. types are the row types of a function that has the request's name.
func printResources(out io.Writer, in *pb.GetRequest, got *pb.GetResponse, types []flowTypes, format string) error {
	resources := got.GetResources()
	switch format {
	case "": // for people: a description of one thing, or a table
		switch kind := in.GetKind(); {
		case in.GetName() == "":
		case kind == "flows":
			return describeFlow(out, resources[0])
		case kind == "functions" || kind == "connectors":
			return describeDocument(out, resources[0], types)
		}
		return printTable(out, in.GetKind(), resources)
	case "name":
		for _, r := range resources {
			fmt.Fprintln(out, r.GetName())
		}
		return nil
	case "json", "yaml":
		return printData(out, in, got, types, format)
	}
	return fmt.Errorf("--output %q: give json, yaml or name", format)
}

// printData prints the resources as JSON or YAML, as format says: an array, or one object if the request has a name.
func printData(out io.Writer, in *pb.GetRequest, got *pb.GetResponse, types []flowTypes, format string) error {
	all := []map[string]any{}
	for _, r := range got.GetResources() {
		one := map[string]any{"kind": r.GetKind(), "name": r.GetName()}
		// The status is printed as the coordinator wrote it, whatever fields it has: a later build may have more.
		d := json.NewDecoder(bytes.NewReader(r.GetStatus()))
		d.UseNumber() // a revision may be larger than a float64 can hold
		var status any
		if err := d.Decode(&status); err != nil {
			return fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		one["status"] = status
		if known := got.GetKnownUnixMilliseconds(); known != 0 {
			one["known_as_of"] = time.UnixMilli(known).UTC()
		}
		if doc := r.GetDocument(); doc != nil {
			one["document"], one["revision"] = string(doc.GetYaml()), doc.GetRevision()
		}
		if types != nil {
			one["types"] = types
		}
		all = append(all, one)
	}
	var value any = all
	if in.GetName() != "" {
		value = all[0]
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if format == "json" {
		_, err = fmt.Fprintln(out, string(text))
		return err
	}
	var node yaml.Node // made from the JSON, so that numbers and the order of fields stay as they are
	if err := yaml.Unmarshal(text, &node); err != nil {
		return err
	}
	blockStyle(&node)
	e := yaml.NewEncoder(out)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return err
	}
	return e.Close()
}

// blockStyle makes a YAML node, and all nodes below it, be written in block style, as people write YAML: one entry on each line, and
// long texts after "|".
func blockStyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// columns has, for each kind of resource, the headings of its table, with tabs between them.
var columns = map[string]string{
	"flows":        "NAME\tSTATE\tREVISION\tSHARD KEY\tROWS\tIN FLIGHT\tDEAD\tFAILED\tCOUNTED FOR",
	"functions":    "NAME\tSTATE\tWANTED\tACTIVE\tFLOWS",
	"connectors":   "NAME\tSTATE\tWANTED\tACTIVE\tFLOWS\tSTORE",
	"workers":      "ID\tADDRESS\tLANES\tFUNCTIONS\tSTATE\tAGE\tBUILD",
	"coordinators": "ID\tADDRESS\tHTTP\tSTREAMS\tWORKERS\tLEADER\tAGE\tBUILD",
}

// printTable prints a table with one line for each resource.
func printTable(out io.Writer, kind string, resources []*pb.Resource) error {
	if len(resources) == 0 {
		_, err := fmt.Fprintf(out, "no %s\n", kind)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, columns[kind])
	for _, r := range resources {
		cells, err := row(kind, r)
		if err != nil {
			return fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch kind {
	case "flows":
		return printCounter(out, resources)
	case "coordinators":
		return printUnreachable(out, resources)
	}
	return nil
}

// printCounter prints a line below the table of flows. It says which coordinator counted the rows, because each counts only its own.
func printCounter(out io.Writer, resources []*pb.Resource) error {
	var v coordinator.FlowView
	if err := json.Unmarshal(resources[0].GetStatus(), &v); err != nil {
		return fmt.Errorf("read the status of flow %s: %w", resources[0].GetName(), err)
	}
	if v.Counted.By == "" {
		return nil // an earlier build of the coordinator does not tell
	}
	_, err := fmt.Fprintf(out, "rows are those that came in through %s at %s; each coordinator counts its own\n", v.Counted.By, v.Counted.At)
	return err
}

// countedFor returns how long the coordinator has been counting rows of the flow; "-" means that the coordinator does not tell.
func countedFor(v coordinator.FlowView) string {
	if v.Counted.Since.IsZero() {
		return "-"
	}
	return age(v.Counted.Since)
}

// shardKey returns the shard key of a flow as text. If the flow's newest document asks for another one, the text has that too. The
// text none stands for no shard key; "?" means that the document can't be read.
func shardKey(v coordinator.FlowView, none string) string {
	switch {
	case v.ShardKeyUnread:
		return "?"
	case v.Wants != nil:
		return fmt.Sprintf("%s (wanted: %s)", or(v.ShardKey, none), or(*v.Wants, none))
	}
	return or(v.ShardKey, none)
}

// row returns the cells of the line for one resource in the table of its kind. The columns are those of the variable columns.
func row(kind string, r *pb.Resource) ([]string, error) {
	switch kind {
	case "flows":
		var v coordinator.FlowView
		err := json.Unmarshal(r.GetStatus(), &v)
		n := func(outcome string) string { return strconv.FormatUint(v.Rows[outcome], 10) }
		return []string{v.Flow, flowState(v), strconv.FormatInt(v.Active, 10), shardKey(v, "-"), n("in"), n("in_flight"), n("dead"), n("failed"), countedFor(v)}, err
	case "workers":
		var v coordinator.WorkerView
		err := json.Unmarshal(r.GetStatus(), &v)
		state := "ready"
		switch {
		case v.Draining:
			state = "draining"
		case v.Cordoned != nil && v.Cordoned.Drained:
			state = "cordoned, drained"
		case v.Cordoned != nil:
			state = "cordoned"
		}
		if len(v.Stores) > 0 {
			state += ", without " + strings.Join(slices.Sorted(maps.Keys(v.Stores)), ", ")
		}
		return []string{v.ID, v.Address, strconv.Itoa(v.Lanes), strconv.Itoa(len(v.Functions)), state, age(v.Started), or(v.Build, "-")}, err
	case "coordinators":
		var v cluster.Coordinator
		err := json.Unmarshal(r.GetStatus(), &v)
		leader := "-"
		if v.Leader {
			leader = "yes"
		}
		return []string{v.ID, v.Address, or(v.HTTP, "-"), strconv.Itoa(v.Streams), reached(v), leader, age(v.Started), or(v.Build, "-")}, err
	default:
		var v coordinator.DocumentView
		err := json.Unmarshal(r.GetStatus(), &v)
		cells := []string{r.GetName(), v.State, strconv.FormatInt(v.Wanted, 10), strconv.FormatInt(v.Active, 10), or(strings.Join(v.Flows, ","), "-")}
		switch {
		case kind != "connectors":
		case len(v.Down) == 0:
			cells = append(cells, "-")
		default:
			cells = append(cells, fmt.Sprintf("degraded on %d workers", len(v.Down)))
		}
		return cells, err
	}
}

// paused says in words who has paused a flow, since when and why.
func paused(c cluster.Control) string {
	text := "it is paused"
	if c.By != "" {
		text += " by " + c.By
	}
	if !c.At.IsZero() {
		text += " since " + c.At.UTC().Format(time.RFC3339)
	}
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// flowState returns the state of a flow as text, with "unserved" added if no worker can run the flow now.
func flowState(v coordinator.FlowView) string {
	if len(v.Unserved) > 0 && v.State != cluster.StateUnserved {
		return v.State + ", " + cluster.StateUnserved
	}
	return v.State
}

// reached returns, as text, with how many workers a coordinator has sessions, and how many it can't reach.
func reached(c cluster.Coordinator) string {
	switch {
	case c.Sessions == nil:
		return "-" // an earlier build of the coordinator does not tell
	case c.Missed > 0:
		return fmt.Sprintf("%d, %d out of reach", *c.Sessions, c.Missed)
	}
	return strconv.Itoa(*c.Sessions)
}

// printUnreachable prints, below the table of coordinators, the workers that each coordinator can't reach, and why.
func printUnreachable(out io.Writer, resources []*pb.Resource) error {
	for _, r := range resources {
		var c cluster.Coordinator
		if err := json.Unmarshal(r.GetStatus(), &c); err != nil {
			return fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		if c.CutOff {
			fmt.Fprintf(out, "%s takes no batches: it reaches too few workers\n", c.ID)
		}
		for _, u := range c.Unreachable {
			fmt.Fprintf(out, "%s can't reach worker %s at %s: %s\n", c.ID, u.Worker, u.Address, u.Reason)
		}
		if more := c.Missed - len(c.Unreachable); more > 0 {
			fmt.Fprintf(out, "%s can't reach %d more\n", c.ID, more)
		}
	}
	return nil
}

// describeFlow prints the state, the counts of rows, the reasons and the document of one flow, for kisgrid get flow NAME.
func describeFlow(out io.Writer, r *pb.Resource) error {
	var v coordinator.FlowView
	if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
		return fmt.Errorf("read the status of flow %s: %w", r.GetName(), err)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "flow\t%s\n", v.Flow)
	fmt.Fprintf(w, "state\t%s\n", flowState(v))
	fmt.Fprintf(w, "wanted\trevision %d\n", v.Wanted)
	if v.Active > 0 {
		fmt.Fprintf(w, "active\trevision %d\n", v.Active)
	} else {
		fmt.Fprintf(w, "active\tnone\n")
	}
	fmt.Fprintf(w, "taken by\t%d of %d capable workers\n", v.Applied, v.Of)
	if v.ShardKeyUnread {
		fmt.Fprintf(w, "shard key\tnot known: the document can't be read\n")
	} else {
		fmt.Fprintf(w, "shard key\t%s\n", shardKey(v, "none"))
	}
	fmt.Fprintf(w, "rows\tin %d = done %d + filtered %d + aborted %d + dead %d + failed %d + in flight %d (through this coordinator)\n",
		v.Rows["in"], v.Rows["done"], v.Rows["filtered"], v.Rows["aborted"], v.Rows["dead"], v.Rows["failed"], v.Rows["in_flight"])
	if v.Counted.By != "" {
		fmt.Fprintf(w, "counted by\t%s at %s, since %s (%s)\n", v.Counted.By, v.Counted.At, v.Counted.Since.UTC().Format(time.RFC3339), age(v.Counted.Since))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	// The status has the reasons for its state. Degraded connectors and missing workers are added, since the flow may be active with them.
	reasons := v.Reasons
	if v.Paused != nil {
		reasons = append(reasons, paused(*v.Paused))
	}
	for _, name := range slices.Sorted(maps.Keys(v.Degraded)) {
		for _, worker := range slices.Sorted(maps.Keys(v.Degraded[name])) {
			reasons = append(reasons, fmt.Sprintf("connector %s is degraded on worker %s: %s", name, worker, v.Degraded[name][worker]))
		}
	}
	for _, why := range v.Unserved {
		if !slices.Contains(reasons, why) {
			reasons = append(reasons, "no worker can run it: "+why)
		}
	}
	return describeRest(out, reasons, r)
}

// describeDocument prints the state, the flows, the reasons and the document of one function or connector, for kisgrid get function
// NAME and kisgrid get connector NAME.
func describeDocument(out io.Writer, r *pb.Resource, types []flowTypes) error {
	var v coordinator.DocumentView
	if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
		return fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", map[string]string{"func": "function", "conn": "connector"}[r.GetKind()], r.GetName())
	fmt.Fprintf(w, "state\t%s\n", v.State)
	fmt.Fprintf(w, "wanted\trevision %d\n", v.Wanted)
	if v.Active > 0 {
		fmt.Fprintf(w, "active\trevision %d\n", v.Active)
	} else {
		fmt.Fprintf(w, "active\tnone\n")
	}
	fmt.Fprintf(w, "run by\t%d of %d flows that need it\n", v.Applied, v.Of)
	fmt.Fprintf(w, "flows\t%s\n", or(strings.Join(v.Flows, ", "), "none"))
	typeRows(w, types)
	for _, worker := range slices.Sorted(maps.Keys(v.Down)) {
		fmt.Fprintf(w, "store\tdegraded on %s: %s\n", worker, v.Down[worker])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := typedExpressions(out, types); err != nil {
		return err
	}
	return describeRest(out, v.Reasons, r)
}

// describeRest prints the end of a description: the reasons for the state, and the document.
func describeRest(out io.Writer, reasons []string, r *pb.Resource) error {
	for _, reason := range reasons {
		fmt.Fprintln(out, "because: "+strings.ReplaceAll(reason, "\n", "\n         "))
	}
	if r.GetDocument() == nil {
		_, err := fmt.Fprintln(out, "document: not known, as etcd does not answer and no flow runs with it")
		return err
	}
	_, err := fmt.Fprintf(out, "document:\n%s\n", bytes.TrimSpace(r.GetDocument().GetYaml()))
	return err
}

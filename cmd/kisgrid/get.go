package main

import (
	"bytes"
	"context"
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

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// getCommand makes the command kisgrid get, which lists the flows, functions, connectors, workers or coordinators of a cluster.
func getCommand() *cobra.Command {
	var s server
	var g getter
	kinds := []string{"flows", "functions", "connectors", "workers", "coordinators"}
	cmd := &cobra.Command{
		Use:   "get " + strings.Join(kinds, "|") + " [NAME...]",
		Short: "List the flows, functions, connectors, workers or coordinators of a cluster",
		Long: `get lists everything of one kind, or the things with the given NAMEs; with one NAME it shows everything about one thing. For
a function it also shows the fields that the function reads, the rows that it gives, and the types of its expressions.

The counts ROWS, IN FLIGHT, DEAD and FAILED of a flow are those of one coordinator, the one that get asks: they count the rows that came
in through it. ALL ROWS, IN/S and ENDED/S are those of all coordinators together; rates are those of the last 15 seconds. While etcd is away, that coordinator answers from its memory, and get says how old the answer is.

--state selects by the state, such as "degraded" or "pending,rejected". --watch goes on, and prints each thing again when it has changed, until
Ctrl-C. Text for people has at most --limit lines; --after goes on behind the last one.`,
		Example: `  kisgrid get flows
  kisgrid get flow CalStuAvgScore12 -o yaml
  kisgrid get workers -o wide
  kisgrid get flows --state pending,rejected,unserved -o name
  kisgrid get flows -o jsonpath='{[*].status.rows.dead}'`,
		ValidArgs: kinds,
		Args:      cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.kind, g.names = plural(args[0]), args[1:]
			g.out, g.log = cmd.OutOrStdout(), cmd.ErrOrStderr()
			g.limited = cmd.Flags().Changed("limit")
			if g.kind == "coordinators" && len(g.states) > 0 {
				return command.Usage("--state: coordinators have no state")
			}
			return s.admin(func(a pb.AdminClient) error {
				if g.watch {
					return g.follow(cmd.Context(), a)
				}
				return g.list(cmd.Context(), a)
			})
		},
	}
	g.bind(cmd, listFormats...)
	cmd.Flags().StringSliceVar(&g.states, "state", nil, "only things in one of these `states`")
	cmd.Flags().BoolVarP(&g.watch, "watch", "w", false, "go on, and print each thing again when it has changed")
	cmd.Flags().IntVar(&g.limit, "limit", 500, "list at most so many `things`; 0 means all, as data for programs always has unless this flag is given")
	cmd.Flags().StringVar(&g.after, "after", "", "list only things whose names come after this `name`")
	s.bind(cmd)
	return cmd
}

// plural returns a kind of resource in the plural, such as "flows" for "flow".
func plural(kind string) string {
	if full, ok := map[string]string{"func": "functions", "fn": "functions", "conn": "connectors", "wo": "workers", "co": "coordinators"}[kind]; ok {
		return full
	}
	if !strings.HasSuffix(kind, "s") {
		kind += "s"
	}
	return kind
}

// getter is one call of the command get.
type getter struct {
	output
	kind     string
	names    []string // empty means all
	states   []string // empty means any
	watch    bool
	limit    int
	limited  bool // --limit was given
	after    string
	out, log io.Writer
}

// list prints the resources once.
func (g *getter) list(ctx context.Context, a pb.AdminClient) error {
	got, err := g.ask(ctx, a)
	if err != nil {
		return err
	}
	var types []flowTypes // of the function that the command line names
	if len(g.names) == 1 && g.format != "name" {
		if types, err = typesOf(ctx, a, &pb.GetRequest{Kind: g.kind, Name: g.names[0], Known: true}, got); err != nil {
			return err
		}
	}
	switch known := got.GetKnownUnixMilliseconds(); {
	case known > 0:
		fmt.Fprintf(g.log, "etcd does not answer (%s): this is the state of %s ago\n", got.GetAway(), age(time.UnixMilli(known)))
	case known < 0: // the coordinator has never seen it
		fmt.Fprintf(g.log, "etcd has not answered since the coordinator started (%s): only this coordinator is known\n", got.GetAway())
	}
	if len(g.names) == 1 && !g.data() && g.format == "" {
		switch g.kind {
		case "flows":
			return describeFlow(g.out, got.GetResources()[0])
		case "functions", "connectors":
			return describeDocument(g.out, got.GetResources()[0], types)
		}
	}
	left := 0
	if n := len(got.GetResources()); g.limit > 0 && n > g.limit && (g.limited || !g.data()) {
		got.Resources, left = got.GetResources()[:g.limit], n-g.limit
	}
	l, err := g.toList(got, types)
	if err != nil {
		return err
	}
	if err := g.print(g.out, l); err != nil {
		return err
	}
	if !g.data() && len(l.rows) > 0 {
		switch g.kind {
		case "flows":
			err = printCounter(g.out, got.GetResources())
		case "coordinators":
			err = printUnreachable(g.out, got.GetResources())
		}
	}
	if left > 0 {
		fmt.Fprintf(g.log, "%d more: --after %s goes on, --limit 0 lists all\n", left, got.GetResources()[g.limit-1].GetName())
	}
	return err
}

// ask gets the resources that the command line selects, in the order of their names. A name that is not there is an error.
func (g *getter) ask(ctx context.Context, a pb.AdminClient) (*pb.GetResponse, error) {
	in := &pb.GetRequest{Kind: g.kind, Known: true}
	if len(g.names) == 1 {
		in.Name = g.names[0]
	}
	got, err := a.Get(ctx, in)
	if err != nil {
		return nil, err
	}
	var chosen []*pb.Resource
	found := map[string]bool{}
	for _, r := range got.GetResources() {
		found[r.GetName()] = true
		if len(g.names) > 0 && !slices.Contains(g.names, r.GetName()) || r.GetName() <= g.after && g.after != "" {
			continue
		}
		if fits, err := g.inState(r); err != nil {
			return nil, err
		} else if fits {
			chosen = append(chosen, r)
		}
	}
	for _, name := range g.names {
		if !found[name] {
			return nil, batch.Errorf(batch.CodeNotFound, "there is no %s %q: kisgrid get %s lists them", strings.TrimSuffix(g.kind, "s"), name, g.kind)
		}
	}
	if len(chosen) == 0 && len(g.names) == 1 {
		return nil, batch.Errorf(batch.CodeNotFound, "%s %s is in another state", strings.TrimSuffix(g.kind, "s"), g.names[0])
	}
	got.Resources = chosen
	return got, nil
}

// inState reports whether a resource is in one of the states that the command line selects.
func (g *getter) inState(r *pb.Resource) (bool, error) {
	if len(g.states) == 0 {
		return true, nil
	}
	cells, err := row(g.kind, r)
	if err != nil {
		return false, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
	}
	state := strings.FieldsFunc(cells[stateColumn[g.kind]], func(c rune) bool { return c == ',' || c == ' ' })
	return slices.ContainsFunc(g.states, func(s string) bool { return slices.Contains(state, s) }), nil
}

// toList makes a list of resources. types are the row types of a function, if it is the only resource.
func (g *getter) toList(got *pb.GetResponse, types []flowTypes) (*list, error) {
	l := &list{none: "no " + g.kind, heading: strings.Split(columns[g.kind], "\t")}
	l.narrow = len(l.heading)
	l.heading = append(l.heading, strings.Split(wideColumns[g.kind], "\t")...)
	state, hasState := stateColumn[g.kind]
	l.color = func(_, column int, cell string) terminal.Color {
		if hasState && column == state {
			return stateColor(cell)
		}
		return terminal.Plain
	}
	for _, r := range got.GetResources() {
		cells, err := row(g.kind, r)
		if err == nil {
			var wide []string
			wide, err = wideRow(g.kind, r)
			cells = append(cells, wide...)
		}
		if err != nil {
			return nil, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		l.rows, l.names = append(l.rows, cells), append(l.names, r.GetName())
	}
	all, err := views(got, types)
	if err != nil {
		return nil, err
	}
	if l.value = all; len(g.names) == 1 {
		l.value = all[0]
	}
	return l, nil
}

// views converts resources into the form that -o json prints. types are the row types of a function, if it is the only resource.
func views(got *pb.GetResponse, types []flowTypes) ([]any, error) {
	all := []any{}
	for _, r := range got.GetResources() {
		one := map[string]any{"kind": r.GetKind(), "name": r.GetName()}
		// The status is printed as the coordinator wrote it, whatever fields it has: a later build may have more.
		d := json.NewDecoder(bytes.NewReader(r.GetStatus()))
		d.UseNumber() // a revision may be larger than a float64 can hold
		var status any
		if err := d.Decode(&status); err != nil {
			return nil, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
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
	return all, nil
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
	"flows":        "NAME\tSTATE\tREVISION\tSHARD KEY\tROWS\tIN FLIGHT\tDEAD\tFAILED\tCOUNTED FOR\tALL ROWS\tIN/S\tENDED/S",
	"functions":    "NAME\tSTATE\tWANTED\tACTIVE\tFLOWS",
	"connectors":   "NAME\tSTATE\tWANTED\tACTIVE\tFLOWS\tSTORE",
	"workers":      "ID\tADDRESS\tLANES\tFUNCTIONS\tSTATE\tAGE\tBUILD",
	"coordinators": "ID\tADDRESS\tHTTP\tSTREAMS\tWORKERS\tLEADER\tAGE\tBUILD",
}

// wideColumns has the headings that -o wide adds.
var wideColumns = map[string]string{
	"flows":        "WANTED\tTAKEN BY\tUPDATED\tWHY\tALL IN FLIGHT\tALL DEAD\tPARKED\tOLDEST",
	"functions":    "UPDATED\tWHY",
	"connectors":   "UPDATED\tWHY",
	"workers":      "NAME\tSTARTED\tSESSION",
	"coordinators": "STARTED",
}

// stateColumn is the place of the column STATE in the table of a kind that has one.
var stateColumn = map[string]int{"flows": 1, "functions": 1, "connectors": 1, "workers": 4}

// wideRow returns the cells that -o wide adds to the line of a resource.
func wideRow(kind string, r *pb.Resource) ([]string, error) {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	switch kind {
	case "flows":
		var v coordinator.FlowView
		err := json.Unmarshal(r.GetStatus(), &v)
		return []string{strconv.FormatInt(v.Wanted, 10), fmt.Sprintf("%d of %d", v.Applied, v.Of), at(v.Updated), or(firstLine(strings.Join(append(v.Reasons, v.Unserved...), "; ")), "-"), everywhere(v, "in_flight"), everywhere(v, "dead"), parked(v), oldest(v)}, err
	case "workers":
		var v cluster.Worker
		err := json.Unmarshal(r.GetStatus(), &v)
		return []string{v.Name, at(v.Started), or(string(v.Session), "-")}, err
	case "coordinators":
		var v cluster.Coordinator
		err := json.Unmarshal(r.GetStatus(), &v)
		return []string{at(v.Started)}, err
	}
	var v coordinator.DocumentView
	err := json.Unmarshal(r.GetStatus(), &v)
	return []string{at(v.Updated), or(firstLine(strings.Join(v.Reasons, "; ")), "-")}, err
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
	fmt.Fprintf(out, "rows are those that came in through %s at %s; each coordinator counts its own\n", v.Counted.By, v.Counted.At)
	if v.Cluster != nil {
		printCluster(out, *v.Cluster)
	}
	return nil
}

// printCluster says which coordinators' rows are in the columns about the whole cluster, and which are missing there.
func printCluster(out io.Writer, c coordinator.ClusterRows) {
	fmt.Fprintf(out, "ALL ROWS, IN/S and ENDED/S are those of all coordinators (%d)\n", c.Coordinators)
	for _, id := range slices.Sorted(maps.Keys(c.Missing)) {
		fmt.Fprintf(out, "without news of %s: %s\n", id, firstLine(c.Missing[id]))
	}
}

// everywhere returns how many rows of a kind all coordinators have counted; "-" means that the coordinator's build does not tell.
func everywhere(v coordinator.FlowView, kind string) string {
	if v.Cluster == nil {
		return "-"
	}
	return strconv.FormatUint(v.Cluster.Rows[kind], 10)
}

// perSecond returns how many rows of these kinds all coordinators count each second.
func perSecond(v coordinator.FlowView, kinds ...string) string {
	if v.Cluster == nil {
		return "-"
	}
	sum := 0.0
	for _, kind := range kinds {
		sum += v.Cluster.PerSecond[kind]
	}
	if sum > 0 && sum < 10 {
		return strconv.FormatFloat(sum, 'f', 1, 64)
	}
	return strconv.FormatFloat(sum, 'f', 0, 64)
}

// parked returns how many rows are parked in workers.
func parked(v coordinator.FlowView) string {
	if v.Cluster == nil {
		return "-"
	}
	return strconv.FormatUint(v.Cluster.Parked, 10)
}

// oldest returns for how long the oldest row without an outcome has waited; "-" means that there is none.
func oldest(v coordinator.FlowView) string {
	if v.Cluster == nil || v.Cluster.OldestSeconds == 0 {
		return "-"
	}
	return (time.Duration(v.Cluster.OldestSeconds*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
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
		return []string{v.Flow, flowState(v), strconv.FormatInt(v.Active, 10), shardKey(v, "-"), n("in"), n("in_flight"), n("dead"), n("failed"), countedFor(v), everywhere(v, "in"), perSecond(v, "in"), perSecond(v, "done", "filtered", "aborted", "dead", "failed")}, err
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

// paused puts the author, the time and the reason of a pause into words.
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
	if c := v.Cluster; c != nil {
		fmt.Fprintf(w, "all rows\tin %d; done %d, filtered %d, aborted %d, dead %d, failed %d, in flight %d (through all coordinators: %d)\n",
			c.Rows["in"], c.Rows["done"], c.Rows["filtered"], c.Rows["aborted"], c.Rows["dead"], c.Rows["failed"], c.Rows["in_flight"], c.Coordinators)
		fmt.Fprintf(w, "rates\tin %s, ended %s a second; parked %d, the oldest row waits for %s\n",
			perSecond(v, "in"), perSecond(v, "done", "filtered", "aborted", "dead", "failed"), c.Parked, oldest(v))
		for _, id := range slices.Sorted(maps.Keys(c.Missing)) {
			fmt.Fprintf(w, "without\tnews of %s: %s\n", id, firstLine(c.Missing[id]))
		}
	}
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

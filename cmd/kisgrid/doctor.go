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

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// doctorCommand makes the command kisgrid doctor, which looks for everything that is wrong with a cluster.
func doctorCommand() *cobra.Command {
	var s server
	var o output
	var timeout time.Duration
	var all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for everything that is wrong with a cluster, and say how to mend it",
		Long: `doctor asks one coordinator about etcd, coordinators, workers, flows and connectors. Then it asks each coordinator itself, at its address and
at its HTTP port, for its build, its clock, its open files and its store of dead letters, and each worker for its clock and open files.

It prints one line for each finding: wrong, which needs mending; look, which may be as you want it; unknown, which could not be found out from
this machine. With --all it also prints what is in order. The exit code is 1 when something is wrong.`,
		Example: "  kisgrid doctor\n  kisgrid doctor --all\n  kisgrid doctor -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return command.Usage("--timeout %s: give a time above 0, such as 3s", timeout)
			}
			d := doctor{server: &s, timeout: timeout, findings: []finding{}}
			if err := s.admin(func(a pb.AdminClient) error { return d.examine(cmd.Context(), a) }); err != nil {
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				d.broken(s.address, err)
			}
			if err := d.print(cmd.OutOrStdout(), &o, all); err != nil {
				return err
			}
			if slices.ContainsFunc(d.findings, func(f finding) bool { return f.State == stateWrong }) {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also print what is in order")
	cmd.Flags().DurationVar(&timeout, "timeout", serverWait, "how long to wait for each coordinator")
	o.bind(cmd, "json", "yaml", "csv", "jsonpath=…")
	s.bind(cmd)
	return cmd
}

// The states of a finding.
const (
	stateWrong   = "wrong"   // something does not work, or soon will not
	stateLook    = "look"    // it may be as somebody wants it
	stateUnknown = "unknown" // this machine can't find out
	stateGood    = "ok"
)

// finding is one thing that the doctor has found out.
type finding struct {
	State string `json:"state"`
	// Check says which thing was looked at: etcd, coordinator, leader, worker, flow, connector, build, access, limits, clock, files or letters.
	Check string `json:"check"`
	// Subject is the name or the address of the thing; empty for the cluster as a whole.
	Subject string `json:"subject,omitempty"`
	Text    string `json:"text"`
	// Do says how to mend it; empty where all is well.
	Do string `json:"do,omitempty"`
}

// doctor collects findings about one cluster.
type doctor struct {
	server   *server
	timeout  time.Duration
	findings []finding

	coordinators []cluster.Coordinator
	workers      []coordinator.WorkerView
}

// find notes a finding.
func (d *doctor) find(state, check, subject, text, do string) {
	d.findings = append(d.findings, finding{state, check, subject, text, do})
}

// print prints the findings, the worst first.
func (d *doctor) print(out io.Writer, o *output, all bool) error {
	order := map[string]int{stateWrong: 0, stateLook: 1, stateUnknown: 2, stateGood: 3}
	slices.SortStableFunc(d.findings, func(a, b finding) int { return order[a.State] - order[b.State] })
	if o.data() {
		l := &list{heading: []string{"STATE", "CHECK", "SUBJECT", "TEXT", "DO"}, value: d.findings}
		for _, f := range d.findings {
			l.rows = append(l.rows, []string{f.State, f.Check, f.Subject, f.Text, f.Do})
		}
		return o.print(out, l)
	}
	count := map[string]int{}
	for _, f := range d.findings {
		if count[f.State]++; f.State == stateGood && !all {
			continue
		}
		color := map[string]terminal.Color{stateWrong: terminal.Red, stateLook: terminal.Yellow, stateGood: terminal.Green}[f.State]
		state := f.State
		if terminal.Colored(out) {
			state = color.Paint(state)
		}
		subject := f.Check
		if f.Subject != "" {
			subject += " " + f.Subject
		}
		line := fmt.Sprintf("%s: %s: %s", state, subject, strings.Join(strings.Fields(f.Text), " "))
		if f.Do != "" {
			line += ": " + f.Do
		}
		fmt.Fprintln(out, line)
	}
	_, err := fmt.Fprintf(out, "%d wrong, %d to look at, %d unknown, %d in order\n", count[stateWrong], count[stateLook], count[stateUnknown], count[stateGood])
	return err
}

// examine looks at everything. Its error is that of a call which should not fail.
func (d *doctor) examine(ctx context.Context, a pb.AdminClient) error {
	if err := d.examineCoordinators(ctx, a); err != nil {
		return err
	}
	if err := d.examineWorkers(ctx, a); err != nil {
		return err
	}
	if err := d.examineFlows(ctx, a); err != nil {
		return err
	}
	if err := d.examineConnectors(ctx, a); err != nil {
		return err
	}
	builds := map[string][]string{}
	for _, c := range d.coordinators {
		builds[or(c.Build, "unknown")] = append(builds[or(c.Build, "unknown")], "coordinator "+c.ID)
	}
	for _, w := range d.workers {
		builds[or(w.Build, "unknown")] = append(builds[or(w.Build, "unknown")], "worker "+w.ID)
	}
	d.examineBuilds(builds)
	d.judgeGuards()
	d.judgeLimits()
	return d.visit(ctx)
}

// get lists the resources of one kind, as far as the coordinator knows them.
func get[T any](ctx context.Context, a pb.AdminClient, kind string) (all []T, away *pb.GetResponse, err error) {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: kind, Known: true})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range got.GetResources() {
		var v T
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return nil, nil, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		all = append(all, v)
	}
	return all, got, nil
}

// broken notes why the coordinator at an address could not be asked about everything.
func (d *doctor) broken(address string, err error) {
	if slices.ContainsFunc(d.findings, func(f finding) bool { return f.Check == "etcd" && f.State == stateWrong }) {
		d.find(stateUnknown, "flow", "", "flows and connectors are not looked at, because etcd does not answer", "mend etcd, and ask again")
		return
	}
	d.find(stateWrong, "coordinator", address, err.Error(), "start a coordinator, or name one with --server")
}

// examineCoordinators looks at etcd, at the leader, and at which workers coordinators can reach.
func (d *doctor) examineCoordinators(ctx context.Context, a pb.AdminClient) error {
	all, got, err := get[cluster.Coordinator](ctx, a, "coordinators")
	if err != nil {
		return err
	}
	d.coordinators = all
	if known := got.GetKnownUnixMilliseconds(); known != 0 {
		since := "never answered since this coordinator started"
		if known > 0 {
			since = "not answered for " + age(time.UnixMilli(known))
		}
		d.find(stateWrong, "etcd", "", fmt.Sprintf("it has %s (%s)", since, got.GetAway()),
			"mend etcd or the way to it; until then rows go on, and nothing can be changed")
	} else {
		d.find(stateGood, "etcd", "", "it answers", "")
	}
	if !slices.ContainsFunc(all, func(c cluster.Coordinator) bool { return c.Leader }) {
		d.find(stateWrong, "leader", "", "no coordinator leads, so changes of documents do not become active", "a new one is elected within a lease; if it lasts, look at etcd and at the coordinators' logs")
	}
	for _, c := range all {
		switch {
		case c.CutOff:
			d.find(stateWrong, "coordinator", c.ID, "it takes no batches, because it reaches too few workers", "open the way from it to the workers' ports: "+outOfReach(c))
		case c.Missed > 0:
			d.find(stateWrong, "coordinator", c.ID, fmt.Sprintf("%d workers are out of reach", c.Missed), "open the way from it to the workers' ports, and see that workers advertise an address that others can dial (--advertise): "+outOfReach(c))
		case !c.Ready:
			d.find(stateLook, "coordinator", c.ID, "it is not ready", "it begins, ends, or waits for etcd: look again, or into its log")
		default:
			d.find(stateGood, "coordinator", c.ID, fmt.Sprintf("it reaches %s workers", reached(c)), "")
		}
		for _, id := range c.Namesakes {
			d.find(stateWrong, "worker", id, "another worker has registered under its name since", "give each worker a --name of its own")
		}
	}
	return nil
}

// outOfReach names the workers that a coordinator can't reach.
func outOfReach(c cluster.Coordinator) string {
	var all []string
	for _, u := range c.Unreachable {
		all = append(all, fmt.Sprintf("%s at %s (%s)", u.Worker, u.Address, u.Reason))
	}
	return or(strings.Join(all, "; "), "kisgrid get coordinators names them")
}

// examineWorkers looks at whether there are workers, and whether they can work.
func (d *doctor) examineWorkers(ctx context.Context, a pb.AdminClient) error {
	all, _, err := get[coordinator.WorkerView](ctx, a, "workers")
	if err != nil {
		return err
	}
	d.workers = all
	if len(all) == 0 {
		d.find(stateWrong, "worker", "", "there is none, so no flow runs", "start a worker with the coordinators' etcd (--etcd) and prefix")
	}
	for _, w := range all {
		switch {
		case w.Session == cluster.SessionNone:
			d.find(stateWrong, "worker", w.ID, "no coordinator has a session with it at "+w.Address, "open the way to this address, or let the worker advertise another one (--advertise)")
		case w.Draining:
			d.find(stateLook, "worker", w.ID, "it drains: it takes no new rows", "it ends soon; if nobody stopped it, look into its log")
		case w.Cordoned != nil:
			d.find(stateLook, "worker", w.ID, "it is cordoned: it takes no new rows", "kisgrid uncordon "+w.Name+", when it may")
		default:
			d.find(stateGood, "worker", w.ID, fmt.Sprintf("it has %d functions and %d lanes", len(w.Functions), w.Lanes), "")
		}
	}
	return nil
}

// judgeGuards looks for processes without an access file in a cluster where others have one.
func (d *doctor) judgeGuards() {
	guarded := 0
	for _, c := range d.coordinators {
		if c.Guarded {
			guarded++
		}
	}
	if guarded == 0 {
		return
	}
	const do = "give it the access file of the others (--access-file)"
	good := true
	for _, c := range d.coordinators {
		if !c.Guarded {
			good = false
			d.find(stateWrong, "access", c.ID, "this coordinator has no access file, though others have: everybody who can connect to it may do everything", do)
		}
	}
	for _, w := range d.workers {
		if !w.Guarded {
			good = false
			d.find(stateWrong, "access", w.ID, "this worker has no access file, though coordinators have: everybody who can connect to it may pose as a coordinator", do)
		}
	}
	if good {
		d.find(stateGood, "access", "", "all processes have an access file", "")
	}
}

// examineFlows looks at whether flows run on what their documents say.
func (d *doctor) examineFlows(ctx context.Context, a pb.AdminClient) error {
	all, _, err := get[coordinator.FlowView](ctx, a, "flows")
	if err != nil {
		return err
	}
	for _, f := range all {
		reasons := slices.Clone(f.Reasons)
		for _, reason := range f.Unserved {
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
		because := strings.Join(reasons, "; ")
		switch {
		case len(f.Unserved) > 0:
			d.find(stateWrong, "flow", f.Flow, "no worker can run it: "+because, "start a worker that has its functions and reaches its stores")
		case f.State == cluster.StateRejected:
			d.find(stateWrong, "flow", f.Flow, "its newest documents are refused: "+because, "mend the documents, or kisgrid rollout undo "+f.Flow)
		case f.Paused != nil:
			d.find(stateLook, "flow", f.Flow, paused(*f.Paused), "kisgrid resume "+f.Flow+", when it may")
		case f.State == cluster.StateActive, f.State == cluster.StateDegraded: // connectors tell of the latter
			d.find(stateGood, "flow", f.Flow, "it is "+f.State, "")
		default:
			d.find(stateLook, "flow", f.Flow, strings.TrimSuffix("it is "+f.State+": "+because, ": "), "kisgrid rollout status "+f.Flow+" waits for it")
		}
	}
	return nil
}

// examineConnectors looks at whether workers reach the stores of their connectors.
func (d *doctor) examineConnectors(ctx context.Context, a pb.AdminClient) error {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: "connectors", Known: true})
	if err != nil {
		return err
	}
	for _, r := range got.GetResources() {
		var v coordinator.DocumentView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return fmt.Errorf("read the status of connector %s: %w", r.GetName(), err)
		}
		for _, id := range slices.Sorted(maps.Keys(v.Down)) {
			d.find(stateWrong, "connector", r.GetName(), "its store is of no use on worker "+id+": "+v.Down[id], "start the store, open the way to it, or mend the connector's document; rows that need it wait")
		}
		if len(v.Down) == 0 {
			d.find(stateGood, "connector", r.GetName(), "no worker complains about its store", "")
		}
	}
	return nil
}

// examineBuilds compares the builds of all processes. builds has the names of the processes, by their build.
func (d *doctor) examineBuilds(builds map[string][]string) {
	own := command.Build()
	switch {
	case len(builds) > 1:
		var texts []string
		for _, build := range slices.Sorted(maps.Keys(builds)) {
			names := builds[build]
			slices.Sort(names)
			texts = append(texts, fmt.Sprintf("%s at %s", build, few(names)))
		}
		d.find(stateLook, "build", "", "processes are of different builds: "+strings.Join(texts, "; "), "finish the upgrade: coordinators first, then workers")
	case len(builds) == 1 && builds[own] == nil:
		for build := range builds {
			d.find(stateLook, "build", "kisgrid", fmt.Sprintf("this program is %s, and the cluster is %s", own, build), "use the program of the cluster's build, if a verb is missing or refused")
		}
	default:
		d.find(stateGood, "build", "", "all processes are of the same build", "")
	}
}

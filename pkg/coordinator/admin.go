package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// admin is the gRPC service that the command line speaks to.
type admin struct {
	pb.UnimplementedAdminServer
	store *cluster.Store
	fleet *fleet
	loop  *schedulerLoop
	board *flowstate.Board
	// draining is closed when nobody is to be kept waiting any more.
	draining <-chan struct{}
	// checking is held by the one call that checks documents.
	checking    chan struct{}
	lastDesired *leader.DesiredState // what was stored when somebody checked last; owned by who holds checking
	maxSteps    int                  // limit of a flow
	build       string               // which build this is

	explaining chan struct{} // holds a token for each call that looks for rows

	address string // where others reach this coordinator

	// What redrives need.
	id       string
	redrives atomic.Uint64 // that were begun
	keeper   *letterKeeper
	budget   *budget
	limits   batch.Limits
}

// Apply checks the documents together with those stored, writes what differs in one transaction, and reports until each
// flow concerned has settled.
func (a *admin) Apply(in *pb.ApplyRequest, out pb.Admin_ApplyServer) error {
	return wire.Status(a.apply(in, out))
}

func (a *admin) apply(in *pb.ApplyRequest, out pb.Admin_ApplyServer) error {
	ctx := out.Context()
	cost := callCost(len(in.GetDocuments()), documentBytes(in.GetDocuments()))
	if !a.budget.reserve(cost) {
		return errOverloaded()
	}
	defer a.budget.release(cost, false)
	c, err := a.change(ctx, in.GetDocuments())
	if err != nil {
		return err
	}
	diff := &pb.Diff{Changes: c.changes}
	if !in.GetDryRun() && len(c.put) > 0 {
		parts := [][]definition.Document{c.put}
		if in.GetInParts() {
			parts = a.store.Parts(c.put)
		}
		if err := c.write(parts, func(expect map[cluster.Key]int64, put []definition.Document) (int64, error) {
			return a.store.PutDocuments(ctx, expect, put, nil)
		}); err != nil {
			return err
		}
		diff.Revision = c.revision
	}
	if err := out.Send(&pb.ApplyEvent{Kind: &pb.ApplyEvent_Diff{Diff: diff}}); err != nil || in.GetDryRun() {
		return err
	}
	waiting, told := awaitedRevisions{}, map[string]*pb.Progress{}
	for _, name := range c.flows {
		waiting[name] = c.asks(name)
	}
	if in.GetTellConnectors() { // then flows are told too that the documents concern and don't change
		for _, name := range c.concerned() {
			if _, changes := waiting[name]; !changes {
				waiting[name] = c.asks(name)
			}
		}
	}
	err = a.awaitFlows(ctx, waiting, flowWait{
		so: fmt.Sprintf("the documents are written at revision %d", diff.GetRevision()), command: "kisgrid get flows",
		workers: patienceOf(in.GetWorkersMilliseconds()),
	}, func(p *pb.Progress) error {
		told[p.GetFlow()] = p
		return out.Send(&pb.ApplyEvent{Kind: &pb.ApplyEvent_Progress{Progress: p}})
	})
	if err != nil || !in.GetTellConnectors() {
		return err
	}
	connectors := &pb.Connectors{}
	if active := activeOf(told); len(active) > 0 {
		if connectors, err = a.awaitConnectors(ctx, active, patienceOf(in.GetConnectorsMilliseconds())); err != nil {
			return err
		}
	}
	return out.Send(&pb.ApplyEvent{Kind: &pb.ApplyEvent_Connectors{Connectors: connectors}})
}

// change checks documents together with those stored.
func (a *admin) change(ctx context.Context, in []*pb.Document) (comparison, error) {
	stored, before, done, err := a.documents(ctx)
	if err != nil {
		return comparison{}, err
	}
	defer done()
	given, err := parseGiven(before, in)
	if err != nil {
		return comparison{}, err
	}
	c := compare(stored, given)
	c.after = leader.CompileDocuments(c.all, before, a.maxSteps)
	var failed error
	accepted := func(d definition.Document) bool {
		if a.board.Load().RunsDocument(d) {
			return true
		}
		for _, flow := range c.after.FlowsOf(d) {
			history, err := a.store.History(ctx, flow)
			if err != nil {
				failed = err
				return false
			}
			if leader.AcceptedDocuments(history).Has(d) {
				return true
			}
		}
		return false
	}
	if err := c.check(accepted); failed == nil {
		return c, err
	}
	return c, fmt.Errorf("read what was accepted earlier: %w", failed)
}

func documentBytes(in []*pb.Document) (n int) {
	for _, d := range in {
		n += len(d.GetKind()) + len(d.GetName()) + len(d.GetYaml())
	}
	return n
}

// parse checks documents that somebody wants to apply; those that are stored so already need no second look.
func parseGiven(c *leader.DesiredState, in []*pb.Document) ([]definition.Document, error) {
	docs := make([]definition.Document, len(in))
	for i, d := range in {
		given := definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()}
		if c.Reads(given) {
			docs[i] = given
			continue
		}
		p, err := definition.Parse(given)
		if err != nil {
			return nil, err
		}
		if p.Global != nil {
			return nil, batch.Errorf(batch.CodeBadDocument, "a global document rules local runs only: on a cluster flags say it; leave it out")
		}
		docs[i] = p.Document()
	}
	return docs, nil
}

// comparison is what applying documents changes.
type comparison struct {
	given   []definition.Document
	changes []*pb.Change
	put     []definition.Document
	expect  map[cluster.Key]int64
	all     []definition.Document // as they will stand
	after   *leader.DesiredState  // what they will ask for
	flows   []string              // flows that the change concerns

	written  map[cluster.Key]int64 // at which revisions
	revision int64                 // of what was written last
}

// write writes part after part, each on the condition that its documents are as they were looked at. An error says how many
// documents are written already.
func (c *comparison) write(parts [][]definition.Document, put func(expect map[cluster.Key]int64, put []definition.Document) (int64, error)) error {
	c.written = map[cluster.Key]int64{}
	for _, part := range parts {
		expect := make(map[cluster.Key]int64, len(part))
		for _, d := range part {
			expect[flowstate.KeyOf(d)] = c.expect[flowstate.KeyOf(d)]
		}
		revision, err := put(expect, part)
		if err != nil && len(c.written) > 0 {
			return batch.Errorf(batch.CodeOf(err), "%d of %d documents are written; apply the same again with --in-parts, and the others are: %w", len(c.written), len(c.put), err)
		}
		if err != nil {
			return err
		}
		for _, d := range part {
			c.written[flowstate.KeyOf(d)] = revision
		}
		c.revision = revision
	}
	return nil
}

// asks is the revision of a flow that the documents ask for, now that they are written.
func (c *comparison) asks(flow string) batch.Revision {
	wanted := c.after.Flows[flow].ID()
	for _, d := range c.after.Flows[flow].Documents {
		wanted.Number = max(wanted.Number, c.written[flowstate.KeyOf(d)])
	}
	return wanted
}

func compare(stored, given []definition.Document) comparison {
	c := comparison{given: given, expect: map[cluster.Key]int64{}}
	old := map[cluster.Key]definition.Document{}
	for _, d := range stored {
		old[cluster.Key{Kind: d.Kind, Name: d.Name}] = d
	}
	all := maps.Clone(old)
	for _, d := range given {
		key := cluster.Key{Kind: d.Kind, Name: d.Name}
		before, there := old[key]
		change := &pb.Change{Kind: string(d.Kind), Name: d.Name, Action: "create"}
		switch {
		case there && string(before.YAML) == string(d.YAML):
			change.Action = "unchanged"
		default:
			if there {
				change.Action = "update"
			}
			change.Diff = diffOf(before, there, d)
			c.put = append(c.put, d)
			c.expect[key] = before.Revision
			all[key] = d
		}
		c.changes = append(c.changes, change)
	}
	for _, d := range all {
		c.all = append(c.all, d)
	}
	slices.SortFunc(c.all, func(a, b definition.Document) int {
		return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name)
	})
	return c
}

func diffOf(before definition.Document, there bool, after definition.Document) string {
	var old []definition.Document
	if there {
		old = append(old, before)
	}
	var text strings.Builder
	for _, change := range definition.Diff(old, []definition.Document{after}) {
		text.WriteString(change.String())
	}
	return text.String()
}

// check refuses a change after which a flow that it concerns would be wrong, and finds those flows. Flows that it does not
// concern may be wrong already: that is not this change's fault. Rules of intake are not asked of a document that was accepted before
// they were made.
func (c *comparison) check(accepted func(definition.Document) bool) error {
	changed := map[cluster.Key]bool{}
	for _, d := range c.put {
		changed[cluster.Key{Kind: d.Kind, Name: d.Name}] = true
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(c.after.Flows)) {
		w := c.after.Flows[name]
		if !slices.ContainsFunc(w.Documents, func(d definition.Document) bool { return changed[cluster.Key{Kind: d.Kind, Name: d.Name}] }) {
			continue
		}
		c.flows = append(c.flows, name)
		wrong = append(wrong, w.Reasons...)
	}
	for _, d := range c.put {
		if d.Kind != definition.KindFlow {
			wrong = append(wrong, c.after.OwnMistakes(d)...)
		}
		if intake := c.after.IntakeMistakes(d); len(intake) > 0 && !accepted(d) {
			wrong = append(wrong, intake...)
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return batch.Errorf(batch.CodeBadDocument, "nothing was written:\n%s", strings.Join(slices.Compact(wrong), "\n"))
	}
	return nil
}

// concerned are the flows that need one of the documents given, by name.
func (c *comparison) concerned() []string {
	given := map[cluster.Key]bool{}
	for _, d := range c.given {
		given[flowstate.KeyOf(d)] = true
	}
	var flows []string
	for _, name := range slices.Sorted(maps.Keys(c.after.Flows)) {
		if slices.ContainsFunc(c.after.Flows[name].Documents, func(d definition.Document) bool { return given[flowstate.KeyOf(d)] }) {
			flows = append(flows, name)
		}
	}
	return flows
}

// Delete removes documents in one transaction.
func (a *admin) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	stored, before, done, err := a.documents(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	defer done()
	expect := map[cluster.Key]int64{}
	var gone []cluster.Key
	left := stored
	for _, d := range in.GetDocuments() {
		key := cluster.Key{Kind: definition.Kind(d.GetKind()), Name: d.GetName()}
		i := slices.IndexFunc(left, func(o definition.Document) bool { return o.Kind == key.Kind && o.Name == key.Name })
		if i < 0 {
			return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "there is no document %s", key))
		}
		expect[key] = left[i].Revision
		gone = append(gone, key)
		left = slices.Delete(slices.Clone(left), i, i+1)
	}
	for name, c := range leader.CompileDocuments(left, before, a.maxSteps).Flows {
		if c.Revision == nil && before.Flows[name].Revision != nil {
			return nil, wire.Status(batch.Errorf(batch.CodeBadDocument, "nothing was deleted: flow %s needs it: %s", name, strings.Join(c.Reasons, "; ")))
		}
	}
	revision, err := a.store.PutDocuments(ctx, expect, nil, gone)
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.DeleteResponse{Revision: revision}, nil
}

package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Apply checks the given documents together with the stored ones, and writes those that differ to etcd: in one transaction, or in parts if
// the caller asks for that. Then it reports the progress of each flow that needs one of them, until the flow has settled. In a dry run it
// only reports what would change.
func (a *admin) Apply(in *pb.ApplyRequest, out pb.Admin_ApplyServer) error {
	return wire.Status(a.apply(in, out))
}

// apply does what Apply does. Its errors are not converted for gRPC yet.
func (a *admin) apply(in *pb.ApplyRequest, out pb.Admin_ApplyServer) error {
	ctx := out.Context()
	release, ok := a.Budget.ReserveCall(len(in.GetDocuments()), documentBytes(in.GetDocuments()))
	if !ok {
		return refuse.Overloaded()
	}
	defer release()
	who := access.From(ctx)
	c, err := a.change(ctx, who, in)
	if err != nil {
		return err
	}
	diff := &pb.Diff{Changes: c.changes, Prunes: in.GetPrune()}
	if !in.GetDryRun() && len(c.put)+len(c.gone) > 0 {
		flows := slices.Concat(c.lost, c.flows)
		slices.Sort(flows)
		flows = slices.Compact(flows)
		parts := [][]definition.Document{c.put}
		if in.GetInParts() {
			if parts = a.Store.Parts(c.put); len(c.gone) > 0 {
				parts = append(parts, nil) // the last part has the documents to delete
			}
		}
		if err := c.write(parts, func(expect map[cluster.Key]int64, put []definition.Document, gone []cluster.Key) (int64, error) {
			return a.putDocuments(ctx, "apply", flows, expect, put, gone)
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
		waiting[name] = c.wanted(name)
	}
	if in.GetTellConnectors() { // then flows are reported, too, whose documents were given but did not change
		for _, name := range c.concerned() {
			if _, changes := waiting[name]; !changes && mayDefineOrView(who, name) {
				waiting[name] = c.wanted(name)
			}
		}
	}
	err = a.awaitFlows(ctx, waiting, flowWait{
		situation: fmt.Sprintf("the documents are written at revision %d", diff.GetRevision()), command: "kisgrid get flows",
		workerPatience: patienceOf(in.GetWorkersMilliseconds()),
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

// change compares the given documents with the stored ones, and checks the flows as they would be if the given ones were written, and, if
// prune is true in the request, those deleted that are not given. It writes nothing. The error says why they may not be written. Whether the caller may
// write them is checked before anything else, because other errors may tell of flows that the caller may not see.
func (a *admin) change(ctx context.Context, who access.Caller, in *pb.ApplyRequest) (comparison, error) {
	stored, before, done, err := a.readDocuments(ctx)
	if err != nil {
		return comparison{}, err
	}
	defer done()
	given, err := parseGiven(before, in.GetDocuments())
	if err != nil {
		return comparison{}, err
	}
	refused, err := a.refusedDocuments(ctx, stored, given)
	if err != nil {
		return comparison{}, err
	}
	c := compare(stored, given, refused)
	if in.GetPrune() {
		c.remove(prunable(who, stored, given, before), before)
	}
	c.after = leader.CompileDocuments(c.all, before, a.MaxSteps)
	if err := needForDocuments(who, c.given, c.changed, before, c.after); err != nil {
		return comparison{}, err
	}
	if in.GetCompareRevisions() {
		if err := checkRevisions(stored, in.GetDocuments()); err != nil {
			return comparison{}, err
		}
	}
	var failed error
	accepted := func(d definition.Document) bool {
		if a.Board.Load().RunsDocument(d) {
			return true
		}
		for _, flow := range c.after.FlowsOf(d) {
			history, err := a.Store.History(ctx, flow)
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
		if err == nil {
			err = c.checkLosses(before)
		}
		return c, err
	}
	return c, fmt.Errorf("read what was accepted earlier: %w", failed)
}

// checkRevisions returns an error with CodeConflict unless each given document is stored at the revision that it has in a request. A change
// after that is found by the transaction, which compares the revisions of the stored documents once more.
func checkRevisions(stored []definition.Document, given []*pb.Document) error {
	at := map[cluster.Key]int64{}
	for _, d := range stored {
		at[flowstate.KeyOf(d)] = d.Revision
	}
	for _, d := range given {
		now := at[cluster.Key{Kind: definition.Kind(d.GetKind()), Name: d.GetName()}]
		switch {
		case now == d.GetRevision():
		case now == 0:
			return batch.Errorf(batch.CodeConflict, "somebody else has deleted %s/%s meanwhile, and nothing is written: it was at revision %d", d.GetKind(), d.GetName(), d.GetRevision())
		case d.GetRevision() == 0:
			return batch.Errorf(batch.CodeConflict, "somebody else has created %s/%s meanwhile, at revision %d, and nothing is written", d.GetKind(), d.GetName(), now)
		default:
			return batch.Errorf(batch.CodeConflict, "somebody else has changed %s/%s meanwhile, and nothing is written: it is at revision %d now, and was at %d", d.GetKind(), d.GetName(), now, d.GetRevision())
		}
	}
	return nil
}

// documentBytes returns how many bytes the kinds, names and texts of documents have together.
func documentBytes(in []*pb.Document) (n int) {
	for _, d := range in {
		n += len(d.GetKind()) + len(d.GetName()) + len(d.GetYaml())
	}
	return n
}

// parseGiven checks that the documents which a caller gave can be parsed, and returns them. Documents that c has with the same text are not
// parsed again.
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

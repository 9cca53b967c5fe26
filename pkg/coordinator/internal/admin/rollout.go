package admin

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Rollout sends the progress of one flow to the caller until the flow has settled (awaitFlows).
func (a *admin) Rollout(in *pb.RolloutRequest, out pb.Admin_RolloutServer) error {
	return wire.Status(a.rollout(in, out))
}

// rollout does what Rollout does. Its errors are not converted for gRPC yet.
func (a *admin) rollout(in *pb.RolloutRequest, out pb.Admin_RolloutServer) error {
	ctx, flow := out.Context(), in.GetFlow()
	_, now, done, err := a.readDocuments(ctx)
	if err != nil {
		return err
	}
	done()
	c := now.Flows[flow]
	if c == nil {
		return batch.Errorf(batch.CodeNotFound, "there is no flow %q: kisgrid get flows lists them", flow)
	}
	return a.awaitFlows(ctx, awaitedRevisions{flow: c.ID()}, flowWait{
		situation: fmt.Sprintf("flow %s has not settled", flow), command: "kisgrid rollout status " + flow,
		workerPatience: patienceOf(in.GetWorkersMilliseconds()), mustBeServed: true,
	}, out.Send)
}

// patienceOf converts the time that a caller is willing to wait to a duration; it is a day at most.
func patienceOf(milliseconds uint64) time.Duration {
	return time.Duration(min(milliseconds, uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
}

// History returns the revisions in a flow's history, which were active once and are still kept, with their documents.
func (a *admin) History(ctx context.Context, in *pb.HistoryRequest) (*pb.HistoryResponse, error) {
	status, err := a.Store.Status(ctx, in.GetFlow()) // read before the entries, so that the active revision is among them
	if err != nil {
		return nil, wire.Status(fmt.Errorf("history of flow %s: %w", in.GetFlow(), err))
	}
	entries, err := a.Store.History(ctx, in.GetFlow())
	if err != nil {
		return nil, wire.Status(fmt.Errorf("history of flow %s: %w", in.GetFlow(), err))
	}
	if len(entries) == 0 {
		return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "no revision of flow %q is kept, or was ever accepted: kisgrid get flow says why, kisgrid delete flow removes it", in.GetFlow()))
	}
	active := int64(0)
	if status != nil {
		active = status.Active
	}
	revisions := make([]int64, len(entries))
	for i, e := range entries {
		revisions[i] = e.Revision
	}
	authors, err := a.Store.Authors(ctx, revisions...)
	if err != nil {
		return nil, wire.Status(fmt.Errorf("history of flow %s: %w", in.GetFlow(), err))
	}
	out := &pb.HistoryResponse{}
	for _, e := range entries {
		out.Revisions = append(out.Revisions, &pb.Accepted{
			Revision: e.Revision, AcceptedUnixMilliseconds: e.Accepted.UnixMilli(), Enabled: e.Enabled,
			Active: e.Revision == active, Documents: fromDocuments(e.Documents), Author: cmp.Or(e.Author, authors[e.Revision]),
		})
	}
	return out, nil
}

// fromDocuments converts documents to messages.
func fromDocuments(docs []definition.Document) []*pb.Document {
	out := make([]*pb.Document, len(docs))
	for i, d := range docs {
		out[i] = &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML, Revision: d.Revision}
	}
	return out
}

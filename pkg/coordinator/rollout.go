package coordinator

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Rollout reports how far a flow has come, until it has settled.
func (a *admin) Rollout(in *pb.RolloutRequest, out pb.Admin_RolloutServer) error {
	return wire.Status(a.rollout(in.GetFlow(), out))
}

func (a *admin) rollout(flow string, out pb.Admin_RolloutServer) error {
	ctx := out.Context()
	wanted, err := a.wanted(ctx, flow)
	if err != nil {
		return err
	}
	var told *pb.Progress
	for {
		c, changed := a.board.watch()
		p := &pb.Progress{Flow: flow, State: cluster.StateApplying, Wanted: wanted}
		if e := c.flows[flow]; e != nil && e.status.Wanted >= wanted {
			p = progress(e)
		}
		if !proto.Equal(told, p) {
			told = p
			if err := out.Send(p); err != nil {
				return err
			}
		}
		if p.GetState() != cluster.StateApplying {
			return nil
		}
		select {
		case <-changed:
		case <-a.draining:
			return batch.Errorf(batch.CodeShutdown, "this coordinator is shutting down: another one says what becomes of flow %s, with kisgrid rollout status %s", flow, flow)
		case <-a.loop.done:
			return errStopped()
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "flow %s has not settled: %w", flow, ctx.Err())
		}
	}
}

// wanted is the revision that the stored documents ask for.
func (a *admin) wanted(ctx context.Context, flow string) (int64, error) {
	_, docs, err := a.store.Documents(ctx)
	if err != nil {
		return 0, err
	}
	if c := candidates(docs)[flow]; c != nil {
		return c.number, nil
	}
	return 0, batch.Errorf(batch.CodeNotFound, "there is no flow %q: kisgrid get flows lists them", flow)
}

// History lists the accepted revisions of a flow that are kept.
func (a *admin) History(ctx context.Context, in *pb.HistoryRequest) (*pb.HistoryResponse, error) {
	entries, err := a.store.History(ctx, in.GetFlow())
	if err != nil {
		return nil, wire.Status(fmt.Errorf("history of flow %s: %w", in.GetFlow(), err))
	}
	if len(entries) == 0 {
		return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "no revision of flow %q was ever accepted: kisgrid get flows lists what there is", in.GetFlow()))
	}
	active := int64(0)
	if e := a.board.load().flows[in.GetFlow()]; e != nil {
		active = e.status.Active
	}
	out := &pb.HistoryResponse{}
	for _, e := range entries {
		out.Revisions = append(out.Revisions, &pb.Accepted{
			Revision: e.Revision, AcceptedUnixMilliseconds: e.Accepted.UnixMilli(), Enabled: e.Enabled,
			Active: e.Revision == active, Documents: fromDocuments(e.Documents),
		})
	}
	return out, nil
}

func fromDocuments(docs []definition.Document) []*pb.Document {
	out := make([]*pb.Document, len(docs))
	for i, d := range docs {
		out[i] = &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML, Revision: d.Revision}
	}
	return out
}

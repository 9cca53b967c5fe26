package coordinator

import (
	"context"
	"fmt"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Rollout reports how far a flow has come, until it has settled.
func (a *admin) Rollout(in *pb.RolloutRequest, out pb.Admin_RolloutServer) error {
	return wire.Status(a.rollout(in.GetFlow(), out))
}

func (a *admin) rollout(flow string, out pb.Admin_RolloutServer) error {
	ctx := out.Context()
	_, now, done, err := a.documents(ctx)
	if err != nil {
		return err
	}
	done()
	c := now.wanted[flow]
	if c == nil {
		return batch.Errorf(batch.CodeNotFound, "there is no flow %q: kisgrid get flows lists them", flow)
	}
	return a.settle(ctx, asked{flow: c.id()}, fmt.Sprintf("flow %s has not settled", flow), "kisgrid rollout status "+flow, out.Send)
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

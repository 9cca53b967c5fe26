package admin

import (
	"context"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Delete removes documents from etcd in one transaction. It deletes nothing and returns an error if one of them does not exist, or if a
// flow that is correct now would not be correct without them.
func (a *admin) Delete(ctx context.Context, in *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	d, err := a.deletion(ctx, in.GetDocuments())
	if err != nil {
		return nil, wire.Status(err)
	}
	revision, err := a.putDocuments(ctx, "delete", d.flows, d.expect, nil, d.gone)
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.DeleteResponse{Revision: revision}, nil
}

// CheckDelete returns the error that Delete would return, and deletes nothing.
func (a *admin) CheckDelete(ctx context.Context, in *pb.CheckDeleteRequest) (*pb.CheckDeleteResponse, error) {
	if _, err := a.deletion(ctx, in.GetDocuments()); err != nil {
		return nil, wire.Status(err)
	}
	return &pb.CheckDeleteResponse{}, nil
}

// deletion is documents that may be deleted.
type deletion struct {
	gone   []cluster.Key
	expect map[cluster.Key]int64 // the etcd revisions that the documents must still have
	flows  []string              // the flows that need one of them
}

// deletion checks that the caller may delete the named documents, and that no flow which is correct now would not be correct without them.
func (a *admin) deletion(ctx context.Context, names []*pb.DocumentName) (*deletion, error) {
	stored, before, done, err := a.readDocuments(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	who := access.From(ctx)
	out := &deletion{expect: map[cluster.Key]int64{}}
	var given []definition.Document
	left := stored
	for _, d := range names {
		key := cluster.Key{Kind: definition.Kind(d.GetKind()), Name: d.GetName()}
		i := slices.IndexFunc(left, func(o definition.Document) bool { return o.Kind == key.Kind && o.Name == key.Name })
		d := definition.Document{Kind: key.Kind, Name: key.Name}
		if key.Kind == definition.KindFlow { // the answer does not tell whether there is a flow that the caller has no right to
			if err := who.Need(access.Define, key.Name); err != nil {
				return nil, err
			}
		}
		if i < 0 || !maySee(who, d, before) {
			return nil, batch.Errorf(batch.CodeNotFound, "there is no document %s: kisgrid get flows, functions and connectors list those there are", key)
		}
		out.expect[key] = left[i].Revision
		out.gone = append(out.gone, key)
		given = append(given, d)
		left = slices.Delete(slices.Clone(left), i, i+1)
	}
	after := leader.CompileDocuments(left, before, a.MaxSteps)
	if err := needForDocuments(who, given, func(definition.Document) bool { return true }, before, after); err != nil {
		return nil, err
	}
	for name, c := range after.Flows {
		if c.Revision == nil && before.Flows[name].Revision != nil {
			return nil, batch.Errorf(batch.CodeBadDocument, "nothing was deleted: flow %s needs it: %s", name, strings.Join(c.Reasons, "; "))
		}
	}
	for _, d := range given {
		out.flows = append(out.flows, before.FlowsOf(d)...)
	}
	slices.Sort(out.flows)
	out.flows = slices.Compact(out.flows)
	return out, nil
}

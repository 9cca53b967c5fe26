package admin

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The calls in this file look at dead letters, edit them and drop them. select_letters.go finds them, and redrive.go runs them again.

// letterStore returns the store of dead letters, or an error if the cluster has none.
func (a *admin) letterStore() (*deadletter.Store, error) {
	if a.Letters == nil {
		return nil, batch.Errorf(batch.CodeNotFound, "this cluster keeps no dead letters: start its coordinators with --dead-letters redis://host:port")
	}
	return a.Letters, nil
}

// ListDead sends the dead letters that the caller's filter selects, flow by flow, up to the caller's limit. After the letters of a
// flow it sends how many letters the store has of that flow, and how many it may have.
func (a *admin) ListDead(in *pb.ListDeadRequest, out pb.Admin_ListDeadServer) error {
	return wire.Status(a.listDead(in, out))
}

// listDead does what ListDead does. Its errors are not converted for gRPC yet.
func (a *admin) listDead(in *pb.ListDeadRequest, out pb.Admin_ListDeadServer) error {
	ctx := out.Context()
	store, err := a.letterStore()
	if err != nil {
		return err
	}
	who, right := access.From(ctx), access.Rows
	if in.GetNoRows() {
		right = access.View
	}
	s, err := a.selection(ctx, store, in.GetFilter(), right)
	if err != nil {
		return err
	}
	switch {
	case !in.GetNoRows():
		a.Auditor.record(ctx, "read dead letters", lettersDetail(in.GetFilter()), s.flows...)
	case !s.content.empty(): // which letters have the contents is a read of rows, too
		a.Auditor.record(ctx, "search dead letters", lettersDetail(in.GetFilter()), s.flows...)
	default: // functions may write contents of rows into reasons
		var shown []string
		for _, flow := range s.flows {
			if who.May(access.Rows, flow) {
				shown = append(shown, flow)
			}
		}
		if len(shown) > 0 {
			a.Auditor.record(ctx, "read reasons of dead letters", lettersDetail(in.GetFilter()), shown...)
		}
	}
	left := in.GetLimit()
	afterFlow, afterPlace, err := parsePosition(in.GetAfter())
	if err != nil {
		return err
	}
	for _, flow := range s.flows {
		if flow < afterFlow {
			continue
		}
		p := s.pages(store, flow)
		if flow == afterFlow {
			p.after = afterPlace
		}
		for more := true; more && (in.GetLimit() == 0 || left > 0); {
			var letters []*deadletter.Letter
			if letters, more, err = p.next(ctx); err != nil {
				return err
			}
			for _, l := range letters {
				if in.GetLimit() > 0 {
					if left == 0 {
						break
					}
					left--
				}
				m := letterMessage(l)
				hide(who, m)
				if in.GetNoRows() {
					m.Row = nil
				}
				if err := out.Send(&pb.DeadEvent{Kind: &pb.DeadEvent_Letter{Letter: m}}); err != nil {
					return err
				}
			}
		}
		status, err := store.Status(ctx, flow)
		if err != nil {
			return err
		}
		m := &pb.DeadStore{
			Flow: flow, Letters: uint64(status.Letters), Limit: uint64(status.Max), AgeLimitSeconds: uint64(max(0, status.MaxAge/time.Second)),
			Refused: uint64(status.Refused), Expired: uint64(status.Expired),
		}
		if err := out.Send(&pb.DeadEvent{Kind: &pb.DeadEvent_Store{Store: m}}); err != nil {
			return err
		}
	}
	return nil
}

// letterMessage converts a dead letter to the message that callers get.
func letterMessage(l *deadletter.Letter) *pb.DeadLetter {
	return &pb.DeadLetter{
		Id: l.ID.String(), Flow: l.Flow, Revision: l.Revision, Function: l.Function, Use: l.Use, Code: pb.Code(l.Code), Reason: l.Reason,
		Attempts: l.Attempts, Redrives: l.Redrives, Encoding: l.Encoding, Row: l.Row, Batch: wire.FromID(l.Origin.Batch), Place: l.Origin.Row,
		Path: l.Path, Visit: l.Visit, ShardKey: l.ShardKey, Key: l.Key, KeptUnixMilliseconds: l.Kept.UnixMilli(), Edited: l.Edited,
		Source: l.Source, Line: l.Line, Position: positionOf(l),
	}
}

// EditDead replaces the row in a dead letter, so that a redrive runs the new row. It returns the letter as it is then.
func (a *admin) EditDead(ctx context.Context, in *pb.EditDeadRequest) (*pb.DeadLetter, error) {
	l, err := a.editDead(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	return letterMessage(l), nil
}

// editDead does what EditDead does. Its errors are not converted for gRPC yet.
func (a *admin) editDead(ctx context.Context, in *pb.EditDeadRequest) (*deadletter.Letter, error) {
	store, err := a.letterStore()
	if err != nil {
		return nil, err
	}
	s, err := a.selection(ctx, store, &pb.DeadFilter{Flow: in.GetFlow(), Ids: []string{in.GetId()}}, access.Operate, access.Rows)
	if err != nil {
		return nil, err
	}
	if len(in.GetRow()) > a.Limits.BatchBytes {
		return nil, batch.Errorf(batch.CodeBatchTooLarge, "the row has %d bytes, over the limit of %d bytes for a batch", len(in.GetRow()), a.Limits.BatchBytes)
	}
	for _, flow := range s.flows {
		if len(s.ids[flow]) == 0 {
			continue
		}
		if err := access.From(ctx).NeedUnmasked(flow, "edit dead letters"); err != nil {
			return nil, err
		}
		a.Auditor.record(ctx, "edit dead letter", "id "+in.GetId(), flow)
		return store.Edit(ctx, flow, s.ids[flow][0], in.GetRow())
	}
	return nil, noLetter(in.GetId())
}

// DropDead deletes the dead letters that the caller's filter selects, and returns how many. In a dry run it deletes none, and returns how
// many it would delete.
func (a *admin) DropDead(ctx context.Context, in *pb.DropDeadRequest) (*pb.DropDeadResponse, error) {
	n, err := a.dropDead(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.DropDeadResponse{Letters: uint64(n)}, nil
}

// dropDead does what DropDead does. Its errors are not converted for gRPC yet. After an error n says how many letters are dropped already.
func (a *admin) dropDead(ctx context.Context, in *pb.DropDeadRequest) (n int, err error) {
	store, err := a.letterStore()
	if err != nil {
		return 0, err
	}
	s, err := a.selection(ctx, store, in.GetFilter(), access.Operate)
	if err != nil {
		return 0, err
	}
	switch {
	case !in.GetDryRun():
		a.Auditor.record(ctx, "drop dead letters", lettersDetail(in.GetFilter()), s.flows...)
	case !s.content.empty(): // the number of letters tells of their contents
		a.Auditor.record(ctx, "search dead letters", lettersDetail(in.GetFilter()), s.flows...)
	}
	for _, flow := range s.flows {
		err := s.each(ctx, store, flow, func(letters []*deadletter.Letter) error {
			dropped := len(letters)
			var err error
			if !in.GetDryRun() {
				dropped, err = store.Drop(ctx, flow, letters)
			}
			n += dropped
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

package admin

import (
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The calls in this file look at dead letters, edit them and drop them. redrive.go runs them again.

// deadPage is the most letters that are read from the store at a time.
const deadPage = 200

// letterStore returns the store of dead letters, or an error if the cluster has none.
func (a *admin) letterStore() (*deadletter.Store, error) {
	if a.Letters == nil {
		return nil, batch.Errorf(batch.CodeNotFound, "this cluster keeps no dead letters: start its coordinators with --dead-letters redis://host:port")
	}
	return a.Letters, nil
}

// selection is a filter for dead letters that has been checked. A letter is selected if it passes every field. An empty ids, function or
// code, and a zero since, lets all letters pass; flows has the flows whose letters are looked at.
type selection struct {
	flows    []string
	ids      []batch.StreamID
	function string
	code     batch.Code
	since    time.Time
}

// selection checks a filter that a caller gave, and returns it as a selection. If the filter names no flow, the selection has all flows
// that have letters and on which the caller has the rights. If it names a flow on which the caller lacks one of them, there is an error.
func (a *admin) selection(ctx context.Context, store *deadletter.Store, f *pb.DeadFilter, rights ...access.Right) (*selection, error) {
	who := access.From(ctx)
	s := &selection{function: f.GetFunction(), code: batch.Code(f.GetCode())}
	if ms := f.GetSinceUnixMilliseconds(); ms != 0 {
		s.since = time.UnixMilli(ms)
	}
	seen := make(map[batch.StreamID]bool, len(f.GetIds()))
	for _, text := range f.GetIds() {
		id, err := deadletter.ParseID(text)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id], s.ids = true, append(s.ids, id)
		}
	}
	if f.GetFlow() != "" {
		for _, r := range rights {
			if err := who.Need(r, f.GetFlow()); err != nil {
				return nil, err
			}
		}
		s.flows = []string{f.GetFlow()}
		return s, nil
	}
	all, err := store.Flows(ctx)
	s.flows = slices.DeleteFunc(all, func(flow string) bool {
		return slices.ContainsFunc(rights, func(r access.Right) bool { return !who.May(r, flow) })
	})
	return s, err
}

// matches reports whether a letter passes the selection's function, code and since. It does not look at flows and ids.
func (s *selection) matches(l *deadletter.Letter) bool {
	return (s.function == "" || s.function == l.Function) && (s.code == 0 || s.code == l.Code) &&
		(s.since.IsZero() || !l.Kept.Before(s.since))
}

// each calls f with the selected letters of a flow, page by page, in the order in which they were kept, or in the order of ids if the
// selection has some. A page may be empty. It stops at the first error and returns it.
func (s *selection) each(ctx context.Context, store *deadletter.Store, flow string, f func([]*deadletter.Letter) error) error {
	p := s.pages(store, flow)
	for {
		letters, more, err := p.next(ctx)
		if err != nil || !more {
			return err
		}
		if err := f(letters); err != nil {
			return err
		}
	}
}

// pages reads the letters of one flow that are selected, page by page.
type pages struct {
	selection *selection
	store     *deadletter.Store
	flow      string
	ids       []batch.StreamID // the selected ids whose letters have not been read yet
	after     string
	last      string // the store's position at which reading ends; empty means after the newest letter
	over      bool
}

// pages returns a pages that begins at the first selected letter of a flow. It reads nothing yet.
func (s *selection) pages(store *deadletter.Store, flow string) *pages {
	return &pages{selection: s, store: store, flow: flow, ids: s.ids}
}

// next reads the next page of selected letters, which may be empty. more is false if there was no further page to read, or after an error.
func (p *pages) next(ctx context.Context) (letters []*deadletter.Letter, more bool, err error) {
	if p.over {
		return nil, false, nil
	}
	if len(p.selection.ids) > 0 {
		letters, p.ids, err = p.store.Get(ctx, p.flow, p.ids...)
		p.over = len(p.ids) == 0
	} else {
		letters, p.after, err = p.store.Page(ctx, p.flow, p.after, p.last, deadPage)
		p.over = p.after == ""
	}
	return slices.DeleteFunc(letters, func(l *deadletter.Letter) bool { return !p.selection.matches(l) }), err == nil, err
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
	if !in.GetNoRows() {
		a.Auditor.record(ctx, "read dead letters", lettersDetail(in.GetFilter()), s.flows...)
	}
	left := in.GetLimit()
	for _, flow := range s.flows {
		p := s.pages(store, flow)
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
		found, _, err := store.Get(ctx, flow, s.ids[0])
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			if err := access.From(ctx).NeedUnmasked(flow, "edit dead letters"); err != nil {
				return nil, err
			}
			a.Auditor.record(ctx, "edit dead letter", "id "+in.GetId(), flow)
			return store.Edit(ctx, flow, s.ids[0], in.GetRow())
		}
	}
	return nil, batch.Errorf(batch.CodeNotFound, "there is no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows those there are", in.GetId())
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
	if !in.GetDryRun() {
		a.Auditor.record(ctx, "drop dead letters", lettersDetail(in.GetFilter()), s.flows...)
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

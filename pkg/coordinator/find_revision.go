package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// revisionChanged refuses a new batch that names another revision than the active one.
type revisionChanged struct {
	refusal *batch.Error
	active  batch.Revision
}

func (e revisionChanged) Error() string { return e.refusal.Error() }
func (e revisionChanged) Unwrap() error { return e.refusal }

// answer tells the client which revision to name. Nothing of the batch ran, so that it may.
func (e revisionChanged) answer(in *pb.Submission) *pb.Answer {
	return &pb.Answer{
		Sequence: in.GetSequence(), Revision: e.active.Number, Digest: wire.FromDigest(e.active.Digest), Refused: wire.FromError(e.refusal), Last: true,
	}
}

// revision finds what a batch runs on: the revision that it names, or the active one where it names none. A new batch needs
// a flow that is on. That of a call (single) must name the active revision; one of a stream may name the revision that the
// stream was told last: what the client sends behind it must not overtake it. A client of an earlier build names revisions by
// number alone; which one that is, etcd says now.
func (f *fleet) revision(ctx context.Context, flow string, in *pb.Submission, single bool) (*flowstate.Revision, error) {
	named, err := wire.ToRevision(in.GetRevision(), in.GetDigest())
	if err != nil {
		return nil, err
	}
	if named.Number != 0 && !in.GetFirst() {
		return f.earlier(ctx, flow, named)
	}
	active, err := f.active(ctx, flow, named)
	switch {
	case err != nil:
		return nil, err
	case named.Is(active.Id()) || !in.GetFirst():
		return active, nil
	case named.Number == 0 || single:
		changed := batch.Errorf(batch.CodeRevisionChanged, "flow %s runs on revision %d: name that one", flow, active.Number)
		return nil, revisionChanged{refusal: changed, active: active.Id()}
	}
	return f.earlier(ctx, flow, named)
}

// active is what new batches of the flow run on here. Who names a revision that is not known here, or a flow that is not on
// here, may have heard of it from somebody who is ahead of this coordinator, which then catches up.
func (f *fleet) active(ctx context.Context, flow string, named batch.Revision) (*flowstate.Revision, error) {
	c := f.board.Load()
	r, err := c.Active(flow)
	if err == nil && (named.Number == 0 || c.Flows[flow].Revisions.Find(named) != nil || f.lookups.isGone(lookupKey{flow, named})) {
		return r, nil
	}
	if err != nil {
		named = batch.Revision{}
	}
	if _, err := f.lookUp(ctx, flow, named); err != nil {
		return nil, err
	}
	return f.board.Load().Active(flow)
}

// enquire asks etcd for a flow, and for a revision of it where one is named, and waits until this coordinator runs what etcd
// has as the flow's active revision now. The entry is nil where etcd does not keep the revision.
func (f *fleet) lookUp(ctx context.Context, flow string, named batch.Revision) (*cluster.HistoryEntry, error) {
	r := f.lookups.ask(ctx, lookupKey{flow, named})
	if r.err != nil {
		return nil, fmt.Errorf("whether flow %s, or the revision named, is on meanwhile can't be said: %w", flow, r.err)
	}
	if r.status == nil {
		return r.entry, nil
	}
	late := time.NewTimer(2 * switchPatience)
	defer late.Stop()
	for {
		c, changed := f.board.Watch()
		e := c.Flows[flow]
		if e != nil && (r.status.Active == 0 || e.Active != nil && e.Active.Id().Is(r.status.ActiveRevision())) {
			return r.entry, nil
		}
		select {
		case <-changed:
		case <-late.C:
			return r.entry, nil // it can't read that revision, or etcd told it nothing, or another one is active by now: what it has must do
		case <-ctx.Done():
			return nil, batch.Errorf(batch.CodeCancelled, "wait for flow %s: the caller gave up: %w", flow, context.Cause(ctx))
		case <-f.done:
			return nil, refuse.Draining()
		}
	}
}

// earlier is the revision that a batch names which was sent before. It need not be active any more, nor the flow be on or
// there: what began goes on, as long as the history has the revision.
func (f *fleet) earlier(ctx context.Context, flow string, named batch.Revision) (*flowstate.Revision, error) {
	if e := f.board.Load().Flows[flow]; e.TakesBatches() {
		if r := e.Revisions.Find(named); r != nil && r.Enabled {
			return r, nil
		}
	}
	known, err := f.recallHere(ctx, flow, named, nil)
	if known != nil || err != nil {
		return known, err
	}
	gone := batch.Errorf(batch.CodeRevisionGone, "revision %s of flow %q is not kept: submit the rows as a new batch", named, flow)
	if f.lookups.isGone(lookupKey{flow, named}) {
		return nil, gone
	}
	entry, err := f.lookUp(ctx, flow, named)
	if err != nil {
		return nil, fmt.Errorf("recall revision %s of flow %s: %w", named, flow, err)
	}
	// It may have become active here meanwhile.
	known, err = f.recallHere(ctx, flow, named, nil)
	switch {
	case known != nil || err != nil:
		return known, err
	case entry == nil:
		return nil, gone
	}
	r, err := flowstate.FromHistory(*entry)
	if err != nil {
		return nil, err
	}
	if !r.Enabled {
		return nil, flowstate.Disabled(flow)
	}
	if _, err := f.recallHere(ctx, flow, named, r); err != nil {
		return nil, err
	}
	return r, nil
}

// known is a revision that the fleet has in memory, or read where it had to be read; nil for none.
func (f *fleet) recallHere(ctx context.Context, flow string, named batch.Revision, read *flowstate.Revision) (known *flowstate.Revision, err error) {
	var found *flowstate.Revision
	if !f.wait(ctx, func() { found = f.recall(ctx, flow, named, read) }) {
		return nil, batch.Errorf(batch.CodeShutdown, "recall revision %s of flow %s: this coordinator is shutting down, or the caller gave up", named, flow)
	}
	return found, nil
}

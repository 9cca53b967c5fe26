package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// revisionFinder finds the revision that a batch runs on: on the board, in the fleet's memory, or in the history in etcd. Any goroutine may
// use it.
type revisionFinder struct {
	board   *flowstate.Board
	fleet   *fleet
	lookups *etcdLookups
}

// revisionChanged is the error that refuses a new batch that does not name the active revision. No row of the batch ran.
type revisionChanged struct {
	refusal *batch.Error
	active  batch.Revision
}

// Error returns the text of the refusal, with its code.
func (e revisionChanged) Error() string { return e.refusal.Error() }

// Unwrap returns the refusal, so that its code can be found in the error.
func (e revisionChanged) Unwrap() error { return e.refusal }

// answer makes the answer to the client: the refusal, and the revision to name when it submits the batch again.
func (e revisionChanged) answer(in *pb.Submission) *pb.Answer {
	return &pb.Answer{
		Sequence: in.GetSequence(), Revision: e.active.Number, Digest: wire.FromDigest(e.active.Digest), Refused: wire.FromError(e.refusal), Last: true,
	}
}

// revision finds the revision that a batch runs on:
//
//   - A batch that may have been submitted before (first is not set) runs on the revision that it names, or if it names none, on the
//     active one.
//   - A new batch (first is set) that names the active revision runs on it. The flow must take batches.
//   - Another new batch of a call (single), or one that names no revision, is refused with the error revisionChanged.
//   - Another new batch of a stream runs on the revision that it names, which is the one that the stream was told last: batches that the
//     client sends behind it must not overtake it.
//
// Clients of early builds name revisions by number alone; etcd then says which revision has the number now.
func (f *revisionFinder) revision(ctx context.Context, flow string, in *pb.Submission, single bool) (*flowstate.Revision, error) {
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
	case named.Is(active.ID()) || !in.GetFirst():
		return active, nil
	case named.Number == 0 || single:
		pointTold.Hit()
		changed := batch.Errorf(batch.CodeRevisionChanged, "flow %s runs on revision %d: name that one", flow, active.Number)
		return nil, revisionChanged{refusal: changed, active: active.ID()}
	}
	return f.earlier(ctx, flow, named)
}

// active returns the revision that new batches of the flow run on, or an error if there is none. named is the revision that the client
// names. A client that names a revision or a flow which this coordinator does not know may have heard of it from another coordinator, so
// active asks etcd before it answers.
func (f *revisionFinder) active(ctx context.Context, flow string, named batch.Revision) (*flowstate.Revision, error) {
	c := f.board.Load()
	r, err := c.Active(flow, access.From(ctx).Knows)
	if err == nil && (named.Number == 0 || c.Flows[flow].Revisions.Find(named) != nil || f.lookups.isGone(lookupKey{flow, named})) {
		return r, nil
	}
	if _, paused := c.Paused[flow]; paused && c.Flows[flow] != nil {
		return nil, err // etcd knows no more about it
	}
	if err != nil {
		named = batch.Revision{}
	}
	if _, err := f.lookUp(ctx, flow, named); err != nil {
		return nil, err
	}
	return f.board.Load().Active(flow, access.From(ctx).Knows)
}

// lookUp asks etcd for a flow, and for its revision named unless that is zero. Then it waits, for twice switchPatience at most, until this
// coordinator runs the revision that is active according to etcd. It returns the history's entry of the named revision; nil means that the
// history does not have it.
func (f *revisionFinder) lookUp(ctx context.Context, flow string, named batch.Revision) (*cluster.HistoryEntry, error) {
	r := f.lookups.ask(ctx, lookupKey{flow, named})
	if r.err != nil {
		return nil, fmt.Errorf("ask etcd whether flow %s, or the revision that the batch names, is active by now: %w", flow, r.err)
	}
	if r.status == nil {
		return r.entry, nil
	}
	late := time.NewTimer(2 * switchPatience)
	defer late.Stop()
	for {
		c, changed := f.board.Watch()
		e := c.Flows[flow]
		if e != nil && (r.status.Active == 0 || e.Active != nil && e.Active.ID().Is(r.status.ActiveRevision())) {
			return r.entry, nil
		}
		select {
		case <-changed:
		case <-late.C:
			pointNotHere.Hit()
			// This coordinator can't read the revision, or has not heard of it, or another revision is active by now. It answers with
			// the revision that it has.
			return r.entry, nil
		case <-ctx.Done():
			return nil, batch.Errorf(batch.CodeCancelled, "wait for flow %s: the caller gave up: %w", flow, context.Cause(ctx))
		case <-f.fleet.done:
			return nil, refuse.Draining()
		}
	}
}

// earlier finds a revision by the name that a batch has for it. The batch may have been submitted before. The revision need not be active
// any more, and the flow may be switched off or deleted: the batch goes on as long as the history has the revision.
func (f *revisionFinder) earlier(ctx context.Context, flow string, named batch.Revision) (*flowstate.Revision, error) {
	if e := f.board.Load().Flows[flow]; e.TakesBatches() {
		if r := e.Revisions.Find(named); r != nil && r.Enabled {
			return r, nil
		}
	}
	known, err := f.recall(ctx, flow, named, nil)
	if known != nil || err != nil {
		pointRemembered.Hit()
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
	// The revision may have become active here meanwhile.
	known, err = f.recall(ctx, flow, named, nil)
	switch {
	case known != nil || err != nil:
		return known, err
	case entry == nil:
		pointGone.Hit()
		return nil, gone
	}
	pointInHistory.Hit()
	r, err := flowstate.FromHistory(*entry)
	if err != nil {
		return nil, err
	}
	if !r.Enabled {
		return nil, flowstate.Disabled(flow)
	}
	if _, err := f.recall(ctx, flow, named, r); err != nil {
		return nil, err
	}
	return r, nil
}

// recall calls flowTable.recall in the fleet's goroutine, and returns the revision that it returns; nil means that the coordinator does not
// have the revision. read is the revision if the caller has read it from the history, and otherwise nil. It returns an error if ctx is done
// or the fleet has ended.
func (f *revisionFinder) recall(ctx context.Context, flow string, named batch.Revision, read *flowstate.Revision) (known *flowstate.Revision, err error) {
	var found *flowstate.Revision
	if !f.fleet.wait(ctx, func() { found = f.fleet.flows.recall(ctx, flow, named, read) }) {
		return nil, batch.Errorf(batch.CodeShutdown, "recall revision %s of flow %s: this coordinator is shutting down, or the caller gave up", named, flow)
	}
	return found, nil
}

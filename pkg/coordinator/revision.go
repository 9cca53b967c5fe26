package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// revisionChanged refuses a new batch that names another revision than the active one.
type revisionChanged struct {
	refusal *batch.Error
	active  int64
}

func (e revisionChanged) Error() string { return e.refusal.Error() }
func (e revisionChanged) Unwrap() error { return e.refusal }

// answer tells the client which revision to name. Nothing of the batch ran, so that it may.
func (e revisionChanged) answer(in *pb.Submission) *pb.Answer {
	return &pb.Answer{Sequence: in.GetSequence(), Revision: e.active, Refused: wire.FromError(e.refusal), Last: true}
}

// revision finds what a batch runs on: the revision that it names, or the active one where it names none. A new batch needs
// a flow that is on. That of a call (single) must name the active revision; one of a stream may name the revision that the
// stream was told last: what the client sends behind it must not overtake it.
func (f *fleet) revision(ctx context.Context, flow string, in *pb.Submission, single bool) (*revision, error) {
	number := in.GetRevision()
	if number != 0 && !in.GetFirst() {
		return f.earlier(ctx, flow, number)
	}
	active, err := f.active(ctx, flow, number)
	switch {
	case err != nil:
		return nil, err
	case number == active.number || !in.GetFirst():
		return active, nil
	case number == 0 || single:
		changed := batch.Errorf(batch.CodeRevisionChanged, "flow %s runs on revision %d: name that one", flow, active.number)
		return nil, revisionChanged{refusal: changed, active: active.number}
	}
	return f.earlier(ctx, flow, number)
}

// active is what new batches of the flow run on here. Who names a newer revision, or a flow that is not on here, may have
// heard of it from somebody who is ahead of this coordinator, which then catches up.
func (f *fleet) active(ctx context.Context, flow string, named int64) (*revision, error) {
	r, err := f.board.load().active(flow)
	if err == nil && r.number >= named {
		return r, nil
	}
	if err := f.catchUp(ctx, flow); err != nil {
		return nil, err
	}
	return f.board.load().active(flow)
}

// catchUp waits until this coordinator runs what etcd has as the flow's active revision now.
func (f *fleet) catchUp(ctx context.Context, flow string) error {
	// One after the other, so that those who ask for what is not there can't keep etcd busy.
	select {
	case f.asking <- struct{}{}:
	case <-ctx.Done():
		return batch.Errorf(batch.CodeCancelled, "ask etcd for flow %s: the caller gave up: %w", flow, context.Cause(ctx))
	}
	status, err := f.store.Status(ctx, flow)
	<-f.asking
	if err != nil {
		return fmt.Errorf("flow %s is not on here, and whether it is meanwhile can't be said: %w", flow, err)
	}
	if status == nil {
		return nil
	}
	late := time.NewTimer(2 * switchPatience)
	defer late.Stop()
	for {
		c, changed := f.board.watch()
		if e := c.flows[flow]; e != nil && (status.Active == 0 || e.active != nil && e.active.number >= status.Active) {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return nil // it can't read that revision, or etcd told it nothing: what it has must do
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "wait for flow %s: the caller gave up: %w", flow, context.Cause(ctx))
		case <-f.done:
			return errStopped()
		}
	}
}

// earlier is the revision that a batch names which was sent before. It need not be active any more, nor the flow be on or
// there: what began goes on, as long as the history has the revision.
func (f *fleet) earlier(ctx context.Context, flow string, number int64) (*revision, error) {
	ahead := false // the client is
	if e := f.board.load().flows[flow]; e.on() {
		if r := e.revisions[number]; r != nil && r.enabled {
			return r, nil
		}
		ahead = number > e.active.number
	}
	for {
		var known *revision
		if !f.wait(ctx, func() { known = f.recall(ctx, flow, number, nil) }) {
			return nil, errRecall(flow, number)
		}
		if known != nil {
			return known, nil
		}
		if !ahead {
			break
		}
		if err := f.catchUp(ctx, flow); err != nil {
			return nil, err
		}
		ahead = false
	}
	h, err := f.store.Revision(ctx, flow, number)
	if err != nil {
		return nil, fmt.Errorf("recall revision %d of flow %s: %w", number, flow, err)
	}
	r, err := newRevision(*h)
	if err != nil {
		return nil, err
	}
	if !r.enabled {
		return nil, errDisabled(flow)
	}
	if !f.wait(ctx, func() { f.recall(ctx, flow, number, r) }) {
		return nil, errRecall(flow, number)
	}
	return r, nil
}

func errRecall(flow string, number int64) error {
	return batch.Errorf(batch.CodeShutdown, "recall revision %d of flow %s: this coordinator is shutting down, or the caller gave up", number, flow)
}

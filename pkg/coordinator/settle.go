package coordinator

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// stateDeleted is what Progress says of a flow whose document was deleted while somebody waited for it.
const stateDeleted = "deleted"

// askAgain is how long somebody waits for a flow before what its documents ask for is read again.
const askAgain = time.Second

// documents reads what is stored, and what that asks for. It does so for one caller at a time: read, YAML takes many times its
// size. The caller calls done when it needs neither any more.
func (a *admin) documents(ctx context.Context) (stored []definition.Document, asked *compiled, done func(), err error) {
	select {
	case a.checking <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
	}
	done = func() { <-a.checking }
	if _, stored, err = a.store.Documents(ctx); err != nil {
		done()
		return nil, nil, nil, err
	}
	a.compiled = compile(stored, a.compiled, a.steps)
	return stored, a.compiled, done, nil
}

// asked are the revisions that somebody waits for, by flow.
type asked map[string]batch.Revision

// renew takes over what the documents ask for by now; a flow that has none any more goes, and is told as deleted.
func (w asked) renew(now *compiled, tell func(*pb.Progress) error) error {
	for _, flow := range slices.Sorted(maps.Keys(w)) {
		if c := now.wanted[flow]; c != nil {
			w[flow] = c.id()
			continue
		}
		delete(w, flow)
		if err := tell(&pb.Progress{Flow: flow, State: stateDeleted, Reasons: []string{"its document was deleted meanwhile: apply it again if it is to run"}}); err != nil {
			return err
		}
	}
	return nil
}

// lookedAt is what the progress of a flow follows from.
type lookedAt struct {
	entry  *flowEntry
	wanted batch.Revision
}

// settle tells how far flows are until each has settled on what its documents ask for: it runs here, was refused, waits for a
// worker, or was deleted. Where the wait ends before that, its error begins with so, which says how things stand, and names the
// command that says how they went on.
func (a *admin) settle(ctx context.Context, waiting asked, so, command string, tell func(*pb.Progress) error) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	told := map[string]*pb.Progress{}
	looked := map[string]lookedAt{}
	for {
		c, changed := a.board.watch()
		var news []string // what is shown of the others has not changed
		for flow, wanted := range waiting {
			is := lookedAt{c.flows[flow], wanted}
			if was, there := looked[flow]; !there || was != is {
				looked[flow] = is
				news = append(news, flow)
			}
		}
		slices.Sort(news)
		for _, flow := range news {
			p := progress(flow, c.flows[flow], waiting[flow])
			if !proto.Equal(told[flow], p) {
				told[flow] = p
				if err := tell(p); err != nil {
					return err
				}
			}
			if p.GetState() != cluster.StateApplying {
				delete(waiting, flow)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
			_, now, done, err := a.documents(ctx)
			if err != nil {
				return err
			}
			done()
			if err := waiting.renew(now, tell); err != nil {
				return err
			}
		case <-a.draining:
			return batch.Errorf(batch.CodeShutdown, "%s; this coordinator is shutting down: another one says what became of it with %s", so, command)
		case <-a.loop.done:
			return errStopped()
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "%s; what became of it says %s: %w", so, command, ctx.Err())
		}
	}
}

// progress is how far a flow is with a revision that its documents ask for. A flow runs on it when new batches do so here.
func progress(flow string, e *flowEntry, asked batch.Revision) *pb.Progress {
	p := &pb.Progress{Flow: flow, State: cluster.StateApplying, Wanted: asked.Number}
	if e == nil || !e.status.WantedRevision().Is(asked) {
		return p
	}
	s := e.status
	p.Active, p.Applied, p.Of, p.Reasons = s.Active, uint32(s.Applied), uint32(s.Of), s.Reasons
	if s.State != cluster.StateActive && s.State != cluster.StateDisabled || e.active != nil && e.active.id() == asked {
		p.State = s.State
	}
	return p
}

package admin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// stateDeleted is what Progress says of a flow whose document was deleted while somebody waited for it.
const StateDeleted = "deleted"

// askAgain is how long somebody waits for a flow before what its documents ask for is read again.
const askAgain = time.Second

// documents reads what is stored, and what that asks for. It does so for one caller at a time: read, YAML takes many times its
// size. The caller calls done when it needs neither any more.
func (a *admin) documents(ctx context.Context) (stored []definition.Document, asked *leader.DesiredState, done func(), err error) {
	select {
	case a.checking <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
	}
	done = func() { <-a.checking }
	if _, stored, err = a.Store.Documents(ctx); err != nil {
		done()
		return nil, nil, nil, err
	}
	a.lastDesired = leader.CompileDocuments(stored, a.lastDesired, a.MaxSteps)
	return stored, a.lastDesired, done, nil
}

// asked are the revisions that somebody waits for, by flow.
type awaitedRevisions map[string]batch.Revision

// renew takes over what the documents ask for by now; a flow that has none any more goes, and is told as deleted.
func (w awaitedRevisions) renew(now *leader.DesiredState, tell func(*pb.Progress) error) error {
	for _, flow := range slices.Sorted(maps.Keys(w)) {
		if c := now.Flows[flow]; c != nil {
			w[flow] = c.ID()
			continue
		}
		delete(w, flow)
		if err := tell(&pb.Progress{Flow: flow, State: StateDeleted, Reasons: []string{"its document was deleted meanwhile: apply it again if it is to run"}}); err != nil {
			return err
		}
	}
	return nil
}

// lookedAt is what the progress of a flow follows from.
type progressInputs struct {
	entry  *flowstate.Flow
	wanted batch.Revision
}

// settling says how flows are waited for.
type flowWait struct {
	// so says how things stand, and begins the error of a wait that ends before the flows have settled; command says how they went
	// on.
	so, command string
	// workers is how long a flow is waited for that no worker can run, from when that is seen. Workers may be about to come.
	workers time.Duration
	// serving: a flow that is active, and that no worker can run, has not settled.
	serving bool
}

// settle tells how far flows are until each has settled on what its documents ask for: it runs here, was refused, waits for a
// worker in vain, or was deleted.
func (a *admin) awaitFlows(ctx context.Context, waiting awaitedRevisions, s flowWait, tell func(*pb.Progress) error) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	told := map[string]*pb.Progress{}
	looked := map[string]progressInputs{}
	lacking := map[string]time.Time{} // since when it is seen that no worker can run the flow
	for {
		c, changed := a.Board.Watch()
		var news []string // what is shown of the others has not changed
		for flow, wanted := range waiting {
			is := progressInputs{c.Flows[flow], wanted}
			if was, there := looked[flow]; !there || was != is || !lacking[flow].IsZero() {
				looked[flow] = is
				news = append(news, flow)
			}
		}
		slices.Sort(news)
		steps := make([]*pb.Progress, len(news))
		for i, flow := range news {
			steps[i] = progress(flow, c.Flows[flow], waiting[flow])
		}
		if s.serving && !a.addServingState(ctx, steps) {
			return s.endedEarly(ctx)
		}
		for i, flow := range news {
			p := steps[i]
			if !proto.Equal(told[flow], p) {
				told[flow] = p
				if err := tell(p); err != nil {
					return err
				}
			}
			if p.GetState() != cluster.StatePending && p.GetState() != cluster.StateUnserved {
				delete(lacking, flow)
			} else if lacking[flow].IsZero() {
				lacking[flow] = time.Now()
			}
			if since, lacks := lacking[flow]; p.GetState() != cluster.StateApplying && (!lacks || time.Since(since) >= s.workers) {
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
		case <-a.Draining:
			return batch.Errorf(batch.CodeShutdown, "%s; this coordinator is shutting down: another one says what became of it with %s", s.so, s.command)
		case <-a.Rows.Done():
			return s.endedEarly(ctx)
		case <-ctx.Done():
			return s.endedEarly(ctx)
		}
	}
}

// over is the error of a wait whose caller gave up, or whose coordinator has ended.
func (s *flowWait) endedEarly(ctx context.Context) error {
	if ctx.Err() == nil {
		return refuse.Stopped()
	}
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "%s; what became of it says %s: %w", s.so, s.command, ctx.Err())
}

// markNow says of flows that are active where no worker can run them, and which of their connectors are degraded; false when ctx or the
// fleet ended first.
func (a *admin) addServingState(ctx context.Context, steps []*pb.Progress) bool {
	var active []string
	for _, p := range steps {
		if p.GetState() == cluster.StateActive {
			active = append(active, p.GetFlow())
		}
	}
	if len(active) == 0 {
		return true
	}
	unserved, ok := a.Fleet.Unserved(ctx, active)
	for _, p := range steps {
		if p.GetState() != cluster.StateActive {
			continue
		}
		if reasons := unserved[p.GetFlow()]; len(reasons) > 0 {
			p.State, p.Reasons = cluster.StateUnserved, reasons
			continue
		}
		c, alive := a.Fleet.Connectors(ctx, p.GetFlow())
		p.Degraded, ok = toWire(c.Degraded...), ok && alive
	}
	return ok
}

// progress is how far a flow is with a revision that its documents ask for. A flow runs on it when new batches do so here.
func progress(flow string, e *flowstate.Flow, asked batch.Revision) *pb.Progress {
	p := &pb.Progress{Flow: flow, State: cluster.StateApplying, Wanted: asked.Number}
	if e == nil || !e.Status.WantedRevision().Is(asked) {
		return p
	}
	s := e.Status
	p.Active, p.Applied, p.Of, p.Reasons = s.Active, uint32(s.Applied), uint32(s.Of), s.Reasons
	if s.State != cluster.StateActive && s.State != cluster.StateDisabled || e.Active != nil && e.Active.ID() == asked {
		p.State = s.State
	}
	return p
}

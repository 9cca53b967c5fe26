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

// StateDeleted is the state in a message Progress about a flow whose document was deleted while a call waited for the flow.
const StateDeleted = "deleted"

// askAgain is the interval at which a call that waits looks again at what may have changed without notice: the documents in etcd, or the
// states of connectors.
const askAgain = time.Second

// readDocuments reads the documents that are stored in etcd, and compiles what they ask for. One call at a time may have these, because
// parsed YAML takes many times the memory of its text: readDocuments blocks while another call has them. The caller must call done when it
// needs neither any more, unless there is an error.
func (a *admin) readDocuments(ctx context.Context) (stored []definition.Document, asked *leader.DesiredState, done func(), err error) {
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

// awaitedRevisions are the revisions that a call waits for, by flow.
type awaitedRevisions map[string]batch.Revision

// renew changes the awaited revisions to those that the documents ask for now. A flow whose document was deleted is reported as deleted,
// with tell, and is not waited for any more. The error is that of tell.
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

// progressInputs is what the progress of a flow is computed from: the flow's entry in the snapshot, and the revision that is waited for.
// While neither changes, the progress stays the same.
type progressInputs struct {
	entry  *flowstate.Flow
	wanted batch.Revision
}

// flowWait is how a call waits until flows have settled: its patience, and the words of its errors.
type flowWait struct {
	// situation begins the error of a wait that ends before the flows have settled: it says what is done so far. command is the command
	// that tells what became of the flows.
	situation, command string
	// workerPatience is for how long a flow that no worker can run is waited for, because workers may be about to start.
	workerPatience time.Duration
	// mustBeServed says that a flow has not settled while it is active and no worker can run it.
	mustBeServed bool
}

// awaitFlows blocks until each flow in waiting has settled: its revision is active in this coordinator or is rejected, no worker could run
// it for s.workerPatience, or its document was deleted. It calls tell with the progress of a flow whenever that changes, and removes
// settled flows from waiting. It returns an error if tell fails, ctx is done, or the coordinator drains or stops.
func (a *admin) awaitFlows(ctx context.Context, waiting awaitedRevisions, s flowWait, tell func(*pb.Progress) error) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	told := map[string]*pb.Progress{}
	looked := map[string]progressInputs{}
	lacking := map[string]time.Time{} // by flow: since when no worker can run it
	for {
		c, changed := a.Board.Watch()
		var news []string // flows that may have changed since the last round
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
		if s.mustBeServed && !a.addServingState(ctx, steps) {
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
			if since, lacks := lacking[flow]; p.GetState() != cluster.StateApplying && (!lacks || time.Since(since) >= s.workerPatience) {
				delete(waiting, flow)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
			_, now, done, err := a.readDocuments(ctx)
			if err != nil {
				return err
			}
			done()
			if err := waiting.renew(now, tell); err != nil {
				return err
			}
		case <-a.Draining:
			return batch.Errorf(batch.CodeShutdown, "%s; this coordinator is shutting down: another one says what became of it with %s", s.situation, s.command)
		case <-a.Rows.Done():
			return s.endedEarly(ctx)
		case <-ctx.Done():
			return s.endedEarly(ctx)
		}
	}
}

// endedEarly returns the error of a wait that ended because the caller gave up (ctx is done) or the coordinator has stopped.
func (s *flowWait) endedEarly(ctx context.Context) error {
	if ctx.Err() == nil {
		return refuse.Stopped()
	}
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "%s; what became of it says %s: %w", s.situation, s.command, ctx.Err())
}

// addServingState completes the progress of active flows: a flow that no worker can run becomes unserved, with the reasons, and other flows
// get their degraded connectors. It returns false if ctx is done or the coordinator has ended.
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

// progress returns how far a flow is with revision asked, the one that its documents ask for. e is the flow in the snapshot; it may be nil.
// The flow counts as active or disabled only when this coordinator has switched to that revision.
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

package coordinator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// service is a flow that the scheduler runs. It outlasts the flow: when that is switched off or deleted, what is under way
// ends, and what was under way when a coordinator was lost may be sent again, until nothing came for a lease time.
type scheduledFlow struct {
	revision *flowstate.Revision // that workers must have acknowledged to get rows

	// What follows is for a flow that is off or gone.
	retirement *time.Timer         // nil while it is on
	usedAgain  bool                // since the timer was set
	earlier    flowstate.Revisions // that batches sent again may name
}

// serve has the scheduler run the flow by the workers that are ready for the revision.
func (f *fleet) schedule(ctx context.Context, flow string, r *flowstate.Revision) *scheduledFlow {
	s := f.scheduled[flow]
	if s == nil {
		s = &scheduledFlow{}
		f.scheduled[flow] = s
	}
	if s.retirement != nil {
		s.retirement.Stop()
	}
	*s = scheduledFlow{revision: r}
	key := definitionKey{flow, r.Id()}
	var ready []string
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		f.sendDefinition(m, r)
		if v, sent := m.definitions.get(key); sent && m.peer.connected.Load() && !v.pending && len(v.errors) == 0 {
			ready = append(ready, id)
			m.announceActive(key)
		}
	}
	f.loop.post(ctx, scheduler.FlowSwitched{Flow: flow, Revision: r.Number, Digest: r.Digest, Ready: ready})
	f.log.Info("flow runs", "flow", flow, "revision", r.Number, "workers", len(ready))
	return s
}

// outlast begins the time that a service has beyond its flow. earlier are the revisions that batches may name.
func (f *fleet) scheduleRetirement(ctx context.Context, flow string, earlier flowstate.Revisions) {
	s := f.scheduled[flow]
	switch {
	case s == nil:
		f.forgetFlow(ctx, flow) // it never ran, or is retired
		f.eraseTraces(ctx, flow)
		return
	case s.retirement != nil:
		return
	}
	s.earlier = earlier
	s.retirement = time.AfterFunc(f.lease, func() { f.ask(ctx, func() { f.retire(ctx, flow, s) }) })
}

// recall finds a revision that a batch names which was sent before; r is that revision where it had to be read. Where the
// flow is off or gone, it also sees to it that the scheduler runs it all the same.
func (f *fleet) recall(ctx context.Context, flow string, named batch.Revision, r *flowstate.Revision) *flowstate.Revision {
	e, s := f.flows[flow], f.scheduled[flow]
	if r == nil && e != nil {
		r = e.Revisions.Find(named)
	}
	if r == nil && s != nil {
		r = s.earlier.Find(named)
	}
	if r == nil || !r.Enabled {
		return nil
	}
	if e != nil && e.Revisions.Find(r.Id()) == nil {
		e.Keep(r)
		f.changedFlows[flow] = true
		f.publish()
	}
	if !e.TakesBatches() {
		ctx := context.WithoutCancel(ctx) // the flow outlasts who asks for it
		if s == nil || s.revision.Accepted.Before(r.Accepted) {
			s = f.schedule(ctx, flow, r)
			f.scheduleRetirement(ctx, flow, nil)
		}
		if s.usedAgain = true; s.earlier.Find(r.Id()) == nil {
			s.earlier = append(slices.Clip(s.earlier), r)
		}
	}
	f.pruneDefinitions(flow)
	return r
}

// retire has everybody forget a flow that is off or gone, unless it was of use in the last lease time.
func (f *fleet) retire(ctx context.Context, flow string, s *scheduledFlow) {
	if f.scheduled[flow] != s || s.retirement == nil {
		return // it is on again
	}
	if s.usedAgain || !f.forgetFlow(ctx, flow) {
		s.usedAgain = false
		s.retirement.Reset(f.lease)
		return
	}
	delete(f.scheduled, flow)
	f.log.Info("flow retired", "flow", flow)
	f.eraseTraces(ctx, flow)
}

// erase takes away what is left of a deleted flow, and does so once more a lease time later: credit that was on its way, and
// answers that were being told, make traces of it meanwhile.
func (f *fleet) eraseTraces(ctx context.Context, flow string) {
	if f.flows[flow] != nil {
		return
	}
	for _, forget := range f.onFlowDeleted {
		forget(flow)
	}
	if f.eraseTimers[flow] != nil {
		return
	}
	f.eraseTimers[flow] = time.AfterFunc(f.lease, func() {
		f.ask(ctx, func() {
			if f.flows[flow] == nil && f.scheduled[flow] == nil && f.forgetFlow(ctx, flow) {
				f.eraseTraces(ctx, flow)
			}
			delete(f.eraseTimers, flow)
		})
	})
}

// forget has every worker forget a flow, unless something of it is under way or to come.
func (f *fleet) forgetFlow(ctx context.Context, flow string) bool {
	idle, gone := f.rollingOut[flow] == nil && f.pending[flow] == nil, f.flows[flow] == nil
	if !idle || !f.loop.do(ctx, func(l *schedulerLoop) {
		if idle = l.scheduler.Idle(flow); idle {
			l.step(scheduler.FlowRetired{Flow: flow, Gone: gone})
		}
	}) {
		return false // where it is shutting down, idle may still be written to
	}
	if !idle {
		return false
	}
	if gone {
		delete(f.countedSince, flow)
	}
	for _, m := range f.members {
		for name, v := range m.definitions[flow] {
			if !v.pending {
				m.forgetDefinition(definitionKey{flow, name})
			}
		}
	}
	return true
}

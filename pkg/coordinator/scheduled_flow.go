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

// scheduledFlow is a flow that the scheduler runs. It outlasts the flow's document: when the flow is switched off or deleted, its rows
// under way end, and batches that were unanswered when a coordinator was lost may be submitted again. It is retired when no batch came for
// the time of a lease.
//
//	┌─────────┐  switched off or deleted  ┌──────────┐  no batch for a lease,  ┌─────────┐
//	│ current │ ────────────────────────> │ retiring │ ──────────────────────> │ retired │
//	└─────────┘ <──────────────────────── └──────────┘  nothing under way      └─────────┘
//	             switched on again          ^      ^                                │
//	                                        │      └────────────────────────────────┘
//	             a batch came: one more     │       a batch that was submitted before
//	             lease ─────────────────────┘       is sent again
type scheduledFlow struct {
	revision *flowstate.Revision // workers get rows of the flow when they have accepted it

	// The fields below are for a flow that is retiring.
	retirement *time.Timer         // nil while the flow is current
	usedAgain  bool                // a batch came since the timer was set
	earlier    flowstate.Revisions // the revisions that batches which are sent again may name
}

// schedule has the scheduler run the flow on the workers that have accepted the revision.
func (t *flowTable) schedule(ctx context.Context, flow string, r *flowstate.Revision) *scheduledFlow {
	s := t.scheduled[flow]
	if s == nil {
		s = &scheduledFlow{}
		t.scheduled[flow] = s
	}
	if s.retirement != nil {
		s.retirement.Stop()
	}
	*s = scheduledFlow{revision: r}
	key := definitionKey{flow, r.ID()}
	var ready []string
	for _, id := range slices.Sorted(maps.Keys(t.roster.members)) {
		m := t.roster.members[id]
		t.sendDefinition(m, r)
		if m.ready(key) {
			ready = append(ready, id)
			m.announceActive(key)
		}
	}
	t.loop.post(ctx, scheduler.FlowSwitched{Flow: flow, Revision: r.Number, Digest: r.Digest, Ready: ready})
	t.log.Info("flow runs", "flow", flow, "revision", r.Number, "workers", len(ready))
	return s
}

// retireLater begins the time that a scheduled flow has after it was switched off or deleted. earlier are the revisions that batches may
// name.
func (t *flowTable) retireLater(ctx context.Context, flow string, earlier flowstate.Revisions) {
	s := t.scheduled[flow]
	switch {
	case s == nil:
		t.forgetFlow(ctx, flow) // it never ran, or is retired
		t.eraseTraces(ctx, flow)
		return
	case s.retirement != nil:
		return
	}
	s.earlier = earlier
	s.retirement = t.later(ctx, t.lease, func() { t.retire(ctx, flow, s) })
}

// recall returns the revision that a batch names which was submitted before; nil when it is not known here. read is that revision where
// the caller has read it from the history, and nil otherwise. If the flow is switched off or deleted, the scheduler runs it once more.
func (t *flowTable) recall(ctx context.Context, flow string, named batch.Revision, read *flowstate.Revision) *flowstate.Revision {
	e, s, r := t.byName[flow], t.scheduled[flow], read
	if r == nil && e != nil {
		r = e.Revisions.Find(named)
	}
	if r == nil && s != nil {
		r = s.earlier.Find(named)
	}
	if r == nil || !r.Enabled {
		return nil
	}
	if e != nil && e.Revisions.Find(r.ID()) == nil {
		e.Keep(r)
		t.changed[flow] = true
		t.publish()
	}
	if !e.TakesBatches() {
		ctx := context.WithoutCancel(ctx) // the flow runs longer than the call that asks for it
		if s == nil || s.revision.Accepted.Before(r.Accepted) {
			s = t.schedule(ctx, flow, r)
			t.retireLater(ctx, flow, nil)
		}
		if s.usedAgain = true; s.earlier.Find(r.ID()) == nil {
			s.earlier = append(slices.Clip(s.earlier), r)
		}
	}
	t.pruneDefinitions(flow)
	return r
}

// retire has the scheduler and the workers forget a flow that is switched off or deleted, unless a batch came in the last lease, or rows
// are under way.
func (t *flowTable) retire(ctx context.Context, flow string, s *scheduledFlow) {
	if t.scheduled[flow] != s || s.retirement == nil {
		return // it is switched on again
	}
	if s.usedAgain || !t.forgetFlow(ctx, flow) {
		s.usedAgain = false
		s.retirement.Reset(t.lease)
		return
	}
	delete(t.scheduled, flow)
	t.log.Info("flow retired", "flow", flow)
	t.eraseTraces(ctx, flow)
}

// eraseTraces drops the metrics and other traces of a deleted flow, and does so once more after a lease: credit on its way from workers,
// and answers on their way to clients, leave new traces meanwhile.
func (t *flowTable) eraseTraces(ctx context.Context, flow string) {
	if t.byName[flow] != nil {
		return
	}
	for _, deleted := range t.onFlowDeleted {
		deleted(flow)
	}
	if t.eraseTimers[flow] != nil {
		return
	}
	t.eraseTimers[flow] = t.later(ctx, t.lease, func() {
		if t.byName[flow] == nil && t.scheduled[flow] == nil && t.forgetFlow(ctx, flow) {
			t.eraseTraces(ctx, flow)
		}
		delete(t.eraseTimers, flow)
	})
}

// forgetFlow has the scheduler and every worker forget a flow. It returns false, and does nothing, if something of the flow is under way or
// about to come.
func (t *flowTable) forgetFlow(ctx context.Context, flow string) bool {
	idle, gone := t.rollingOut[flow] == nil && t.switching[flow] == nil, t.byName[flow] == nil
	if !idle || !t.loop.do(ctx, func(l *schedulerLoop) {
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
		delete(t.countedSince, flow)
	}
	for _, m := range t.roster.members {
		for name, answer := range m.definitions[flow] {
			if !answer.pending {
				m.forgetDefinition(definitionKey{flow, name})
			}
		}
	}
	return true
}

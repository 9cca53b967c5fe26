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
	revision *flowstate.Revision // the revision that the scheduler runs; a worker gets rows of the flow when it has accepted this revision

	// The fields below are for a flow that is retiring.
	retirement *time.Timer         // nil while the flow is current
	usedAgain  bool                // a batch was sent again since the timer was set, so the flow stays for another lease
	earlier    flowstate.Revisions // the revisions that batches which are sent again may name
}

// schedule tells the scheduler to run the flow on revision r, on the workers that have accepted it, and sends the revision to the other
// workers. If the flow was retiring, it is current again.
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

// retireLater makes a flow that was switched off or deleted retire after a lease (retire). earlier are the revisions that batches which are
// sent again may name meanwhile. If the scheduler does not run the flow, it is forgotten at once.
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

// recall returns the revision named by a batch that may have been submitted before; nil means that it is not in memory, or is one with
// which the flow is switched off. read is the revision if the caller has read it from the history, and otherwise nil. If the flow is
// switched off or deleted, recall makes the scheduler run it once more.
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
		pointUsedAgain.Hit()
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

// retire makes the scheduler and the workers forget a flow that is switched off or deleted. If a batch came during the last lease, or rows
// are under way, it waits for another lease instead.
func (t *flowTable) retire(ctx context.Context, flow string, s *scheduledFlow) {
	if t.scheduled[flow] != s || s.retirement == nil {
		return // it is switched on again
	}
	if s.usedAgain || !t.forgetFlow(ctx, flow) {
		s.usedAgain = false
		s.retirement.Reset(t.lease)
		return
	}
	pointRetired.Hit()
	delete(t.scheduled, flow)
	t.log.Info("flow retired", "flow", flow)
	t.eraseTraces(ctx, flow)
}

// eraseTraces drops the metrics and other traces of a flow that was deleted, and does so once more after a lease: credit on its way from
// workers, and answers on their way to clients, leave new traces meanwhile. For a flow that is still in etcd it does nothing.
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

// forgetFlow makes the scheduler and every worker forget a flow, and returns true. If rows of the flow are under way, or it is being rolled
// out or switched to another revision, forgetFlow does nothing and returns false. It also returns false when the coordinator is shutting
// down.
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

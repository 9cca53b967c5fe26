package scheduler

import "slices"

// FlowRetired says that every worker is told to forget the flow, together with the credit that it granted, so the scheduler
// can forget the flow's state. The event is ignored while Idle is false. The states of a flow:
//
//	          an event names it              FlowRetired
//	unknown ────────────────────▶ in use ──────────────────▶ retired: only the ledger is left
//	   ▲                          │    ▲                        │   │
//	   │                          │    └── an event names it ───┘   │
//	   └── FlowRetired with Gone ─┴─────────────────────────────────┘
type FlowRetired struct {
	Flow string
	// Gone says that the flow was deleted, so its ledger is dropped, too.
	Gone bool
}

// CreditEnded says that a worker took a definition of a flow that it had forgotten. Credit that it granted for the flow before
// is void.
type CreditEnded struct{ Worker, Flow string }

// Idle reports whether the flow of that name has no pending work, no row without an outcome, and no row at a worker. It is
// true for an unknown flow.
func (s *Scheduler) Idle(name string) bool {
	f := s.byName[name]
	return f == nil || f.ledger.InFlight() == 0 && !f.awake && !slices.ContainsFunc(f.workerFlows, func(wf *workerFlow) bool { return wf != nil && wf.unanswered > 0 })
}

// step handles FlowRetired: it drops the state of the flow, except its ledger and its epoch, by which parts from before the
// retirement are told from later ones. With Gone it drops these, too.
func (e FlowRetired) step(s *Scheduler) {
	f := s.byName[e.Flow]
	if f == nil || !s.Idle(e.Flow) {
		return
	}
	s.placement.setTable(f, nil)
	for wf := range f.each {
		w := wf.worker
		w.workerFlows = slices.DeleteFunc(w.workerFlows, func(m *workerFlow) bool { return m == wf })
	}
	name, ledger, epoch := f.name, f.ledger, f.epoch
	*f = flow{name: name, ledger: ledger, epoch: epoch + 1}
	if e.Gone {
		delete(s.byName, name)
		s.flows = slices.DeleteFunc(s.flows, func(o *flow) bool { return o == f })
	}
}

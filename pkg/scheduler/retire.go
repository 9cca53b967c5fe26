package scheduler

import "slices"

// FlowRetired says that every worker is told to forget the flow: with its definitions goes its credit. It does nothing while
// Idle is false. Gone: the flow was deleted, and its ledger goes too.
type FlowRetired struct {
	Flow string
	Gone bool
}

// CreditEnded says that a worker, which knew nothing of the flow, took a definition of it: what credit it gave before is void.
type CreditEnded struct{ Worker, Flow string }

// Idle reports whether no row of the flow is with anybody.
func (s *Scheduler) Idle(name string) bool {
	f := s.byName[name]
	return f == nil || f.ledger.InFlight() == 0 && !f.awake && !slices.ContainsFunc(f.workerFlows, func(wf *workerFlow) bool { return wf != nil && wf.unanswered > 0 })
}

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

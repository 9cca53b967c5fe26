package scheduler

import "slices"

// FlowRetired says that every worker is told to forget the flow: with its definitions goes its credit. It does nothing while
// Idle is false.
type FlowRetired struct{ Flow string }

// CreditEnded says that a worker, which knew nothing of the flow, took a definition of it: what credit it gave before is void.
type CreditEnded struct{ Worker, Flow string }

// Idle reports whether no row of the flow is with anybody.
func (s *Scheduler) Idle(name string) bool {
	f := s.byName[name]
	return f == nil || f.ledger.InFlight() == 0 && !slices.ContainsFunc(f.links, func(l *link) bool { return l.unanswered > 0 })
}

func (e FlowRetired) step(s *Scheduler) {
	f := s.byName[e.Flow]
	if f == nil || !s.Idle(e.Flow) {
		return
	}
	s.sweep(f)
	f.revision = 0
	for _, l := range f.links {
		if l.index >= 0 {
			s.leave(l)
		}
		w := l.worker
		delete(w.byFlow, f)
		w.links = slices.DeleteFunc(w.links, func(m *link) bool { return m == l })
	}
	f.links = nil
}

func (e CreditEnded) step(s *Scheduler) {
	w, f := s.workers[e.Worker], s.byName[e.Flow]
	if w == nil || f == nil || w.byFlow[f] == nil {
		return
	}
	l := w.byFlow[f]
	l.rows, l.bytes = 0, 0
}

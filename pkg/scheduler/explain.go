package scheduler

// Explanation says where a row would go.
type Explanation struct {
	Slot uint16
	// Revision is the active one; 0: none.
	Revision int64
	// Worker is its id; empty: nowhere.
	Worker string
	Reason string
	// Rows of the slot that have no outcome: those that a worker has, begun, queued or parked there; those that wait for credit
	// or for a session; those that wait for a worker, or until the slot has been handed over.
	Sent, Queued, Held int
}

// Explain says where a row of the flow with this key hash would go now, and why, or why nowhere.
func (s *Scheduler) Explain(flow string, key uint64) Explanation {
	e := Explanation{Slot: Slot(key)}
	f := s.byName[flow]
	switch {
	case f == nil || f.revision.IsZero():
		e.Reason = "no revision of the flow is active"
	case f.ready() == 0:
		e.Revision = f.revision.Number
		e.Reason = "no worker is ready for the active revision"
		for l := range f.each {
			w := l.worker
			switch {
			case w.draining:
				e.Reason += "; " + w.id + " drains"
			case l.acknowledged != f.revision:
				e.Reason += "; " + w.id + " has not acknowledged it"
			}
		}
	default:
		e.Revision = f.revision.Number
		w := f.owner(e.Slot).worker
		e.Worker = w.id
		e.Reason = "it weighs most for the slot among the workers that are ready"
		switch {
		case f.held[e.Slot] != nil:
			e.Reason += "; rows wait until the slot's old owner, " + f.held[e.Slot].from.worker.id + ", is done"
		case !w.connected:
			e.Reason += "; rows wait until its session is back"
		}
	}
	if f != nil {
		e.count(f)
	}
	return e
}

// count counts the slot's rows that have no outcome.
func (e *Explanation) count(f *flow) {
	rows := func(n *int) func(*segment) {
		return func(g *segment) {
			if g.batch.over || len(g.batch.Keys) == 0 {
				return
			}
			for _, r := range g.list() {
				if g.batch.slot(r) == e.Slot {
					*n++
				}
			}
		}
	}
	f.waiting.each(rows(&e.Held))
	f.fresh.each(rows(&e.Held))
	for _, from := range f.inbox {
		held := rows(&e.Held)
		from.each(func(g segment) { held(&g) })
		if dead, ok := from.(*residue); ok {
			e.Held += dead.link.sent(e.Slot)
		}
	}
	if h := f.held[e.Slot]; h != nil {
		for _, run := range h.runs {
			e.Held += len(run)
		}
	}
	for l := range f.each {
		l.queue.each(rows(&e.Queued))
		if l.isCrowded() {
			for _, b := range l.shares.crowded {
				l.shares.aside[b].each(rows(&e.Queued))
			}
		}
		e.Sent += l.sent(e.Slot)
	}
}

// sent counts the slot's rows that the link's worker has not answered.
func (l *link) sent(slot uint16) (n int) {
	for p := l.first; p != nil; p = p.next {
		if p.Batch.over || len(p.Batch.Keys) == 0 {
			continue
		}
		p.eachOpen(func(i uint32) {
			if p.Batch.slot(p.Row(i)) == slot {
				n++
			}
		})
	}
	return n
}

package scheduler

// step handles Submitted: it counts the batch's rows in the ledger, and routes them unless older rows of the flow have to
// go first.
func (e Submitted) step(s *Scheduler) {
	b := e.Batch
	f := s.flow(b.Flow)
	s.arrivals++
	b.flow, b.arrival, b.remaining, b.heapIndex, b.submittedAt = f, s.arrivals, b.Rows()-len(b.Ended), -1, s.now
	f.ledger.In += uint64(b.Rows())
	for i := range b.Ended {
		f.ledger.Outcomes[b.Ended[i].Outcome]++
	}
	if b.remaining == 0 {
		b.over = true
		s.act(Finish{Batch: b})
		return
	}
	f.open.add(b)
	if !b.Deadline.IsZero() {
		s.deadlines.add(b)
	}
	g := segment{batch: b}
	if len(b.Ended) > 0 {
		g.rows = b.openRows()
	}
	switch {
	case len(b.Keys) == 0:
		s.queueWhole(f, g, false)
	case f.settled():
		s.route(f, g)
	default:
		f.submitted.push(g)
		s.wake(f)
	}
}

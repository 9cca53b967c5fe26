package scheduler

// step handles Credited: it adds to the credit, and sends queued rows. The event is ignored if the worker is not connected.
func (e Credited) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || !w.connected {
		return
	}
	wf := s.workerFlow(s.flow(e.Flow), w)
	wf.creditRows += e.Rows
	wf.creditBytes += e.Bytes
	s.sendQueued(wf)
	s.sendWhole(wf.flow)
}

// step handles CreditEnded: it takes away the credit that the worker has left for the flow.
func (e CreditEnded) step(s *Scheduler) {
	w, f := s.workers[e.Worker], s.byName[e.Flow]
	if w == nil || f == nil || int(w.seat) >= len(f.workerFlows) || f.workerFlows[w.seat] == nil {
		return
	}
	wf := f.workerFlows[w.seat]
	wf.creditRows, wf.creditBytes = 0, 0
}

package scheduler

import "slices"

func (e WorkerResumed) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected, w.resendNext = true, e.PartsReceived+1
	if !w.resending {
		w.resending = true
		s.resending = append(s.resending, w)
	}
}

// resume sends the next part of a worker again that did not reach it.
func (s *Scheduler) resendNext(w *worker) {
	s.spend(costPart)
	sent := &w.sent
	w.resendNext = max(w.resendNext, sent.first)
	if !w.resending || w.resendNext >= sent.next() {
		s.resending = slices.DeleteFunc(s.resending, func(o *worker) bool { return o == w })
		if w.resending {
			w.resending = false
			s.afterResending(w)
		}
		return
	}
	p := sent.part(w.resendNext)
	if w.resendNext++; p != nil {
		s.resend(p)
	}
}

// resumed goes on with new parts once all are sent again.
func (s *Scheduler) afterResending(w *worker) {
	for _, wf := range w.workerFlows {
		s.spend(costSlot)
		s.askAgainForRows(wf)
		s.readmitWorker(wf)
		if !wf.queue.empty() || wf.hasAside() {
			s.sendQueuedSoon(wf)
		}
		s.sendWholeSoon(wf.flow)
	}
}

// sendAgain sends a part that did not reach its worker, without the rows that shall run elsewhere: a key's later rows must
// not run there before the earlier ones, which are elsewhere already.
func (s *Scheduler) resend(p *Part) {
	wf, w := p.workerFlow, p.workerFlow.worker
	s.spend(p.Len())
	switch {
	case p.Batch.over:
		p.closeAll()
	case len(p.Batch.Keys) > 0:
		p.takeAway(func(h *heldSlot) bool { return !h.keepsRows })
	case !wf.mayServe():
		g := p.rest()
		p.closeAll()
		s.queueWhole(wf.flow, g, true)
	}
	if len(wf.flow.held.handedOver) > 0 {
		s.wake(wf.flow)
	}
	if p.open == 0 {
		p.drop()
		return
	}
	if p.open < p.Len() {
		p = p.replace()
	}
	wf.takeCredit(p)
	s.act(Send{Worker: w.id, Part: p})
}

package scheduler

import "slices"

// step handles WorkerResumed: it notes that the parts after PartsReceived did not reach the worker. They are sent again as
// pending work; new parts wait until that is done.
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

// resendNext sends the next part again that did not reach a worker, unless all its rows are answered or gone. If there is none
// left, the worker may get new parts again.
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

// afterResending is called when all parts that did not reach a worker are sent again. It asks again for the rows of slots that
// move, and lets queued rows be sent.
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

// resend sends a part again that did not reach its worker. It leaves out rows of held slots, unless the worker may keep them,
// because a row must not run at this worker after older rows of its key went elsewhere. A part of a batch that is over is not
// sent; a part without keys goes to another worker if this one may not serve the flow any more.
func (s *Scheduler) resend(p *Part) {
	wf, w := p.workerFlow, p.workerFlow.worker
	s.spend(p.Len())
	switch {
	case p.Batch.over:
		p.closeAll()
	case len(p.Batch.Keys) > 0:
		p.takeAway(func(h *heldSlot) bool { return !h.keepsRows })
	case !wf.mayServe():
		pointResentElsewhere.Hit()
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
		pointResentRest.Hit()
		p = p.replace()
	}
	pointResent.Hit()
	wf.takeCredit(p)
	s.act(Send{Worker: w.id, Part: p})
}

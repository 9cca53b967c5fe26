package scheduler

import (
	"cmp"
	"math"
)

func (e WorkerConnected) step(s *Scheduler) {
	WorkerGone{Worker: e.Worker}.step(s) // what it had before is lost
	w := &worker{
		id: e.Worker, name: e.Name, hash: hashName(e.Name), connected: true,
		partRows: cmp.Or(e.PartRows, math.MaxInt64), partBytes: cmp.Or(e.PartBytes, math.MaxInt64),
	}
	s.leastRows, s.leastBytes = min(s.leastRows, w.partRows), min(s.leastBytes, w.partBytes)
	s.workers[e.Worker] = w
	s.placement.takeSeat(w)
}

func (e WorkerDisconnected) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected, w.resending = false, false
	for _, wf := range w.workerFlows {
		wf.creditRows, wf.creditBytes = 0, 0
		s.sendWholeSoon(wf.flow) // others need not leave it to this one
	}
}

func (e WorkerReady) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	f := s.flow(e.Flow)
	if r := e.revision(); r == f.revision {
		wf := s.workerFlow(f, w)
		wf.acknowledged = r
		s.updateMembershipSoon(wf)
	}
}

func (e FlowSwitched) step(s *Scheduler) {
	f := s.flow(e.Flow)
	if r := e.revision(); f.revision != r {
		f.revision = r
		f.epoch++
		if f.counts != nil {
			f.counts.switched()
		}
		for wf := range f.each {
			wf.mayMixRevisions = !wf.queue.empty() || wf.hasAside()
		}
	}
	for _, id := range e.Ready {
		if w := s.workers[id]; w != nil {
			wf := s.workerFlow(f, w)
			wf.acknowledged = f.revision
		}
	}
	// First those that come, so that rows of those that go find somebody.
	for wf := range f.each {
		if wf.mayServe() {
			s.updateMembershipSoon(wf)
		}
	}
	for wf := range f.each {
		s.updateMembershipSoon(wf)
	}
	s.sendWholeSoon(f)
}

func (e WorkerDraining) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || w.draining {
		return
	}
	w.draining = true
	for _, wf := range w.workerFlows {
		s.updateMembershipSoon(wf)
		s.sendWholeSoon(wf.flow)
	}
}

// place makes a workerFlow ready, or not, as its worker's state asks for.
func (s *Scheduler) updateMembership(wf *workerFlow) {
	if wf.worker.gone {
		s.removeGone(wf)
		return
	}
	if wf.isLeaving() && wf.keeping > 0 {
		s.handOverKept(wf)
	}
	switch {
	case wf.mayServe() && !wf.ready:
		s.join(wf)
	case !wf.mayServe() && wf.ready:
		s.beginHandOver(wf.flow, nil, s.leave(wf), wf)
		s.readmitWorker(wf)
		s.sendWholeSoon(wf.flow)
	}
}

// join gives a workerFlow the slots for which it weighs most.
func (s *Scheduler) join(wf *workerFlow) {
	f, seat := wf.flow, wf.worker.seat
	wf.ready, f.loads[seat] = true, wf.unanswered
	s.sendWholeSoon(f)
	if !wf.queue.empty() {
		s.sendQueuedSoon(wf)
	}
	if f.table == nil {
		s.placement.setTable(f, s.placement.tableOfOne(seat))
		if !f.waiting.empty() { // for somebody to be ready
			s.enter(f, &waitedRows{f.waiting.take()})
		}
		return
	}
	s.spend(costTable)
	old, moves := f.table, s.placement.changeOf(f.table, seat)
	s.placement.setTable(f, moves.to)
	losers := make([]*workerFlow, len(moves.losers))
	for i, loser := range moves.losers {
		losers[i] = f.workerFlows[loser]
	}
	s.beginHandOver(f, old, &moves.slots, losers...)
}

// leave takes a workerFlow's slots from it and gives each to the workerFlow that weighs most of those left. It returns the slots.
func (s *Scheduler) leave(wf *workerFlow) *slotSet {
	f, seat := wf.flow, wf.worker.seat
	s.spend(costTable)
	wf.ready, f.loads[seat] = false, notReady
	if f.table.count == 1 {
		s.placement.setTable(f, nil)
		f.waitingSince = s.now
		return &allSlots
	}
	moves := s.placement.changeOf(f.table, seat)
	s.placement.setTable(f, moves.to)
	return &moves.slots
}

func (e WorkerGone) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	delete(s.workers, e.Worker)
	w.gone, w.died, w.diedAlone = true, e.Died, w.ranAlone()
	w.connected, w.resending = false, false
	if w.left = len(w.workerFlows); w.left == 0 {
		s.placement.freeSeat(w)
	}
	for _, wf := range w.workerFlows {
		s.updateMembershipSoon(wf)
		s.sendWholeSoon(wf.flow)
	}
}

// bury takes a workerFlow out of its flow whose worker is gone. What it had goes on in the order in which it was sent, then what
// waited for it.
func (s *Scheduler) removeGone(wf *workerFlow) {
	f, w := wf.flow, wf.worker
	s.spend(costSlot)
	if wf.ready {
		s.leave(wf)
	}
	f.workerFlows[w.seat] = nil
	s.handOvers++
	s.requeue(wf, s.handOvers, false)
	s.enter(f, &lostParts{wf, blame{died: w.died, diedAlone: w.diedAlone}})
	if w.left--; w.left == 0 {
		s.placement.freeSeat(w)
	}
}

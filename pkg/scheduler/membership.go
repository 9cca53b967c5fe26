package scheduler

import (
	"cmp"
	"math"
)

// step handles WorkerConnected: it makes the worker known. If a worker of that id was known before, it is treated as gone
// first.
func (e WorkerConnected) step(s *Scheduler) {
	WorkerGone{Worker: e.Worker}.step(s) // its rows of an earlier session are lost
	w := &worker{
		id: e.Worker, name: e.Name, hash: hashName(e.Name), connected: true,
		partRows: cmp.Or(e.PartRows, math.MaxInt64), partBytes: cmp.Or(e.PartBytes, math.MaxInt64), cordoned: e.Cordoned,
	}
	s.leastRows, s.leastBytes = min(s.leastRows, w.partRows), min(s.leastBytes, w.partBytes)
	s.workers[e.Worker] = w
	s.placement.takeSeat(w)
}

// step handles WorkerDisconnected: nothing can be sent to the worker, and its credit ends with the session.
func (e WorkerDisconnected) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected, w.resending = false, false
	for _, wf := range w.workerFlows {
		wf.creditRows, wf.creditBytes = 0, 0
		s.sendWholeSoon(wf.flow) // batches that only this worker could run may go to others
	}
}

// step handles WorkerReady: it notes that the worker can run the flow's active revision, so that the worker gets slots as
// pending work. Other revisions, and unknown workers, are ignored.
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

// step handles FlowSwitched: it makes another revision the active one. Workers that have not acknowledged it lose their
// slots.
func (e FlowSwitched) step(s *Scheduler) {
	f := s.flow(e.Flow)
	if r := e.revision(); f.revision != r {
		pointRevision.Hit()
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
	// Workers that become ready come first, so that rows of workers that lose their slots find a new owner.
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

// step handles WorkerDraining: the worker's slots go to others, as pending work of each flow. The rows that the worker has
// begun stay with it.
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

// step handles WorkerCordoned: the worker's slots go to others, or it gets slots again, as pending work of each flow.
func (e WorkerCordoned) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || w.cordoned == e.Cordoned {
		return
	}
	w.cordoned = e.Cordoned
	for _, wf := range w.workerFlows {
		s.updateMembershipSoon(wf)
		s.sendWholeSoon(wf.flow)
	}
}

// updateMembership makes a worker flow ready if its worker can run the active revision and is neither cordoned nor leaving, and
// otherwise not ready. Only ready worker flows own slots. A worker flow whose worker is gone is removed. The states of a worker flow:
//
//	               join: it gets slots
//	┌───────────┐ ─────────────────────────────────▶ ┌───────┐
//	│ not ready │                                    │ ready │
//	└───────────┘ ◀───────────────────────────────── └───────┘
//	      │         leave: its slots go to others        │
//	      │                                              │
//	      └───▶ removed (removeGone): worker is gone ◀───┘
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

// join makes a worker flow ready. It gets, by hand-over, the slots for which its worker has a greater weight than their owner
// so far (table.go). If no other worker was ready, it gets all slots, and the rows that waited for a worker.
func (s *Scheduler) join(wf *workerFlow) {
	f, seat := wf.flow, wf.worker.seat
	wf.ready, f.loads[seat] = true, wf.unanswered
	s.sendWholeSoon(f)
	if !wf.queue.empty() {
		s.sendQueuedSoon(wf)
	}
	if f.table == nil {
		s.placement.setTable(f, s.placement.tableOfOne(seat))
		if !f.waiting.empty() {
			s.enter(f, &waitedRows{f.waiting.take()})
		}
		return
	}
	s.spend(costTable)
	old, change := f.table, s.placement.changeOf(f.table, seat)
	s.placement.setTable(f, change.to)
	losers := make([]*workerFlow, len(change.losers))
	for i, loser := range change.losers {
		losers[i] = f.workerFlows[loser]
	}
	s.beginHandOver(f, old, &change.slots, losers...)
}

// leave takes all slots from a worker flow, which is not ready any more. Each slot goes to the ready worker with the greatest
// weight for it; if no worker is ready, no slot has an owner. leave returns the slots that moved.
func (s *Scheduler) leave(wf *workerFlow) *slotSet {
	f, seat := wf.flow, wf.worker.seat
	s.spend(costTable)
	wf.ready, f.loads[seat] = false, notReady
	if f.table.count == 1 {
		pointNobody.Hit()
		s.placement.setTable(f, nil)
		f.waitingSince = s.now
		return &allSlots
	}
	change := s.placement.changeOf(f.table, seat)
	s.placement.setTable(f, change.to)
	return &change.slots
}

// step handles WorkerGone: it forgets the worker, if it is known. The worker's rows and slots go to others, as pending work of
// each flow.
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

// removeGone takes a worker flow out of its flow after its worker is gone. The rows that the worker was sent are routed
// again first, in the order in which they were sent; the rows that were queued for it follow.
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

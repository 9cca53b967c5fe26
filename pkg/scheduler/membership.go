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
	s.sit(w)
}

func (e WorkerDisconnected) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected, w.resuming = false, false
	for _, l := range w.links {
		l.rows, l.bytes = 0, 0
		s.pumpWholeSoon(l.flow) // others need not leave it to this one
	}
}

func (e WorkerResumed) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected, w.resume = true, e.PartsReceived+1
	if !w.resuming {
		w.resuming = true
		s.resuming = append(s.resuming, w)
	}
}

func (e Credited) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || !w.connected {
		return
	}
	l := s.link(s.flow(e.Flow), w)
	l.rows += e.Rows
	l.bytes += e.Bytes
	s.pump(l)
	s.pumpWhole(l.flow)
}

func (e WorkerReady) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	f := s.flow(e.Flow)
	if r := e.revision(); r == f.revision {
		l := s.link(f, w)
		l.acknowledged = r
		s.move(l)
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
		for l := range f.each {
			l.mixed = !l.queue.empty() || l.isCrowded()
		}
	}
	for _, id := range e.Ready {
		if w := s.workers[id]; w != nil {
			l := s.link(f, w)
			l.acknowledged = f.revision
		}
	}
	// First those that come, so that rows of those that go find somebody.
	for l := range f.each {
		if l.mayServe() {
			s.move(l)
		}
	}
	for l := range f.each {
		s.move(l)
	}
	s.pumpWholeSoon(f)
}

func (e WorkerDraining) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || w.draining {
		return
	}
	w.draining = true
	for _, l := range w.links {
		s.move(l)
		s.pumpWholeSoon(l.flow)
	}
}

// mayServe reports whether the link's worker may own slots of its flow.
func (l *link) mayServe() bool {
	return !l.flow.revision.IsZero() && l.acknowledged == l.flow.revision && !l.isLeaving()
}

// place makes a link ready, or not, as its worker's state asks for.
func (s *Scheduler) place(l *link) {
	if l.worker.gone {
		s.bury(l)
		return
	}
	if l.isLeaving() && l.staying > 0 {
		s.giveUp(l)
	}
	switch {
	case l.mayServe() && !l.ready:
		s.join(l)
	case !l.mayServe() && l.ready:
		s.handOver(l.flow, nil, s.leave(l), l)
		s.returned(l)
		s.pumpWholeSoon(l.flow)
	}
}

// join gives a link the slots for which it weighs most.
func (s *Scheduler) join(l *link) {
	f, seat := l.flow, l.worker.seat
	l.ready, f.loads[seat] = true, l.unanswered
	s.pumpWholeSoon(f)
	if !l.queue.empty() {
		s.pumpSoon(l)
	}
	if f.table == nil {
		s.adopt(f, s.alone(seat))
		if !f.waiting.empty() { // for somebody to be ready
			s.enter(f, &queued{f.waiting.take()})
		}
		return
	}
	s.spend(costTable)
	old, moves := f.table, s.shift(f.table, seat)
	s.adopt(f, moves.to)
	losers := make([]*link, len(moves.losers))
	for i, loser := range moves.losers {
		losers[i] = f.links[loser]
	}
	s.handOver(f, old, &moves.slots, losers...)
}

// leave takes a link's slots from it and gives each to the link that weighs most of those left. It returns the slots.
func (s *Scheduler) leave(l *link) *slotSet {
	f, seat := l.flow, l.worker.seat
	s.spend(costTable)
	l.ready, f.loads[seat] = false, notReady
	if f.table.count == 1 {
		s.adopt(f, nil)
		f.since = s.now
		return &allSlots
	}
	moves := s.shift(f.table, seat)
	s.adopt(f, moves.to)
	return &moves.slots
}

// allSlots is never written to.
var allSlots = func() (all slotSet) {
	for i := range all {
		all[i] = ^uint64(0)
	}
	return all
}()

func (e WorkerGone) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	delete(s.workers, e.Worker)
	w.gone, w.died, w.alone = true, e.Died, w.ranAlone()
	w.connected, w.resuming = false, false
	if w.unburied = len(w.links); w.unburied == 0 {
		s.stand(w)
	}
	for _, l := range w.links {
		s.move(l)
		s.pumpWholeSoon(l.flow)
	}
}

// bury takes a link out of its flow whose worker is gone. What it had goes on in the order in which it was sent, then what
// waited for it.
func (s *Scheduler) bury(l *link) {
	f, w := l.flow, l.worker
	s.spend(costSlot)
	if l.ready {
		s.leave(l)
	}
	f.links[w.seat] = nil
	s.round++
	s.requeue(l, s.round, false)
	s.enter(f, &residue{l, blame{died: w.died, alone: w.alone}})
	if w.unburied--; w.unburied == 0 {
		s.stand(w)
	}
}

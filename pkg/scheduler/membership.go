package scheduler

import (
	"cmp"
	"math"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func (e WorkerConnected) step(s *Scheduler) {
	WorkerGone{Worker: e.Worker}.step(s) // what it had before is lost
	w := &worker{
		id: e.Worker, name: e.Name, hash: hashName(e.Name), connected: true,
		partRows: cmp.Or(e.PartRows, math.MaxInt64), partBytes: cmp.Or(e.PartBytes, math.MaxInt64),
	}
	s.workers[e.Worker] = w
	s.sit(w)
}

func (e WorkerDisconnected) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected = false
	for _, l := range w.links {
		l.rows, l.bytes = 0, 0
		s.pumpWhole(l.flow) // others need not leave it to this one
	}
}

func (e WorkerResumed) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	w.connected = true
	for _, p := range slices.Clone(w.sent.parts) {
		if p != nil && p.Number > e.PartsReceived {
			s.sendAgain(p)
		}
	}
	for _, l := range w.links {
		s.askAgain(l)
		s.release(l.flow)
		s.pumpWhole(l.flow)
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
		s.place(l)
	}
}

func (e FlowSwitched) step(s *Scheduler) {
	f := s.flow(e.Flow)
	f.revision = e.revision()
	for _, id := range e.Ready {
		if w := s.workers[id]; w != nil {
			l := s.link(f, w)
			l.acknowledged = f.revision
		}
	}
	// First those that come, so that rows of those that go find somebody.
	for l := range f.each {
		if l.mayServe() {
			s.place(l)
		}
	}
	for l := range f.each {
		s.place(l)
	}
}

func (e WorkerDraining) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil || w.draining {
		return
	}
	w.draining = true
	for _, l := range w.links {
		s.giveUp(l)
		s.place(l)
		s.pumpWhole(l.flow)
	}
}

// mayServe reports whether the link's worker may own slots of its flow.
func (l *link) mayServe() bool {
	return !l.flow.revision.IsZero() && l.acknowledged == l.flow.revision && !l.worker.draining
}

// place makes a link ready, or not, as its worker's state asks for.
func (s *Scheduler) place(l *link) {
	switch {
	case l.mayServe() && !l.ready:
		s.join(l)
	case !l.mayServe() && l.ready:
		f := l.flow
		s.handOver(f, l, s.leave(l))
		s.pumpWhole(f)
	}
}

// join gives a link the slots for which it weighs most.
func (s *Scheduler) join(l *link) {
	f, seat := l.flow, l.worker.seat
	l.ready, f.loads[seat] = true, l.unanswered
	if f.table == nil {
		s.adopt(f, s.alone(seat))
		s.begin(f)
		return
	}
	moves := s.shift(f.table, seat)
	s.adopt(f, moves.to)
	for _, loser := range moves.losers {
		s.handOver(f, f.links[loser], &moves.slots)
	}
	s.pumpWhole(f)
}

// begin sends what waited for somebody to be ready.
func (s *Scheduler) begin(f *flow) {
	for _, g := range f.waiting.take() {
		if !g.batch.over {
			s.route(f, g)
		}
	}
	s.pumpWhole(f)
}

// leave takes a link's slots from it and gives each to the link that weighs most of those left. It returns the slots.
func (s *Scheduler) leave(l *link) *slotSet {
	f, seat := l.flow, l.worker.seat
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
	w.connected = false
	for _, l := range w.links {
		if l.ready {
			s.leave(l)
		}
		l.flow.links[w.seat] = nil
	}
	s.stand(w)
	// What it had goes on in the order in which it was sent, then what waited for it.
	whole := map[*flow][]segment{}
	blame := w.blame(e.Died)
	for _, p := range w.sent.parts {
		if p == nil || p.Batch.over {
			continue
		}
		for _, g := range blame(p) {
			f := p.link.flow
			if g.deaths > poison {
				s.fail(p.Batch, g.list(), batch.Dead, batch.CodePoison)
				continue
			}
			f.ledger.Redispatched += uint64(g.len())
			switch {
			case len(p.Batch.Keys) == 0:
				whole[f] = append(whole[f], g)
			default:
				s.route(f, g)
			}
		}
	}
	for _, l := range w.links {
		f := l.flow
		l.readmit(true)
		for _, g := range l.queue.take() {
			if !g.batch.over {
				s.route(f, g)
			}
		}
		for _, g := range slices.Backward(whole[f]) {
			s.starve(f)
			f.whole.putBack(g)
		}
		for slot, h := range f.held {
			if h.from == l {
				f.over = append(f.over, slot)
			}
		}
		s.release(f)
		s.pumpWhole(f)
	}
}

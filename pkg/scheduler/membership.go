package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func (e WorkerConnected) step(s *Scheduler) {
	WorkerGone{Worker: e.Worker}.step(s) // what it had before is lost
	s.workers[e.Worker] = &worker{id: e.Worker, name: e.Name, hash: hashName(e.Name), connected: true, byFlow: map[*flow]*link{}}
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
	l := s.link(s.flow(e.Flow), w)
	l.acknowledged = max(l.acknowledged, e.Revision)
	s.place(l)
}

func (e FlowSwitched) step(s *Scheduler) {
	f := s.flow(e.Flow)
	f.revision = e.Revision
	for _, id := range e.Ready {
		if w := s.workers[id]; w != nil {
			l := s.link(f, w)
			l.acknowledged = max(l.acknowledged, e.Revision)
		}
	}
	// First those that come, so that rows of those that go find somebody.
	for _, l := range f.links {
		if l.mayServe() {
			s.place(l)
		}
	}
	for _, l := range f.links {
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
	return l.flow.revision > 0 && l.acknowledged >= l.flow.revision && !l.worker.draining
}

// place makes a link ready, or not, as its worker's state asks for.
func (s *Scheduler) place(l *link) {
	switch {
	case l.mayServe() && l.index < 0:
		s.join(l)
	case !l.mayServe() && l.index >= 0:
		f := l.flow
		s.handOver(f, l, s.leave(l))
		s.pumpWhole(f)
	}
}

// join gives a link the slots for which it weighs most.
func (s *Scheduler) join(l *link) {
	f := l.flow
	l.index = len(f.ready)
	f.ready, f.loads = append(f.ready, l), append(f.loads, l.unanswered)
	if l.index == 0 {
		f.owner = new([Slots]uint16)
		for _, g := range f.waiting.take() {
			if !g.batch.over {
				s.route(f, g)
			}
		}
		s.pumpWhole(f)
		return
	}
	moved, losers := new(slotSet), make([]bool, l.index)
	for slot := range uint32(Slots) {
		o := f.owner[slot]
		if l.beats(f.ready[o], uint16(slot)) {
			moved.add(uint16(slot))
			losers[o] = true
			f.owner[slot] = uint16(l.index)
		}
	}
	for o, lost := range losers {
		if lost {
			s.handOver(f, f.ready[o], moved)
		}
	}
	s.pumpWhole(f)
}

// leave takes a link's slots from it and gives each to the link that weighs most of those left. It returns the slots.
func (s *Scheduler) leave(l *link) *slotSet {
	f := l.flow
	gone, last := uint16(l.index), uint16(len(f.ready)-1)
	f.ready[gone], f.loads[gone] = f.ready[last], f.loads[last]
	f.ready[gone].index = int(gone)
	f.ready[last] = nil
	f.ready, f.loads = f.ready[:last], f.loads[:last]
	l.index = -1
	moved := new(slotSet)
	if last == 0 {
		f.owner = nil
		f.since = s.now
		for i := range moved {
			moved[i] = ^uint64(0)
		}
		return moved
	}
	for slot := range uint32(Slots) {
		switch f.owner[slot] {
		case gone:
			best := f.ready[0]
			for _, m := range f.ready[1:] {
				if m.beats(best, uint16(slot)) {
					best = m
				}
			}
			f.owner[slot] = uint16(best.index)
			moved.add(uint16(slot))
		case last:
			f.owner[slot] = gone
		}
	}
	return moved
}

func (e WorkerGone) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	delete(s.workers, e.Worker)
	w.connected = false
	for _, l := range w.links {
		if l.index >= 0 {
			s.leave(l)
		}
		f := l.flow
		f.links = slices.DeleteFunc(f.links, func(m *link) bool { return m == l })
	}
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

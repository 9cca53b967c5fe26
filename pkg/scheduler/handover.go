package scheduler

import (
	"container/heap"
	"math/bits"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// move is a hand-over under way: slots, whose owner has changed already, move away from living workers. Slots of which these
// have no unanswered rows go at once, with what is queued; the others are held. Of slots of which a worker has rows on an earlier
// revision it keeps all that it has, queued ones too: who comes next may not be able to run them.
type handOver struct {
	slots    *slotSet
	oldTable *table // before; nil where losers are one workerFlow
	losers   []*workerFlow
	number   uint64
	asked    map[*workerFlow][]uint16
	nextWord int // the word of slots to look at
}

// handOver begins a hand-over.
func (s *Scheduler) beginHandOver(f *flow, owner *table, slots *slotSet, losers ...*workerFlow) {
	losers = slices.DeleteFunc(losers, func(wf *workerFlow) bool {
		return wf.first == nil && wf.queue.empty() && !wf.hasAside() && wf.requeuing == 0
	})
	if len(losers) == 0 {
		return
	}
	s.handOvers++
	f.handOver = &handOver{slots: slots, oldTable: owner, losers: losers, number: s.handOvers, asked: map[*workerFlow][]uint16{}}
	s.wake(f)
	s.continueHandOver(f)
}

// handOverSome goes on with the flow's hand-over: it holds slots, then asks for their rows, and routes anew what is queued.
func (s *Scheduler) continueHandOver(f *flow) {
	m := f.handOver
	for f.unanswered > 0 && m.nextWord < len(m.slots) {
		if s.budget <= 0 {
			return
		}
		counts := s.countsOf(f)
		s.spend(1)
		for word := m.slots[m.nextWord]; word != 0; word &= word - 1 {
			slot := uint16(m.nextWord*64 + bits.TrailingZeros64(word))
			if counts.open[slot] == 0 || f.held.slots[slot] != nil {
				continue
			}
			from := m.losers[0]
			if m.oldTable != nil {
				from = f.workerFlows[m.oldTable.owner[slot]]
			}
			stays := !from.isLeaving() && (from.mayMixRevisions || counts.otherRevision != nil && counts.otherRevision[slot] > 0)
			h := s.hold(f, slot, from, int(counts.open[slot]), stays)
			h.handOver = m.number
			switch {
			case !stays:
				m.asked[from] = append(m.asked[from], slot)
			case from.requeuing > 0 || !from.queue.empty() || from.hasAside():
				h.open++
				from.guardedSlots = append(from.guardedSlots, slot)
			}
		}
		m.nextWord++
	}
	f.handOver = nil
	for _, wf := range m.losers {
		s.askForRows(wf, m.asked[wf])
		s.requeue(wf, m.number, wf.mayMixRevisions && !wf.isLeaving())
	}
}

// hold makes newer rows of a slot wait until open rows of it are answered.
func (s *Scheduler) hold(f *flow, slot uint16, from *workerFlow, open int, stays bool) *heldSlot {
	s.spend(costSlot)
	h := &heldSlot{oldOwner: from, open: open, keepsRows: stays, countsQueued: stays, until: s.now.Add(s.config.HandOver), handOver: s.handOvers}
	f.held.add(slot, h)
	from.handingOver++
	if stays {
		from.keeping++
	}
	return h
}

// giveUp has a worker that keeps nothing any more hand over the slots of which it had kept its rows.
func (s *Scheduler) handOverKept(wf *workerFlow) {
	var asked []uint16
	for slot, h := range wf.flow.held.slots {
		if h.oldOwner == wf && h.keepsRows {
			h.keepsRows, h.until = false, s.now.Add(s.config.HandOver)
			asked = append(asked, slot)
		}
	}
	wf.keeping = 0
	s.spend(costSlot * len(wf.flow.held.slots))
	s.askForRows(wf, asked)
	s.handOvers++
	s.requeue(wf, s.handOvers, false)
}

// unqueued counts rows of held slots as the workerFlow's no more: they left its queue without being sent.
func (s *Scheduler) noteUnqueued(wf *workerFlow, g *segment) {
	if wf.keeping == 0 {
		return
	}
	for _, r := range g.list() {
		slot := g.batch.slot(r)
		if h := wf.flow.held.slots[slot]; h != nil && h.oldOwner == wf && h.countsQueued {
			wf.flow.held.countOne(slot)
		}
	}
	if len(wf.flow.held.handedOver) > 0 {
		s.wake(wf.flow)
	}
}

// ask asks a worker for rows of slots. One that is not connected is asked when it is again.
func (s *Scheduler) askForRows(wf *workerFlow, slots []uint16) {
	if len(slots) > 0 && wf.worker.connected {
		s.act(Release{Worker: wf.worker.id, Flow: wf.flow.name, Slots: ranges(slots)})
	}
}

// askAgain asks for what a worker still has of the slots that it hands over: the session before may not have told it.
func (s *Scheduler) askAgainForRows(wf *workerFlow) {
	if wf.handingOver == 0 {
		return
	}
	s.spend(costSlot * len(wf.flow.held.slots))
	var slots []uint16
	for slot, h := range wf.flow.held.slots {
		if h.oldOwner == wf && h.open > 0 && !h.keepsRows {
			slots = append(slots, slot)
		}
	}
	s.askForRows(wf, slots)
}

// unasked holds slots of which a worker hands back rows of its own accord, as one does that is about to drain: newer rows must
// wait until they and the others that it has of these slots are back. It gets no rows of the flow before all of its own are.
func (s *Scheduler) holdReturned(p *Part, returned []batch.Range) {
	f := p.workerFlow.flow
	var asked []uint16
	p.each(returned, func(i uint32) {
		if slot := p.Batch.slot(p.Row(i)); p.isOpen(i) && f.held.slots[slot] == nil {
			s.hold(f, slot, p.workerFlow, int(s.countsOf(f).open[slot]), false)
			asked = append(asked, slot)
		}
	})
	if asked != nil {
		s.askForRows(p.workerFlow, asked)
		p.workerFlow.returning = true
		s.updateMembershipSoon(p.workerFlow)
	}
}

// returned lets a workerFlow have rows again that gave its own back, once its slots are others'.
func (s *Scheduler) readmitWorker(wf *workerFlow) {
	if wf.returning && wf.unanswered == 0 && !wf.ready {
		wf.returning = false
		s.updateMembershipSoon(wf)
	}
}

// ranges packs slots.
func ranges(slots []uint16) []batch.Range {
	slices.Sort(slots)
	var packed []batch.Range
	for _, slot := range slots {
		if n := len(packed); n > 0 && packed[n-1].First+packed[n-1].Count == uint32(slot) {
			packed[n-1].Count++
		} else {
			packed = append(packed, batch.Range{First: uint32(slot), Count: 1})
		}
	}
	return packed
}

// release sends on what waited for slots that are handed over.
func (s *Scheduler) releaseHeld(f *flow) {
	var rows releasedRows
	for len(f.held.handedOver) > 0 && s.budget > 0 {
		if lists, ok := f.held.takeHandedOver(); ok {
			s.spend(costSlot + 2*len(lists))
			rows = append(rows, lists...)
		}
	}
	if len(rows) > 0 {
		heap.Init(&rows)
		s.enter(f, &rows)
	}
}

// isLate reports whether a slot is held for too long.
func (s *Scheduler) isLate(h *heldSlot) bool { return !h.keepsRows && !h.until.After(s.now) }

// expire looks for slots that were held for too long.
func (s *Scheduler) findExpired(f *flow) {
	s.spend(costSlot * len(f.held.slots))
	f.held.expiry = s.now.Add(s.config.HandOver)
	for _, h := range f.held.slots {
		switch wf := h.oldOwner; {
		case h.keepsRows:
		case !s.isLate(h):
			if h.until.Before(f.held.expiry) {
				f.held.expiry = h.until
			}
		default:
			wf.nextExpiring = wf.first
		}
	}
	f.expiring = f.expiring[:0]
	for wf := range f.each {
		if wf.nextExpiring != nil {
			f.expiring = append(f.expiring, wf)
		}
	}
}

// expireSome takes rows of slots that were held for too long from their old owners.
func (s *Scheduler) takeBackExpired(f *flow) {
	wf := f.expiring[0]
	for p := wf.nextExpiring; p != nil && wf.handingOver > 0 && !wf.worker.gone; p = wf.nextExpiring {
		if s.budget <= 0 {
			return
		}
		s.spend(costSegment + p.Len())
		wf.nextExpiring = p.next
		if len(p.Batch.Keys) > 0 {
			p.takeAway(s.isLate)
			if p.open == 0 {
				p.drop()
			}
		}
	}
	wf.nextExpiring = nil
	f.expiring = f.expiring[1:]
	s.readmitWorker(wf)
	if wf.hasAside() {
		s.sendQueuedSoon(wf)
	}
}

// takeAway puts the part's rows of held slots that which picks among those that wait for these slots.
func (p *Part) takeAway(which func(*heldSlot) bool) {
	if p.workerFlow.handingOver == 0 {
		return
	}
	f := p.workerFlow.flow
	p.eachOpen(func(i uint32) {
		h := f.held.slots[p.Batch.slot(p.Row(i))]
		if h == nil || h.oldOwner != p.workerFlow || !which(h) {
			return
		}
		h.keep(&f.held, heldRow{p.Batch, p.Row(i), p.Deaths})
		p.moved = true
		p.close(i)
	})
}

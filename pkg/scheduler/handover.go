package scheduler

import (
	"container/heap"
	"math/bits"
	"slices"

	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// handOver is a hand-over that has begun: some slots have new owners, and the old owners are alive and may have rows of
// these slots. It looks at each of the slots once:
//
//   - A slot of which the old owner has no unanswered rows changes hands at once, with its queued rows.
//   - Any other slot is held (held.go): the old owner is asked to give back its rows of the slot, and newer rows wait.
//   - A slot of which the old owner has rows of an earlier revision is held, too, but the old owner keeps all its rows of
//     the slot, queued ones included. The new owner may not be able to run that revision.
//
// The states of a slot that moves from worker A to worker B:
//
//	owned by A ─── A has no unanswered row of the slot ────────────────────────────▶ owned by B
//	    │                                                                                ▲
//	    │ hold                                                                           │ releaseHeld: the
//	    ▼                                                                                │ waiting rows go to B
//	held: newer rows wait ─── A has no row of the slot any more, or ───────────────▶ handed over
//	    ▲                     Config.HandOver passed: A's rows join the waiting ones     │
//	    └──────── A was allowed to keep its rows of the slot, and got another one ───────┘
type handOver struct {
	slots    *slotSet                 // the slots that move
	oldTable *table                   // who owned the slots before; may be nil where there is only one loser
	losers   []*workerFlow            // worker flows that lose slots and have rows
	number   uint64                   // number of this hand-over
	asked    map[*workerFlow][]uint16 // by worker flow, the slots of which it is asked to give rows back
	nextWord int                      // index of the word of slots to look at next
}

// beginHandOver begins a hand-over of slots away from the losers. oldTable says who owned the slots before; it may be nil
// where there is one loser. Losers without rows are left out; if no loser has any, there is nothing to hand over.
func (s *Scheduler) beginHandOver(f *flow, oldTable *table, slots *slotSet, losers ...*workerFlow) {
	losers = slices.DeleteFunc(losers, func(wf *workerFlow) bool {
		return wf.first == nil && wf.queue.empty() && !wf.hasAside() && wf.requeuing == 0
	})
	if len(losers) == 0 {
		return
	}
	pointHandOver.Hit()
	s.handOvers++
	f.handOver = &handOver{slots: slots, oldTable: oldTable, losers: losers, number: s.handOvers, asked: map[*workerFlow][]uint16{}}
	s.wake(f)
	s.continueHandOver(f)
}

// continueHandOver goes on with the flow's hand-over as far as the budget goes. It holds slots; after the last one it asks
// the old owners for their rows, and routes queued rows anew.
func (s *Scheduler) continueHandOver(f *flow) {
	ho := f.handOver
	for f.unanswered > 0 && ho.nextWord < len(ho.slots) {
		if s.budget <= 0 {
			return
		}
		counts := s.countsOf(f)
		s.spend(1)
		// Each bit that is set is a slot that moves.
		for word := ho.slots[ho.nextWord]; word != 0; word &= word - 1 {
			slot := uint16(ho.nextWord*64 + bits.TrailingZeros64(word))
			if counts.open[slot] == 0 || f.held.slots[slot] != nil {
				continue
			}
			// The old owner has unanswered rows of the slot, so the slot is held.
			from := ho.losers[0]
			if ho.oldTable != nil {
				from = f.workerFlows[ho.oldTable.owner[slot]]
			}
			keeps := !from.isLeaving() && (from.mayMixRevisions || counts.otherRevision != nil && counts.otherRevision[slot] > 0)
			h := s.hold(f, slot, from, int(counts.open[slot]), keeps)
			h.handOver = ho.number
			switch {
			case !keeps: // ask for the rows, after the last slot
				ho.asked[from] = append(ho.asked[from], slot)
			case from.requeuing > 0 || !from.queue.empty() || from.hasAside(): // the slot stays held until all queued rows were routed anew
				h.open++ // until releaseGuarded
				from.guardedSlots = append(from.guardedSlots, slot)
			}
		}
		ho.nextWord++
	}
	// All slots are held that have to be.
	f.handOver = nil
	for _, wf := range ho.losers {
		s.askForRows(wf, ho.asked[wf])
		s.requeue(wf, ho.number, wf.mayMixRevisions && !wf.isLeaving())
	}
}

// hold holds a slot that has a new owner. Newer rows of the slot wait until its old owner, from, has answered or lost as
// many rows of it as open says. keeps says that from keeps its rows of the slot, queued ones included.
func (s *Scheduler) hold(f *flow, slot uint16, from *workerFlow, open int, keeps bool) *heldSlot {
	s.spend(costSlot)
	h := &heldSlot{oldOwner: from, open: open, keepsRows: keeps, countsQueued: keeps, until: s.now.Add(s.config.HandOver), handOver: s.handOvers}
	f.held.add(slot, h)
	from.handingOver++
	if keeps {
		pointKept.Hit()
		from.keeping++
	}
	return h
}

// handOverKept is called when a worker drains, or gives back rows without having been asked, and was allowed to keep its rows
// of slots which others own by now. It asks the worker to give back those that have not begun, and routes queued rows anew.
func (s *Scheduler) handOverKept(wf *workerFlow) {
	pointKeptRecalled.Hit()
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

// noteUnqueued is called for a segment that leaves a worker flow's queue without being sent, because its batch is over. A held
// slot whose old owner keeps its rows counts queued rows as open, so these are counted down.
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

// askForRows asks a worker, with the action Release, to give back its rows of slots. It sorts slots. A worker that is not
// connected is asked when it resumes its session; no slots means no request.
func (s *Scheduler) askForRows(wf *workerFlow, slots []uint16) {
	if len(slots) > 0 && wf.worker.connected {
		pointRecalled.Hit()
		slices.Sort(slots)
		s.act(Release{Worker: wf.worker.id, Flow: wf.flow.name, Slots: ranges.Of(slots)})
	}
}

// askAgainForRows asks a worker again for its rows of all slots that it hands over. The request may have been lost with the
// session before.
func (s *Scheduler) askAgainForRows(wf *workerFlow) {
	if wf.handingOver == 0 {
		return
	}
	pointAskedAgain.Hit()
	s.spend(costSlot * len(wf.flow.held.slots))
	var slots []uint16
	for slot, h := range wf.flow.held.slots {
		if h.oldOwner == wf && h.open > 0 && !h.keepsRows {
			slots = append(slots, slot)
		}
	}
	s.askForRows(wf, slots)
}

// holdReturned holds the slots of rows that a worker gives back without having been asked, as it does just before it
// drains. Newer rows of these slots wait until all of the worker's rows of them are back. The worker gets no rows of the
// flow until then.
func (s *Scheduler) holdReturned(p *Part, returned []batch.Range) {
	f := p.workerFlow.flow
	var asked []uint16
	p.each(returned, func(i partRow) {
		if slot := p.Batch.slot(p.row(i)); p.isOpen(i) && f.held.slots[slot] == nil {
			s.hold(f, slot, p.workerFlow, int(s.countsOf(f).open[slot]), false)
			asked = append(asked, slot)
		}
	})
	if asked != nil {
		pointReturning.Hit()
		s.askForRows(p.workerFlow, asked)
		p.workerFlow.returning = true
		s.updateMembershipSoon(p.workerFlow)
	}
}

// readmitWorker lets a worker flow become ready again that gave back rows without having been asked, if it has no rows at the
// worker any more and owns no slots. Otherwise it does nothing.
func (s *Scheduler) readmitWorker(wf *workerFlow) {
	if wf.returning && wf.unanswered == 0 && !wf.ready {
		pointReadmitted.Hit()
		wf.returning = false
		s.updateMembershipSoon(wf)
	}
}

// releaseHeld lets go the held slots whose old owner has no rows of them any more, as far as the budget goes, and puts the
// rows that waited for them into the flow's inbox.
func (s *Scheduler) releaseHeld(f *flow) {
	var rows releasedRows
	for len(f.held.handedOver) > 0 && s.budget > 0 {
		if lists, ok := f.held.takeHandedOver(); ok {
			s.spend(costSlot + 2*len(lists))
			rows = append(rows, lists...)
		}
	}
	if len(rows) > 0 {
		pointReleased.Hit()
		heap.Init(&rows)
		s.enter(f, &rows)
	}
}

// isLate reports whether a slot has been held for Config.HandOver or longer and its old owner may not keep its rows.
func (s *Scheduler) isLate(h *heldSlot) bool { return !h.keepsRows && !h.until.After(s.now) }

// findExpired looks for held slots that are late (isLate), and lists in f.expiring the worker flows that may still have rows
// of them. It notes when it has to look again.
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
			pointExpired.Hit()
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

// takeBackExpired takes rows of slots that have been held for too long away from their old owner. It handles the first worker
// flow that findExpired listed, as far as the budget goes.
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

// takeAway takes the part's open rows of held slots away from the worker, if the worker is the slot's old owner and which
// returns true for the slot. They join the rows that wait for the slot.
func (p *Part) takeAway(which func(*heldSlot) bool) {
	if p.workerFlow.handingOver == 0 {
		return
	}
	f := p.workerFlow.flow
	p.eachOpen(func(i partRow) {
		h := f.held.slots[p.Batch.slot(p.row(i))]
		if h == nil || h.oldOwner != p.workerFlow || !which(h) {
			return
		}
		h.keep(&f.held, heldRow{p.Batch, p.row(i), p.Deaths})
		p.moved = true
		p.close(i)
	})
}

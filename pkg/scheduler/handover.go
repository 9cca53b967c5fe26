package scheduler

import (
	"container/heap"
	"math/bits"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// heldSlot is a slot that has a new owner while a worker still has rows of it: newer rows wait here.
type heldSlot struct {
	oldOwner  *workerFlow
	open      int         // rows that are not answered
	lists     [][]heldRow // that wait, each run in order
	keepsRows bool        // from goes on with what it has, queued rows included
	until     time.Time   // then rows go to the new owner in any case, unless it stays
	// counts: it stayed from the beginning, so that open counts queued rows, too. Those that stood in a queue that is being
	// routed anew are counted as they come back there, if that began with round, or before; else they have been all the time.
	countsQueued bool
	handOver     uint64 // of the hand-over that made it
}

type heldRow struct {
	batch  *Batch
	row    uint32
	deaths uint32
}

func (r *heldRow) before(o *heldRow) bool {
	return r.batch.arrival < o.batch.arrival || r.batch == o.batch && r.row < o.row
}

// runLength bounds a run of held rows, so that none grows by being copied as a whole.
const listLength = 4096

// keep makes a row wait.
func (h *heldSlot) keep(f *flow, r heldRow) {
	f.heldCount++
	if n := len(h.lists); n > 0 {
		if run := h.lists[n-1]; len(run) < listLength && run[len(run)-1].before(&r) {
			h.lists[n-1] = append(run, r)
			return
		}
	}
	h.lists = append(h.lists, []heldRow{r})
}

// slotSet is a set of slots.
type slotSet [keyslot.Count / 64]uint64

func (s *slotSet) add(slot uint16) { s[slot/64] |= 1 << (slot % 64) }

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
			if counts.open[slot] == 0 || f.held[slot] != nil {
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
	if f.held == nil {
		f.held = map[uint16]*heldSlot{}
	}
	h := &heldSlot{oldOwner: from, open: open, keepsRows: stays, countsQueued: stays, until: s.now.Add(s.config.HandOver), handOver: s.handOvers}
	if len(f.held) == 0 {
		f.expiry = h.until
	}
	f.held[slot] = h
	from.handingOver++
	if stays {
		from.keeping++
	}
	return h
}

// giveUp has a worker that keeps nothing any more hand over the slots of which it had kept its rows.
func (s *Scheduler) handOverKept(wf *workerFlow) {
	var asked []uint16
	for slot, h := range wf.flow.held {
		if h.oldOwner == wf && h.keepsRows {
			h.keepsRows, h.until = false, s.now.Add(s.config.HandOver)
			asked = append(asked, slot)
		}
	}
	wf.keeping = 0
	s.spend(costSlot * len(wf.flow.held))
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
		if h := wf.flow.held[slot]; h != nil && h.oldOwner == wf && h.countsQueued {
			wf.flow.countHandedOver(slot)
		}
	}
	if len(wf.flow.handedOverSlots) > 0 {
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
func (s *Scheduler) askForRowsAgain(wf *workerFlow) {
	if wf.handingOver == 0 {
		return
	}
	s.spend(costSlot * len(wf.flow.held))
	var slots []uint16
	for slot, h := range wf.flow.held {
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
		if slot := p.Batch.slot(p.Row(i)); p.isOpen(i) && f.held[slot] == nil {
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

// holdBack keeps the segment's rows of held slots, and returns the others.
func (f *flow) holdBack(g segment) segment {
	b := g.batch
	first := -1
	rows := g.rows
	n := g.len()
	at := func(i int) uint32 {
		if rows == nil {
			return uint32(i)
		}
		return rows[i]
	}
	for i := range n {
		if f.held[b.slot(at(i))] != nil {
			first = i
			break
		}
	}
	if first < 0 {
		return g
	}
	rest := make([]uint32, first, n)
	for i := range first {
		rest[i] = at(i)
	}
	for i := first; i < n; i++ {
		r := at(i)
		if h := f.held[b.slot(r)]; h != nil {
			h.keep(f, heldRow{b, r, g.deaths})
		} else {
			rest = append(rest, r)
		}
	}
	g.rows = rest
	return g
}

// handedOver counts a row of a slot as answered; the slot may be held.
func (f *flow) countHandedOver(slot uint16) {
	if h := f.held[slot]; h != nil {
		if h.open--; h.open == 0 {
			f.handedOverSlots = append(f.handedOverSlots, slot)
		}
	}
}

// release sends on what waited for slots that are handed over.
func (s *Scheduler) releaseHeld(f *flow) {
	var rows releasedRows
	for len(f.handedOverSlots) > 0 && s.budget > 0 {
		slot := f.handedOverSlots[len(f.handedOverSlots)-1]
		f.handedOverSlots = f.handedOverSlots[:len(f.handedOverSlots)-1]
		h := f.held[slot]
		if h == nil || h.open > 0 {
			continue // it has rows again that stay
		}
		s.spend(costSlot + 2*len(h.lists))
		h.ended()
		for _, run := range h.lists {
			f.heldCount -= len(run)
		}
		rows = append(rows, h.lists...)
		delete(f.held, slot)
	}
	if len(f.held) == 0 {
		f.held = nil
	}
	if len(rows) > 0 {
		heap.Init(&rows)
		s.enter(f, &rows)
	}
}

// end makes the slot one less that its old owner hands over.
func (h *heldSlot) ended() {
	h.oldOwner.handingOver--
	if h.keepsRows {
		h.oldOwner.keeping--
	}
}

// merge is a source of rows that waited for their slots: a heap of runs, the one that begins with the oldest row on top. Each
// slot's rows go in the order in which they came; so all may.
type releasedRows [][]heldRow

func (m *releasedRows) next(s *Scheduler, f *flow) bool {
	if len(*m) == 0 {
		return false
	}
	first := (*m)[0][0]
	g := segment{batch: first.batch, deaths: first.deaths}
	for len(*m) > 0 {
		top := (*m)[0]
		r := &top[0]
		if r.batch != g.batch || r.deaths != g.deaths {
			break
		}
		g.rows = append(g.rows, r.row)
		if (*m)[0] = top[1:]; len(top) == 1 {
			heap.Pop(m)
		} else if !r.before(&top[1]) || len(*m) > 1 {
			heap.Fix(m, 0)
		}
	}
	s.spend(costSlot * len(g.rows))
	s.route(f, g)
	return true
}

func (m *releasedRows) each(yield func(segment)) {
	for _, run := range *m {
		for _, r := range run {
			yield(segment{batch: r.batch, rows: []uint32{r.row}, deaths: r.deaths})
		}
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (m releasedRows) Len() int           { return len(m) }
func (m releasedRows) Less(i, j int) bool { return m[i][0].before(&m[j][0]) }
func (m releasedRows) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *releasedRows) Push(x any)        { *m = append(*m, x.([]heldRow)) }

func (m *releasedRows) Pop() any {
	last := len(*m) - 1
	run := (*m)[last]
	(*m)[last] = nil
	*m = (*m)[:last]
	return run
}

// isLate reports whether a slot is held for too long.
func (s *Scheduler) isLate(h *heldSlot) bool { return !h.keepsRows && !h.until.After(s.now) }

// expire looks for slots that were held for too long.
func (s *Scheduler) findExpired(f *flow) {
	s.spend(costSlot * len(f.held))
	f.expiry = s.now.Add(s.config.HandOver)
	for _, h := range f.held {
		switch wf := h.oldOwner; {
		case h.keepsRows:
		case !s.isLate(h):
			if h.until.Before(f.expiry) {
				f.expiry = h.until
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
		h := f.held[p.Batch.slot(p.Row(i))]
		if h == nil || h.oldOwner != p.workerFlow || !which(h) {
			return
		}
		h.keep(f, heldRow{p.Batch, p.Row(i), p.Deaths})
		p.moved = true
		p.close(i)
	})
}

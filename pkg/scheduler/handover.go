package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// heldSlot is a slot that has a new owner while the old one still has rows of it: newer rows wait here.
type heldSlot struct {
	from  *link
	open  int // rows that from has not answered
	rows  []heldRow
	stays bool      // from goes on with what it has, queued rows included, which open then counts too
	until time.Time // then rows go to the new owner in any case, unless it stays
	round uint64    // the hand-over that made it
}

type heldRow struct {
	batch  *Batch
	row    uint32
	deaths uint32
}

// slotSet is a set of slots.
type slotSet [Slots / 64]uint64

func (s *slotSet) has(slot uint16) bool { return s[slot/64]&(1<<(slot%64)) != 0 }
func (s *slotSet) add(slot uint16)      { s[slot/64] |= 1 << (slot % 64) }

// handOver moves slots, whose owner has changed already, away from a living worker. Slots of which it has no unanswered rows
// go at once, with what is queued; the others are held. Of slots of which it has rows on an earlier revision it keeps all that
// it has, queued ones too: who comes next may not be able to run them.
func (s *Scheduler) handOver(f *flow, from *link, moved *slotSet) {
	if from.first == nil && from.queue.empty() && !from.isCrowded() {
		return
	}
	s.round++
	s.dropOver(from)
	keeps := from.keeps(moved)
	var asked []uint16
	hold := func(slot uint16) {
		h := f.held[slot]
		if h == nil {
			h = &heldSlot{from: from, stays: keeps != nil && keeps.has(slot), until: s.now.Add(s.config.HandOver), round: s.round}
			f.held[slot] = h
			from.handing++
			if !h.stays {
				asked = append(asked, slot)
			}
		}
		if h.round == s.round {
			h.open++
		}
	}
	for p := from.first; p != nil; p = p.next {
		if len(p.Batch.Keys) == 0 {
			continue
		}
		p.eachOpen(func(i uint32) {
			if slot := p.Batch.slot(p.Row(i)); moved.has(slot) {
				hold(slot)
			}
		})
	}
	s.ask(from, asked)
	for _, g := range from.queue.take() {
		var stay, move []uint32
		for _, r := range g.list() {
			slot := g.batch.slot(r)
			h := f.held[slot]
			switch {
			case !moved.has(slot):
				stay = append(stay, r)
			case keeps != nil && keeps.has(slot), h != nil && h.from == from && h.stays:
				hold(slot)
				stay = append(stay, r)
			default:
				move = append(move, r)
			}
		}
		if len(stay) > 0 {
			from.queue.push(segment{batch: g.batch, rows: stay, deaths: g.deaths})
		}
		if len(move) > 0 {
			s.route(f, segment{batch: g.batch, rows: move, deaths: g.deaths})
		}
	}
	s.pump(from)
}

// keeps is those of the slots of which the link has rows on an earlier revision, nil for none, or where its worker drains.
func (l *link) keeps(moved *slotSet) (keeps *slotSet) {
	if l.worker.draining {
		return nil
	}
	note := func(b *Batch, row uint32) {
		if slot := b.slot(row); moved.has(slot) {
			if keeps == nil {
				keeps = new(slotSet)
			}
			keeps.add(slot)
		}
	}
	earlier := func(b *Batch) bool { return len(b.Keys) > 0 && b.revision() != l.flow.revision }
	for p := l.first; p != nil; p = p.next {
		if earlier(p.Batch) {
			p.eachOpen(func(i uint32) { note(p.Batch, p.Row(i)) })
		}
	}
	for i := l.queue.head; i < len(l.queue.segments); i++ {
		if g := &l.queue.segments[i]; earlier(g.batch) {
			for _, r := range g.list() {
				note(g.batch, r)
			}
		}
	}
	return keeps
}

// giveUp has a worker that begins to drain hand over the slots of which it had kept its rows.
func (s *Scheduler) giveUp(l *link) {
	f := l.flow
	var asked []uint16
	for slot, h := range f.held {
		if h.from == l && h.stays {
			h.stays, h.until = false, s.now.Add(s.config.HandOver)
			asked = append(asked, slot)
		}
	}
	if len(asked) == 0 {
		return
	}
	s.ask(l, asked)
	l.readmit(true)
	for _, g := range l.queue.take() { // that it no longer owns, but for these slots
		s.unqueued(l, &g)
		if !g.batch.over {
			s.route(f, g)
		}
	}
	s.release(f)
}

// dropOver takes rows of batches that are over out of the link's queue.
func (s *Scheduler) dropOver(l *link) {
	l.readmit(true)
	l.queue.drop(func(g segment) bool {
		if g.batch.over {
			s.unqueued(l, &g)
		}
		return g.batch.over
	})
}

// unqueued counts rows of held slots as the link's no more: they left its queue without being sent.
func (s *Scheduler) unqueued(l *link, g *segment) {
	if l.handing == 0 {
		return
	}
	for _, r := range g.list() {
		l.handedOver(g.batch, r)
	}
	if len(l.flow.over) > 0 {
		s.freed = append(s.freed, l.flow)
	}
}

// ask asks a worker for rows of slots. One that is not connected is asked when it is again.
func (s *Scheduler) ask(l *link, slots []uint16) {
	if len(slots) > 0 && l.worker.connected {
		s.act(Release{Worker: l.worker.id, Flow: l.flow.name, Slots: ranges(slots)})
	}
}

// askAgain asks for what a worker still has of the slots that it hands over: the session before may not have told it.
func (s *Scheduler) askAgain(l *link) {
	if l.handing == 0 {
		return
	}
	var slots []uint16
	for slot, h := range l.flow.held {
		if h.from == l && h.open > 0 && !h.stays {
			slots = append(slots, slot)
		}
	}
	s.ask(l, slots)
}

// unasked makes a worker hand over the slots of which it hands back rows of its own accord, as one does that is about to
// drain: newer rows must wait until they and the others that it has of these slots are back.
func (s *Scheduler) unasked(p *Part, returned []batch.Range) {
	f := p.link.flow
	var moved *slotSet
	p.each(returned, func(i uint32) {
		if slot := p.Batch.slot(p.Row(i)); p.isOpen(i) && f.held[slot] == nil {
			if moved == nil {
				moved = new(slotSet)
			}
			moved.add(slot)
		}
	})
	if moved != nil {
		s.handOver(f, p.link, moved)
	}
}

// list is the segment's rows.
func (g *segment) list() []uint32 {
	if g.rows != nil {
		return g.rows
	}
	rows := make([]uint32, g.batch.Rows())
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
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
			h.rows = append(h.rows, heldRow{b, r, g.deaths})
		} else {
			rest = append(rest, r)
		}
	}
	g.rows = rest
	return g
}

// handedOver counts a row of a batch with keys as answered by the link that hands its slot over.
func (l *link) handedOver(b *Batch, row uint32) {
	slot := b.slot(row)
	h := l.flow.held[slot]
	if h == nil || h.from != l {
		return
	}
	if h.open--; h.open == 0 {
		l.flow.over = append(l.flow.over, slot)
	}
}

// release sends on what waited for slots whose old owner is done.
func (s *Scheduler) release(f *flow) {
	if len(f.over) == 0 {
		return
	}
	var rows []heldRow
	for _, slot := range f.over {
		h := f.held[slot]
		h.from.handing--
		rows = append(rows, h.rows...)
		delete(f.held, slot)
	}
	f.over = f.over[:0]
	// A slot's rows go in the order in which they came; so all may.
	slices.SortFunc(rows, func(a, b heldRow) int {
		return cmp.Or(cmp.Compare(a.batch.arrival, b.batch.arrival), cmp.Compare(a.row, b.row))
	})
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].batch == rows[0].batch && rows[n].deaths == rows[0].deaths {
			n++
		}
		g := segment{batch: rows[0].batch, rows: make([]uint32, n), deaths: rows[0].deaths}
		for i := range n {
			g.rows[i] = rows[i].row
		}
		rows = rows[n:]
		if !g.batch.over {
			s.route(f, g)
		}
	}
}

// expire takes the rows of slots that were held for too long from their old owners.
func (s *Scheduler) expire(f *flow) {
	late := func(h *heldSlot) bool { return !h.stays && !h.until.After(s.now) }
	found := false
	for _, h := range f.held {
		found = found || late(h)
	}
	if !found {
		return
	}
	for l := range f.each {
		if l.handing == 0 {
			continue
		}
		for p := l.first; p != nil; p = p.next {
			if len(p.Batch.Keys) == 0 {
				continue
			}
			p.takeAway(late)
			if p.open == 0 {
				p.drop()
			}
		}
	}
	s.release(f)
	for l := range f.each {
		if l.isCrowded() {
			s.pump(l)
		}
	}
}

// takeAway puts the part's rows of held slots that which picks among those that wait for these slots.
func (p *Part) takeAway(which func(*heldSlot) bool) {
	if p.link.handing == 0 {
		return
	}
	p.eachOpen(func(i uint32) {
		h := p.link.flow.held[p.Batch.slot(p.Row(i))]
		if h == nil || h.from != p.link || !which(h) {
			return
		}
		h.rows = append(h.rows, heldRow{p.Batch, p.Row(i), p.Deaths})
		p.moved = true
		p.close(i)
	})
}

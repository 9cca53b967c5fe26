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
	until time.Time // then rows go to the new owner in any case
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
// go at once, with what is queued; the others are held.
func (s *Scheduler) handOver(f *flow, from *link, moved *slotSet) {
	s.round++
	var asked []uint16
	for _, p := range from.worker.sent.parts {
		if p == nil || p.link != from || len(p.Batch.Keys) == 0 {
			continue
		}
		p.eachOpen(func(i uint32) {
			slot := p.Batch.slot(p.Row(i))
			if !moved.has(slot) {
				return
			}
			h := f.held[slot]
			if h == nil {
				h = &heldSlot{from: from, until: s.now.Add(s.config.HandOver), round: s.round}
				f.held[slot] = h
				from.handing++
				asked = append(asked, slot)
			}
			if h.round == s.round {
				h.open++
			}
		})
	}
	s.ask(from, asked)
	for _, g := range from.queue.take() {
		var stay, move []uint32
		for _, r := range g.list() {
			if moved.has(g.batch.slot(r)) {
				move = append(move, r)
			} else {
				stay = append(stay, r)
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
		if h.from == l && h.open > 0 {
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

// handedOver counts a row of the part as answered by the link that hands its slot over.
func (l *link) handedOver(p *Part) func(i uint32) {
	return func(i uint32) {
		if len(p.Batch.Keys) == 0 {
			return
		}
		slot := p.Batch.slot(p.Row(i))
		h := l.flow.held[slot]
		if h == nil || h.from != l {
			return
		}
		if h.open--; h.open == 0 {
			l.flow.over = append(l.flow.over, slot)
		}
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
	late := func(h *heldSlot) bool { return !h.until.After(s.now) }
	found := false
	for _, h := range f.held {
		found = found || late(h)
	}
	if !found {
		return
	}
	for _, l := range f.links {
		if l.handing == 0 {
			continue
		}
		for _, p := range slices.Clone(l.worker.sent.parts) {
			if p == nil || p.link != l || len(p.Batch.Keys) == 0 {
				continue
			}
			p.takeAway(late)
			if p.open == 0 {
				l.worker.sent.drop(p.Number)
			}
		}
	}
	s.release(f)
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

package scheduler

import (
	"math"
	"slices"
	"time"
)

// Part is rows of one batch that went to one worker together. Its exported fields do not change.
type Part struct {
	// Number counts a worker's parts from 1.
	Number uint64
	Batch  *Batch
	// Rows are their places in the batch, ascending; nil: the whole batch.
	Rows []uint32
	// Deaths is how many deaths of workers count against it. From the first on its worker announces its rows before it runs
	// them, from the second on it runs nothing else meanwhile.
	Deaths uint32

	link       *link
	prev, next *Part // of the link
	open       int   // rows that the worker has not answered and that were not taken away
	ended      Rows  // rows that are not open any more; nil while all are, or none is
	running    Rows  // rows that were announced, and neither ended nor parked since; nil while there was none
	moved      bool  // rows were taken away, or handed back, that a result must not end by its silence
	// When it was sent: the flow's epoch, and whether its batch was of another revision than the active one.
	epoch uint32
	old   bool
	sent  time.Time // first
}

// early reports whether the part's batch may be of another revision than the active one.
func (p *Part) early() bool { return p.old || p.epoch != p.link.flow.epoch }

// Len is how many rows the part has.
func (p *Part) Len() int {
	if p.Rows == nil {
		return p.Batch.Rows()
	}
	return len(p.Rows)
}

// Row is the place in the batch of the part's i-th row.
func (p *Part) Row(i uint32) uint32 {
	if p.Rows == nil {
		return i
	}
	return p.Rows[i]
}

// isOpen reports whether the part's i-th row is still the worker's.
func (p *Part) isOpen(i uint32) bool { return p.open > 0 && (p.ended == nil || !p.ended.Has(i)) }

// close takes the part's i-th row from the worker; false when it was not the worker's any more.
func (p *Part) close(i uint32) bool {
	if p.open == 0 {
		return false
	}
	if p.ended == nil {
		p.ended = newRows(p.Len())
	}
	if !p.ended.add(i) {
		return false
	}
	p.open--
	p.link.load(-1)
	if len(p.Batch.Keys) > 0 {
		p.answered(i)
	}
	return true
}

// answered counts the part's i-th row, which has a key, as the worker's no more.
func (p *Part) answered(i uint32) {
	slot := p.Batch.slot(p.Row(i))
	p.link.share(slot, -1)
	f := p.link.flow
	if f.counts != nil {
		f.counts.add(slot, -1, p.early())
	}
	if len(f.held) > 0 {
		f.handedOver(slot)
	}
}

// window is the parts sent to a worker, by number.
type window struct {
	first uint64  // the number of parts[0]
	parts []*Part // nil once every row is answered; parts[0] is not nil
}

func (w *window) next() uint64 {
	if w.first == 0 {
		w.first = 1
	}
	return w.first + uint64(len(w.parts))
}

func (w *window) part(number uint64) *Part {
	if number < w.first || number-w.first >= uint64(len(w.parts)) {
		return nil
	}
	return w.parts[number-w.first]
}

// append puts a new part behind the link's others.
func (l *link) append(p *Part) {
	if p.prev = l.last; p.prev != nil {
		p.prev.next = p
	} else {
		l.first = p
	}
	l.last = p
}

// drop forgets a part of which every row is answered or taken away.
func (p *Part) drop() {
	p.relink(p.next, p.prev)
	p.link.worker.sent.drop(p.Number)
}

// relink has the part's neighbours, or the link's ends, point to others instead of it.
func (p *Part) relink(first, last *Part) {
	if p.prev != nil {
		p.prev.next = first
	} else {
		p.link.first = first
	}
	if p.next != nil {
		p.next.prev = last
	} else {
		p.link.last = last
	}
	if p.link.expiring == p {
		p.link.expiring = first
	}
	if p.link.looking == p {
		p.link.looking = first
	}
}

// replace puts a part of what is open of p into its place.
func (p *Part) replace() *Part {
	n := &Part{Number: p.Number, Batch: p.Batch, Rows: p.rest().rows, Deaths: p.Deaths, link: p.link,
		prev: p.prev, next: p.next, open: p.open, epoch: p.epoch, old: p.old, sent: p.sent}
	p.relink(n, n)
	sent := &p.link.worker.sent
	sent.parts[p.Number-sent.first] = n
	return n
}

func (w *window) drop(number uint64) {
	w.parts[number-w.first] = nil
	n := 0
	for n < len(w.parts) && w.parts[n] == nil {
		n++
	}
	w.parts = w.parts[n:]
	w.first += uint64(n)
}

// A part may overdraw what credit is left up to this much, so that the end of a window is not sent in crumbs.
const (
	overdrawRows  = 1024
	overdrawBytes = 64 << 10
)

// mayRun reports whether the worker may be sent rows of this link now. One that hands slots over may have kept some.
func (l *link) mayRun() bool {
	return l.hasCredit() && (l.mayServe() || l.handing > 0 && !l.isLeaving())
}

func (l *link) hasCredit() bool {
	return l.worker.connected && !l.worker.resuming && l.rows > 0 && l.bytes > 0
}

// pump sends what the link's queue and credit allow.
func (s *Scheduler) pump(l *link) {
	if l.queue.empty() && !l.isCrowded() {
		return
	}
	if l.flow.move != nil { // which slots are the link's is not settled
		s.pumpSoon(l)
		return
	}
	if l.isCrowded() && !s.readmit(l) {
		s.pumpSoon(l)
		return
	}
	for {
		for !l.queue.empty() && l.queue.front().batch.over {
			s.spend(costSegment)
			s.unqueued(l, l.queue.front())
			l.queue.pop()
		}
		if l.queue.empty() {
			l.mixed = l.mixed && l.isCrowded()
			return
		}
		if !l.mayRun() {
			return
		}
		if s.budget <= 0 {
			s.pumpSoon(l)
			return
		}
		g := l.queue.front()
		if !s.admit(l, g) {
			l.queue.pop()
			continue
		}
		part := segment{batch: g.batch, deaths: g.deaths}
		var rest []uint32
		if part.rows, rest = l.fit(g, math.MaxInt64); rest == nil {
			l.queue.pop()
		} else {
			g.rows = rest
		}
		s.send(l, part)
	}
}

// fit divides a segment into what the credit, and the worker, allow to be sent now, which is at least one row and no more than
// most, and the rest. A row that alone is more than the worker takes is alone in its part.
func (l *link) fit(g *segment, most int64) (rows, rest []uint32) {
	b := g.batch
	w := l.worker
	maxRows, maxBytes := min(most, max(l.rows, overdrawRows), w.partRows), min(max(l.bytes, overdrawBytes), w.partBytes)
	if g.rows == nil {
		if int64(b.Rows()) <= maxRows && int64(b.Ends[len(b.Ends)-1]) <= maxBytes {
			return nil, nil
		}
		g.rows = make([]uint32, b.Rows())
		for i := range g.rows {
			g.rows[i] = uint32(i)
		}
	}
	bytes := int64(0)
	for i, r := range g.rows {
		bytes += b.size(r)
		if i > 0 && (bytes > maxBytes || int64(i) >= maxRows) {
			return g.rows[:i:i], g.rows[i:]
		}
	}
	return g.rows, nil
}

// send numbers a part and hands it to its worker.
func (s *Scheduler) send(l *link, g segment) {
	w, f := l.worker, l.flow
	p := &Part{
		Number: w.sent.next(), Batch: g.batch, Rows: g.rows, Deaths: g.deaths, link: l, open: g.len(), epoch: f.epoch,
		old: g.batch.revision() != f.revision, sent: s.now,
	}
	s.spend(costPart + p.open)
	w.sent.parts = append(w.sent.parts, p)
	l.append(p)
	l.load(p.open)
	if p.Deaths >= poison {
		w.suspects = append(slices.DeleteFunc(w.suspects, func(p *Part) bool { return p.open == 0 }), p)
	}
	if len(p.Batch.Keys) > 0 {
		p.eachOpen(func(i uint32) {
			slot := p.Batch.slot(p.Row(i))
			l.share(slot, 1)
			if f.counts != nil {
				f.counts.add(slot, 1, p.old)
			}
		})
		if f.unanswered > countFrom {
			s.counted(f)
		}
	}
	l.pay(p)
	s.act(Send{Worker: w.id, Part: p})
}

// resume sends the next part of a worker again that did not reach it.
func (s *Scheduler) resume(w *worker) {
	s.spend(costPart)
	sent := &w.sent
	w.resume = max(w.resume, sent.first)
	if !w.resuming || w.resume >= sent.next() {
		s.resuming = slices.DeleteFunc(s.resuming, func(o *worker) bool { return o == w })
		if w.resuming {
			w.resuming = false
			s.resumed(w)
		}
		return
	}
	p := sent.part(w.resume)
	if w.resume++; p != nil {
		s.sendAgain(p)
	}
}

// resumed goes on with new parts once all are sent again.
func (s *Scheduler) resumed(w *worker) {
	for _, l := range w.links {
		s.spend(costSlot)
		s.askAgain(l)
		s.returned(l)
		if !l.queue.empty() || l.isCrowded() {
			s.pumpSoon(l)
		}
		s.pumpWholeSoon(l.flow)
	}
}

// sendAgain sends a part that did not reach its worker, without the rows that shall run elsewhere: a key's later rows must
// not run there before the earlier ones, which are elsewhere already.
func (s *Scheduler) sendAgain(p *Part) {
	l, w := p.link, p.link.worker
	s.spend(p.Len())
	switch {
	case p.Batch.over:
		p.closeAll()
	case len(p.Batch.Keys) > 0:
		p.takeAway(func(h *heldSlot) bool { return !h.stays })
	case !l.mayServe():
		g := p.rest()
		p.closeAll()
		s.whole(l.flow, g, true)
	}
	if len(l.flow.over) > 0 {
		s.wake(l.flow)
	}
	if p.open == 0 {
		p.drop()
		return
	}
	if p.open < p.Len() {
		p = p.replace()
	}
	l.pay(p)
	s.act(Send{Worker: w.id, Part: p})
}

// load counts rows that were sent, or, below zero, that are the worker's no more.
func (l *link) load(rows int) {
	l.unanswered += int64(rows)
	l.flow.unanswered += int64(rows)
	if l.ready {
		l.flow.loads[l.worker.seat] = l.unanswered
	}
}

// pay takes a part from the link's credit.
func (l *link) pay(p *Part) {
	l.rows -= int64(p.Len())
	if p.Rows == nil {
		l.bytes -= int64(p.Batch.Ends[p.Batch.Rows()-1])
		return
	}
	for _, r := range p.Rows {
		l.bytes -= p.Batch.size(r)
	}
}

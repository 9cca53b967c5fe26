package scheduler

import (
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Owners is who owns each slot of a flow.
type Owners struct {
	table   *table
	workers []*worker // by seat
}

// Owners is the flow's table as it is now; nil while nobody is ready.
func (s *Scheduler) Owners(flow string) *Owners {
	f := s.byName[flow]
	if f == nil || f.table == nil {
		return nil
	}
	return &Owners{f.table, slices.Clone(s.seats)}
}

// Of gives the id of a slot's owner.
func (o *Owners) Of(slot uint16) string { return o.workers[o.table.owner[slot]].id }

// Moves yields between whom slots moved since the table before, once each.
func (o *Owners) Moves(before *Owners) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if o.table == before.table && slices.Equal(o.workers, before.workers) {
			return
		}
		same := make([]bool, len(before.workers)) // the seat is whose it was
		for seat := range same {
			same[seat] = seat < len(o.workers) && o.workers[seat] == before.workers[seat]
		}
		type move struct{ was, now uint16 }
		var last move
		seen := map[move]bool{}
		for slot, now := range &o.table.owner {
			was := before.table.owner[slot]
			if was == now && same[was] {
				continue
			}
			if m := (move{was, now}); m != last && !seen[m] {
				last, seen[m] = m, true
				if !yield(before.workers[was].id, o.workers[now].id) {
					return
				}
			}
		}
	}
}

// Check compares the whole state with what must always hold between steps. live are the batches that are not over; slots
// picks the slots whose owner is worked out anew (all: 0 of 1).
func (s *Scheduler) Check(live []*Batch, remainder, divisor int) error {
	c := checker{s: s, at: map[*Batch]Rows{}, open: map[*link]map[uint16]int{}}
	inFlight := map[*flow]uint64{}
	for _, b := range live {
		c.at[b] = newRows(b.Rows())
		inFlight[b.flow] += uint64(b.remaining)
		if b.over {
			c.errorf("batch %d is over, and its owner was not told", b.arrival)
		}
		if !b.Deadline.IsZero() && (b.heapIndex < 0 || s.deadlines[b.heapIndex] != b) {
			c.errorf("batch %d has a deadline that nobody looks at", b.arrival)
		}
	}
	for _, w := range s.workers {
		c.worker(w)
	}
	c.tables()
	for _, f := range s.flows {
		c.flow(f, remainder, divisor)
		if f.ledger.InFlight() != inFlight[f] {
			c.errorf("flow %s: the ledger has %d rows in flight, its batches %d", f.name, f.ledger.InFlight(), inFlight[f])
		}
	}
	for _, b := range live {
		open, found := b.open(), 0
		for _, r := range open {
			if c.at[b].Has(r) {
				found++
			} else {
				c.errorf("batch %d: row %d has no outcome and is nowhere", b.arrival, r)
			}
		}
		if len(open) != b.remaining {
			c.errorf("batch %d: %d rows have no outcome, counted are %d", b.arrival, len(open), b.remaining)
		}
	}
	return errors.Join(c.errs...)
}

type checker struct {
	s    *Scheduler
	at   map[*Batch]Rows // rows found so far
	open map[*link]map[uint16]int
	errs []error
}

func (c *checker) errorf(format string, args ...any) {
	if len(c.errs) < 10 {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// found notes where a row without outcome is.
func (c *checker) found(b *Batch, row uint32, where string) {
	if b.over {
		return
	}
	at, live := c.at[b]
	switch {
	case !live:
		c.errorf("%s has row %d of a batch that nobody submitted", where, row)
	case b.done != nil && b.done.Has(row):
		c.errorf("%s has row %d of batch %d, which has its outcome", where, row, b.arrival)
	case !at.add(row):
		c.errorf("%s has row %d of batch %d, which is elsewhere too", where, row, b.arrival)
	}
}

func (c *checker) queue(q *queue, where string) {
	for i := q.head; i < len(q.segments); i++ {
		g := &q.segments[i]
		if g.len() == 0 {
			c.errorf("%s has an empty segment", where)
		}
		for _, r := range g.list() {
			c.found(g.batch, r, where)
		}
	}
}

// openAt counts, by slot, the rows that a link has not answered, or keeps in its queue.
func (c *checker) openAt(l *link) map[uint16]int {
	slots := c.open[l]
	if slots == nil {
		slots = map[uint16]int{}
		c.open[l] = slots
	}
	return slots
}

func (c *checker) worker(w *worker) {
	unanswered := map[*link]int64{}
	if len(w.sent.parts) > 0 && w.sent.parts[0] == nil {
		c.errorf("worker %s: the window begins with a part that is answered", w.id)
	}
	for i, p := range w.sent.parts {
		if p == nil {
			continue
		}
		if want := w.sent.first + uint64(i); p.Number != want {
			c.errorf("worker %s: part %d is kept as part %d", w.id, p.Number, want)
		}
		if p.link.worker != w || p.link.flow.links[w.seat] != p.link {
			c.errorf("worker %s: part %d belongs to another", w.id, p.Number)
		}
		n := 0
		p.eachOpen(func(i uint32) {
			n++
			c.found(p.Batch, p.Row(i), w.id)
			if len(p.Batch.Keys) > 0 {
				c.openAt(p.link)[p.Batch.slot(p.Row(i))]++
			}
		})
		if n == 0 || n != p.open {
			c.errorf("worker %s: part %d has %d open rows, counted are %d", w.id, p.Number, n, p.open)
		}
		unanswered[p.link] += int64(n)
	}
	for _, l := range w.links {
		if unanswered[l] != l.unanswered {
			c.errorf("worker %s, flow %s: %d rows are unanswered, counted are %d", w.id, l.flow.name, unanswered[l], l.unanswered)
		}
		if !w.connected && (l.rows != 0 || l.bytes != 0) {
			c.errorf("worker %s, flow %s: credit without a session", w.id, l.flow.name)
		}
	}
}

// live is the first segment whose batch is not over; nil for none.
func live(q *queue) *segment {
	for i := q.head; i < len(q.segments); i++ {
		if !q.segments[i].batch.over {
			return &q.segments[i]
		}
	}
	return nil
}

func (c *checker) flow(f *flow, remainder, divisor int) {
	if len(f.over) > 0 {
		c.errorf("flow %s: slots are left in over", f.name)
	}
	ready := 0
	for seat, l := range f.links {
		load := int64(notReady)
		if l != nil {
			if int(l.worker.seat) != seat || l.flow != f || c.s.seats[seat] != l.worker {
				c.errorf("flow %s: worker %s sits at %d, and its link at %d", f.name, l.worker.id, l.worker.seat, seat)
			}
			c.link(l)
			if l.ready {
				ready++
				load = l.unanswered
			}
		}
		if is := l != nil && l.ready; is != (f.table != nil && f.table.members.has(uint16(seat))) {
			c.errorf("flow %s: the worker at %d is ready: %v, its table says otherwise", f.name, seat, is)
		}
		if f.loads[seat] != load {
			c.errorf("flow %s: the load of the worker at %d is %d, not %d", f.name, seat, load, f.loads[seat])
		}
	}
	if ready != f.ready() {
		c.errorf("flow %s: %d workers are ready, counted are %d", f.name, ready, f.ready())
	}
	c.owners(f, remainder, divisor)
	c.held(f)
	c.queue(&f.waiting, "waiting")
	c.queue(&f.whole, "whole")
	if !f.waiting.empty() && f.ready() > 0 {
		c.errorf("flow %s: rows wait for a worker although one is ready", f.name)
	}
	if g := live(&f.whole); g == nil || g.batch.revision() != f.revision && f.remaining(g.batch.revision()) != nil {
		return
	}
	next := live(&f.whole).batch
	taken := false
	for l := range f.each {
		taken = taken || l.ready && l.worker.takes(next)
	}
	for l := range f.each {
		if l.ready && l.mayRun() && (l.worker.takes(next) || !taken) {
			c.errorf("flow %s: a whole batch waits although worker %s has credit", f.name, l.worker.id)
		}
	}
}

func (c *checker) link(l *link) {
	where := fmt.Sprintf("the queue of worker %s, flow %s", l.worker.id, l.flow.name)
	if c.s.workers[l.worker.id] != l.worker {
		c.errorf("%s: the worker is gone", where)
	}
	if l.mayServe() != l.ready {
		c.errorf("worker %s, flow %s: may serve: %v, is ready: %v", l.worker.id, l.flow.name, l.mayServe(), l.ready)
	}
	waiting := queue{segments: l.queue.segments[l.queue.head:]}
	if l.shares != nil {
		var aside []segment
		for _, a := range l.shares.aside {
			aside = append(aside, a.segments...)
			if len(a.segments) == 0 || !l.shares.waits[a.bucket] {
				c.errorf("%s: bucket %d is set aside for nothing", where, a.bucket)
			}
		}
		waiting.segments = append(aside, waiting.segments...)
		if l.unanswered == 0 && len(aside) > 0 && l.mayRun() {
			c.errorf("%s: rows are set aside although none is unanswered", where)
		}
	}
	c.queue(&waiting, where)
	shares := map[uint8]int32{}
	last := map[uint16][2]uint64{}
	inOrder := func(b *Batch, row uint32) {
		at := [2]uint64{b.arrival, uint64(row)}
		slot := b.slot(row)
		if before, ok := last[slot]; ok && slices.Compare(before[:], at[:]) >= 0 {
			c.errorf("%s, slot %d: row %d of batch %d stands behind row %d of batch %d", where, slot, row, b.arrival, before[1], before[0])
		}
		last[slot] = at
	}
	var before *Part
	parts := 0
	for p := l.first; p != nil; before, p = p, p.next {
		if p.prev != before || p.link != l || l.worker.sent.part(p.Number) != p || before != nil && before.Number >= p.Number {
			c.errorf("%s: part %d stands in the wrong place", where, p.Number)
		}
		parts++
		if len(p.Batch.Keys) > 0 {
			p.eachOpen(func(i uint32) {
				inOrder(p.Batch, p.Row(i))
				shares[bucket(p.Batch.slot(p.Row(i)))]++
			})
		}
	}
	for _, p := range l.worker.sent.parts {
		if p != nil && p.link == l {
			parts--
		}
	}
	if parts != 0 || l.last != before {
		c.errorf("%s: the parts of the flow are not those of the worker", where)
	}
	for b := range buckets {
		if l.shares != nil && l.shares.rows[b] != shares[uint8(b)] {
			c.errorf("%s: bucket %d has %d rows unanswered, counted are %d", where, b, shares[uint8(b)], l.shares.rows[b])
		}
	}
	for i := range waiting.segments {
		g := &waiting.segments[i]
		for _, r := range g.list() {
			inOrder(g.batch, r)
			switch slot := g.batch.slot(r); {
			case l.flow.held[slot] != nil && l.flow.held[slot].stays && l.flow.held[slot].from == l:
				c.openAt(l)[slot]++
			case !l.owns(slot):
				c.errorf("%s has slot %d, which is another's", where, slot)
			case l.flow.held[slot] != nil:
				c.errorf("%s has slot %d, which is held", where, slot)
			}
		}
	}
	if live(&l.queue) != nil && l.mayRun() {
		c.errorf("%s waits although there is credit", where)
	}
	for slot, n := range c.open[l] {
		h := l.flow.held[slot]
		switch {
		case h == nil && !l.owns(slot):
			c.errorf("worker %s, flow %s, slot %d: %d rows run at a worker that does not own it", l.worker.id, l.flow.name, slot, n)
		case h != nil && h.from != l:
			c.errorf("worker %s, flow %s, slot %d: %d rows run while %s hands it over", l.worker.id, l.flow.name, slot, n, h.from.worker.id)
		}
	}
}

// owners compares the table with the rule: the highest weight wins.
func (c *checker) owners(f *flow, remainder, divisor int) {
	if f.table == nil {
		return
	}
	if !slices.Contains(c.s.tables, f.table) {
		c.errorf("flow %s: its table is not in use", f.name)
	}
	members := f.table.members.list()
	for slot := remainder; slot < Slots; slot += divisor {
		best := members[0]
		for _, seat := range members[1:] {
			if c.s.beats(seat, best, uint16(slot)) {
				best = seat
			}
		}
		if owner := f.table.owner[slot]; owner != best {
			c.errorf("flow %s: slot %d belongs to %s, not to %s", f.name, slot, c.s.seats[best].id, c.s.seats[owner].id)
		}
	}
}

// tables checks which are in use.
func (c *checker) tables() {
	flows := map[*table]int{}
	for _, f := range c.s.flows {
		if f.table != nil {
			flows[f.table]++
		}
	}
	for i, t := range c.s.tables {
		if t.flows != flows[t] || t.flows == 0 {
			c.errorf("a table is in use by %d flows, counted are %d", flows[t], t.flows)
		}
		if n := len(t.members.list()); n != t.count {
			c.errorf("a table has %d members, counted are %d", n, t.count)
		}
		for _, other := range c.s.tables[:i] {
			if slices.Equal(t.members, other.members) {
				c.errorf("two tables have the same members")
			}
		}
	}
}

func (l *link) owns(slot uint16) bool { return l.ready && l.flow.owner(slot) == l }

func (c *checker) held(f *flow) {
	handing := map[*link]int{}
	for slot, h := range f.held {
		handing[h.from]++
		if c.s.workers[h.from.worker.id] != h.from.worker {
			c.errorf("flow %s, slot %d: held for a worker that is gone", f.name, slot)
		}
		if n := c.open[h.from][slot]; h.open != n || n == 0 {
			c.errorf("flow %s, slot %d: %d rows are open at %s, counted are %d", f.name, slot, n, h.from.worker.id, h.open)
		}
		for _, r := range h.rows {
			c.found(r.batch, r.row, "what is held")
			if r.batch.slot(r.row) != slot {
				c.errorf("flow %s, slot %d: a row of slot %d is held here", f.name, slot, r.batch.slot(r.row))
			}
		}
	}
	for l := range f.each {
		if handing[l] != l.handing {
			c.errorf("worker %s, flow %s: %d slots are handed over, counted are %d", l.worker.id, f.name, handing[l], l.handing)
		}
	}
}

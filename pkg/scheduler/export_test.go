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
	q.each(func(g *segment) { c.segment(g, where) })
}

func (c *checker) segment(g *segment, where string) {
	if g.len() == 0 {
		c.errorf("%s has an empty segment", where)
	}
	for _, r := range g.list() {
		c.found(g.batch, r, where)
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
	var first *segment
	q.each(func(g *segment) {
		if first == nil && !g.batch.over {
			first = g
		}
	})
	return first
}

func (c *checker) flow(f *flow, remainder, divisor int) {
	if !f.awake && (!f.settled() || len(f.pumps)+len(f.expiring) > 0 || f.pumpsWhole || f.expires || f.starves || f.sweeps) {
		c.errorf("flow %s has something to do, and will not do it", f.name)
	}
	ready := 0
	for seat, l := range f.links {
		load := int64(notReady)
		if l != nil && l.worker.gone {
			if !l.moves {
				c.errorf("flow %s: worker %s is gone, and nobody buries it", f.name, l.worker.id)
			}
			c.gone(l)
		}
		if l != nil && l.ready {
			ready++
			load = l.unanswered
		}
		if l != nil && !l.worker.gone {
			if int(l.worker.seat) != seat || l.flow != f || c.s.seats[seat] != l.worker {
				c.errorf("flow %s: worker %s sits at %d, and its link at %d", f.name, l.worker.id, l.worker.seat, seat)
			}
			c.link(l)
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
	for _, from := range f.inbox {
		from.each(func(g segment) { c.segment(&g, "the inbox") })
		if dead, ok := from.(*residue); ok {
			c.gone(dead.link)
		}
	}
	c.queue(&f.fresh, "fresh")
	c.held(f)
	c.counts(f)
	c.order(f)
	c.queue(&f.waiting, "waiting")
	if !f.waiting.empty() && f.ready() > 0 {
		c.errorf("flow %s: rows wait for a worker although one is ready", f.name)
	}
	for _, line := range f.wholes {
		c.queue(&line.again, "whole")
		c.queue(&line.fresh, "whole")
		if f.pumpsWhole || live(&line.again) == nil && live(&line.fresh) == nil {
			continue
		}
		g := live(&line.again)
		if g == nil {
			g = live(&line.fresh)
		}
		taken := false
		for l := range f.each {
			taken = taken || l.ready && l.worker.takes(g.batch)
		}
		for l := range f.each {
			mayRun := l.ready && l.mayRun() && (l.worker.takes(g.batch) || !taken)
			if line.revision != f.revision {
				old, some := f.remaining(g.batch)
				mayRun = mayRun && !some || old != nil
			}
			if mayRun {
				c.errorf("flow %s: a whole batch of revision %d waits although worker %s has credit", f.name, line.revision.Number, l.worker.id)
			}
		}
	}
}

// gone looks at what a worker had that is gone.
func (c *checker) gone(l *link) {
	for p := l.first; p != nil; p = p.next {
		p.eachOpen(func(i uint32) {
			c.found(p.Batch, p.Row(i), "the residue of "+l.worker.id)
			if len(p.Batch.Keys) > 0 {
				c.openAt(l)[p.Batch.slot(p.Row(i))]++
			}
		})
	}
	l.queue.each(func(g *segment) {
		c.segment(g, "the queue of "+l.worker.id)
	})
	if l.isCrowded() {
		for _, b := range l.shares.crowded {
			c.queue(l.shares.aside[b], "what is set aside of "+l.worker.id)
		}
	}
}

// links are all that have rows of the flow.
func (f *flow) holders() []*link {
	all := slices.Collect(f.each)
	for _, from := range f.inbox {
		if dead, ok := from.(*residue); ok {
			all = append(all, dead.link)
		}
	}
	return all
}

// counts compares what is counted with what there is.
func (c *checker) counts(f *flow) {
	unanswered, open, earlier := int64(0), map[uint16]int32{}, map[uint16]int32{}
	for _, l := range f.holders() {
		for p := l.first; p != nil; p = p.next {
			unanswered += int64(p.open)
			if len(p.Batch.Keys) == 0 {
				continue
			}
			p.eachOpen(func(i uint32) {
				open[p.Batch.slot(p.Row(i))]++
				if p.early() {
					earlier[p.Batch.slot(p.Row(i))]++
				}
			})
		}
	}
	if unanswered != f.unanswered {
		c.errorf("flow %s: %d rows are unanswered, counted are %d", f.name, unanswered, f.unanswered)
	}
	if f.counts == nil {
		return
	}
	for slot := range f.counts.open {
		if n := f.counts.open[slot]; n != open[uint16(slot)] {
			c.errorf("flow %s, slot %d: %d rows are unanswered, counted are %d", f.name, slot, open[uint16(slot)], n)
		}
		if f.counts.earlier != nil && f.counts.earlier[slot] != earlier[uint16(slot)] {
			c.errorf("flow %s, slot %d: %d rows are of an earlier revision, counted are %d", f.name, slot, earlier[uint16(slot)], f.counts.earlier[slot])
		}
	}
}

func (c *checker) link(l *link) {
	where := fmt.Sprintf("the queue of worker %s, flow %s", l.worker.id, l.flow.name)
	if c.s.workers[l.worker.id] != l.worker {
		c.errorf("%s: the worker is gone", where)
	}
	if l.mayServe() != l.ready && !l.moves {
		c.errorf("worker %s, flow %s: may serve: %v, is ready: %v", l.worker.id, l.flow.name, l.mayServe(), l.ready)
	}
	var waiting []*segment
	add := func(g *segment) { waiting = append(waiting, g) }
	if l.shares != nil {
		for b, q := range l.shares.aside {
			if q != nil {
				q.each(add)
			}
			if (q != nil) != slices.Contains(l.shares.crowded, uint8(b)) || q != nil && q.empty() && !l.pumps {
				c.errorf("%s: bucket %d is set aside for nothing", where, b)
			}
		}
		if l.unanswered == 0 && len(waiting) > 0 && l.mayRun() && !l.pumps {
			c.errorf("%s: rows are set aside although none is unanswered", where)
		}
	}
	l.queue.each(add)
	for _, g := range waiting {
		c.segment(g, where)
	}
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
	for _, g := range waiting {
		if !l.mixed && g.batch.revision() != l.flow.revision {
			c.errorf("%s has rows of an earlier revision, and does not know", where)
		}
		for _, r := range g.list() {
			inOrder(g.batch, r)
			switch slot := g.batch.slot(r); {
			case l.flow.held[slot] != nil && l.flow.held[slot].counts && l.flow.held[slot].from == l:
			case !l.flow.settled():
			case !l.owns(slot):
				c.errorf("%s has slot %d, which is another's", where, slot)
			case l.flow.held[slot] != nil:
				c.errorf("%s has slot %d, which is held", where, slot)
			}
		}
	}
	if live(&l.queue) != nil && l.mayRun() && !l.pumps {
		c.errorf("%s waits although there is credit", where)
	}
	for slot, n := range c.open[l] {
		h := l.flow.held[slot]
		switch {
		case !l.flow.settled():
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
	handing, staying, heldRows := map[*link]int{}, map[*link]int{}, 0
	for slot, h := range f.held {
		handing[h.from]++
		n := 0
		for _, l := range f.holders() {
			n += c.open[l][slot]
		}
		queued := func(g *segment) {
			for _, r := range g.list() {
				if g.batch.slot(r) == slot {
					n++
				}
			}
		}
		if h.counts {
			// While the hand-over is under way that made it, they are still to be counted.
			uncounted := f.move != nil && f.move.round == h.round
			if !uncounted {
				h.from.queue.each(queued)
			}
			if !uncounted && h.from.isCrowded() {
				for _, b := range h.from.shares.crowded {
					h.from.shares.aside[b].each(queued)
				}
			}
			for _, from := range f.inbox {
				if q, ok := from.(*requeued); ok && q.link == h.from && q.round > h.round {
					q.each(func(g segment) { queued(&g) })
				}
			}
		}
		if slices.Contains(h.from.guarded, slot) {
			n++
		}
		if h.open != n || n == 0 && !slices.Contains(f.over, slot) {
			c.errorf("flow %s, slot %d: %d rows are open at %s, counted are %d", f.name, slot, n, h.from.worker.id, h.open)
		}
		if h.stays {
			staying[h.from]++
		}
		for _, run := range h.runs {
			heldRows += len(run)
			for i, r := range run {
				c.found(r.batch, r.row, "what is held")
				if r.batch.slot(r.row) != slot {
					c.errorf("flow %s, slot %d: a row of slot %d is held here", f.name, slot, r.batch.slot(r.row))
				}
				if i > 0 && !run[i-1].before(&r) {
					c.errorf("flow %s, slot %d: a run is not in order", f.name, slot)
				}
			}
		}
	}
	if heldRows != f.heldRows {
		c.errorf("flow %s: %d rows are held, counted are %d", f.name, heldRows, f.heldRows)
	}
	for l := range f.each {
		if handing[l] != l.handing {
			c.errorf("worker %s, flow %s: %d slots are handed over, counted are %d", l.worker.id, f.name, handing[l], l.handing)
		}
		if staying[l] != l.staying {
			c.errorf("worker %s, flow %s: %d slots stay, counted are %d", l.worker.id, f.name, staying[l], l.staying)
		}
	}
}

// SliceUnits is the work of one Step by default, and AtOnceUnits bounds by how much the last thing that it does may exceed it.
const (
	SliceUnits  = slice
	AtOnceUnits = 1 << 20
)

// Spent is the work that the last Step did.
func (s *Scheduler) Spent() int { return s.config.Slice - s.budget }

// OpenRows are the rows of a batch that have no outcome.
func OpenRows(b *Batch) []uint32 { return b.open() }

// GivenUp counts the rows with keys that workers have of a flow although their batches are over.
func (s *Scheduler) GivenUp(flow string) (n int) {
	if f := s.byName[flow]; f != nil {
		for l := range f.each {
			for p := l.first; p != nil; p = p.next {
				if p.Batch.over && len(p.Batch.Keys) > 0 {
					n += p.open
				}
			}
		}
	}
	return n
}

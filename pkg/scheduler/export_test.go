package scheduler

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// Owners says which worker owns each slot of a flow.
type Owners struct {
	table   *table
	workers []*worker // by seat
}

// Owners returns the flow's table as it is now; nil while no worker is ready.
func (s *Scheduler) Owners(flow string) *Owners {
	f := s.byName[flow]
	if f == nil || f.table == nil {
		return nil
	}
	return &Owners{f.table, slices.Clone(s.placement.seats)}
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

// Check checks everything that must hold between two steps. live are the batches that are not over; slots
// picks the slots whose owner is worked out anew (all: 0 of 1).
func (s *Scheduler) Check(live []*Batch, remainder, divisor int) error {
	c := checker{s: s, at: map[*Batch]bitset.Set{}, open: map[*workerFlow]map[uint16]int{}}
	inFlight := map[*flow]uint64{}
	for _, b := range live {
		c.at[b] = bitset.New(b.Rows())
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
		open, found := b.openRows(), 0
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
	at   map[*Batch]bitset.Set // rows found so far
	open map[*workerFlow]map[uint16]int
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
	case b.endedRows != nil && b.endedRows.Has(row):
		c.errorf("%s has row %d of batch %d, which has its outcome", where, row, b.arrival)
	case !at.Add(row):
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

// openAt counts, by slot, the rows that a workerFlow has not answered, or keeps in its queue.
func (c *checker) openAt(wf *workerFlow) map[uint16]int {
	slots := c.open[wf]
	if slots == nil {
		slots = map[uint16]int{}
		c.open[wf] = slots
	}
	return slots
}

func (c *checker) worker(w *worker) {
	unanswered := map[*workerFlow]int64{}
	if len(w.sent.parts) > 0 && w.sent.parts[0] == nil {
		c.errorf("worker %s: sentParts begins with a part that is answered", w.id)
	}
	for i, p := range w.sent.parts {
		if p == nil {
			continue
		}
		if want := w.sent.first + uint64(i); p.Number != want {
			c.errorf("worker %s: part %d is kept as part %d", w.id, p.Number, want)
		}
		if p.workerFlow.worker != w || p.workerFlow.flow.workerFlows[w.seat] != p.workerFlow {
			c.errorf("worker %s: part %d belongs to another", w.id, p.Number)
		}
		n := 0
		p.eachOpen(func(i partRow) {
			n++
			c.found(p.Batch, p.row(i), w.id)
			if len(p.Batch.Keys) > 0 {
				c.openAt(p.workerFlow)[p.Batch.slot(p.row(i))]++
			}
		})
		if n == 0 || n != p.open {
			c.errorf("worker %s: part %d has %d open rows, counted are %d", w.id, p.Number, n, p.open)
		}
		unanswered[p.workerFlow] += int64(n)
	}
	for _, wf := range w.workerFlows {
		if unanswered[wf] != wf.unanswered {
			c.errorf("worker %s, flow %s: %d rows are unanswered, counted are %d", w.id, wf.flow.name, unanswered[wf], wf.unanswered)
		}
		if !w.connected && (wf.creditRows != 0 || wf.creditBytes != 0) {
			c.errorf("worker %s, flow %s: credit without a session", w.id, wf.flow.name)
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
	if !f.awake && (!f.settled() || len(f.sendDue)+len(f.expiring) > 0 || f.wholeDue || f.expiryDue || f.starvationDue || f.sweepDue) {
		c.errorf("flow %s has something to do, and will not do it", f.name)
	}
	ready := 0
	for seat, wf := range f.workerFlows {
		load := int64(notReady)
		if wf != nil && wf.worker.gone {
			if !wf.membershipDue {
				c.errorf("flow %s: worker %s is gone, and nobody buries it", f.name, wf.worker.id)
			}
			c.gone(wf)
		}
		if wf != nil && wf.ready {
			ready++
			load = wf.unanswered
		}
		if wf != nil && !wf.worker.gone {
			if int(wf.worker.seat) != seat || wf.flow != f || c.s.placement.seats[seat] != wf.worker {
				c.errorf("flow %s: worker %s sits at %d, and its workerFlow at %d", f.name, wf.worker.id, wf.worker.seat, seat)
			}
			c.workerFlow(wf)
		}
		if is := wf != nil && wf.ready; is != (f.table != nil && f.table.members.has(uint16(seat))) {
			c.errorf("flow %s: the worker at %d is ready: %v, its table says otherwise", f.name, seat, is)
		}
		if f.loads[seat] != load {
			c.errorf("flow %s: the load of the worker at %d is %d, not %d", f.name, seat, load, f.loads[seat])
		}
	}
	if ready != f.readyCount() {
		c.errorf("flow %s: %d workers are ready, counted are %d", f.name, ready, f.readyCount())
	}
	c.owners(f, remainder, divisor)
	for _, from := range f.inbox {
		from.each(func(g segment) { c.segment(&g, "the inbox") })
		if dead, ok := from.(*lostParts); ok {
			c.gone(dead.workerFlow)
		}
	}
	c.queue(&f.submitted, "fresh")
	c.held(f)
	c.counts(f)
	c.order(f)
	c.queue(&f.waiting, "waiting")
	if !f.waiting.empty() && f.readyCount() > 0 {
		c.errorf("flow %s: rows wait for a worker although one is ready", f.name)
	}
	for _, line := range f.wholeLines {
		c.queue(&line.returned, "whole")
		c.queue(&line.submitted, "whole")
		if f.wholeDue || live(&line.returned) == nil && live(&line.submitted) == nil {
			continue
		}
		g := live(&line.returned)
		if g == nil {
			g = live(&line.submitted)
		}
		taken := false
		for wf := range f.each {
			taken = taken || wf.ready && wf.worker.takes(g.batch)
		}
		for wf := range f.each {
			mayRun := wf.ready && wf.maySend() && (wf.worker.takes(g.batch) || !taken)
			if line.revision != f.revision {
				old, some := f.stillOn(g.batch)
				mayRun = mayRun && !some || old != nil
			}
			if mayRun {
				c.errorf("flow %s: a whole batch of revision %d waits although worker %s has credit", f.name, line.revision.Number, wf.worker.id)
			}
		}
	}
}

// gone checks the rows that a worker had been sent before it was gone.
func (c *checker) gone(wf *workerFlow) {
	for p := wf.first; p != nil; p = p.next {
		p.eachOpen(func(i partRow) {
			c.found(p.Batch, p.row(i), "the lost parts of "+wf.worker.id)
			if len(p.Batch.Keys) > 0 {
				c.openAt(wf)[p.Batch.slot(p.row(i))]++
			}
		})
	}
	wf.queue.each(func(g *segment) {
		c.segment(g, "the queue of "+wf.worker.id)
	})
	if wf.hasAside() {
		for _, b := range wf.shares.crowded {
			c.queue(wf.shares.aside[b], "what is set aside of "+wf.worker.id)
		}
	}
}

// workerFlows are all that have rows of the flow.
func (f *flow) holders() []*workerFlow {
	all := slices.Collect(f.each)
	for _, from := range f.inbox {
		if dead, ok := from.(*lostParts); ok {
			all = append(all, dead.workerFlow)
		}
	}
	return all
}

// counts compares the flow's counters with the rows that there are.
func (c *checker) counts(f *flow) {
	unanswered, open, earlier := int64(0), map[uint16]int32{}, map[uint16]int32{}
	for _, wf := range f.holders() {
		for p := wf.first; p != nil; p = p.next {
			unanswered += int64(p.open)
			if len(p.Batch.Keys) == 0 {
				continue
			}
			p.eachOpen(func(i partRow) {
				open[p.Batch.slot(p.row(i))]++
				if p.mayBeOtherRevision() {
					earlier[p.Batch.slot(p.row(i))]++
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
		if f.counts.otherRevision != nil && f.counts.otherRevision[slot] != earlier[uint16(slot)] {
			c.errorf("flow %s, slot %d: %d rows are of an earlier revision, counted are %d", f.name, slot, earlier[uint16(slot)], f.counts.otherRevision[slot])
		}
	}
}

func (c *checker) workerFlow(wf *workerFlow) {
	where := fmt.Sprintf("the queue of worker %s, flow %s", wf.worker.id, wf.flow.name)
	if c.s.workers[wf.worker.id] != wf.worker {
		c.errorf("%s: the worker is gone", where)
	}
	if wf.mayServe() != wf.ready && !wf.membershipDue {
		c.errorf("worker %s, flow %s: may serve: %v, is ready: %v", wf.worker.id, wf.flow.name, wf.mayServe(), wf.ready)
	}
	var waiting []*segment
	add := func(g *segment) { waiting = append(waiting, g) }
	if wf.shares != nil {
		for b, q := range wf.shares.aside {
			if q != nil {
				q.each(add)
			}
			if (q != nil) != slices.Contains(wf.shares.crowded, uint8(b)) || q != nil && q.empty() && !wf.sendDue {
				c.errorf("%s: bucket %d is set aside for nothing", where, b)
			}
		}
		if wf.unanswered == 0 && len(waiting) > 0 && wf.maySend() && !wf.sendDue {
			c.errorf("%s: rows are set aside although none is unanswered", where)
		}
	}
	wf.queue.each(add)
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
	for p := wf.first; p != nil; before, p = p, p.next {
		if p.prev != before || p.workerFlow != wf || wf.worker.sent.part(p.Number) != p || before != nil && before.Number >= p.Number {
			c.errorf("%s: part %d stands in the wrong place", where, p.Number)
		}
		parts++
		if len(p.Batch.Keys) > 0 {
			p.eachOpen(func(i partRow) {
				inOrder(p.Batch, p.row(i))
				shares[bucket(p.Batch.slot(p.row(i)))]++
			})
		}
	}
	for _, p := range wf.worker.sent.parts {
		if p != nil && p.workerFlow == wf {
			parts--
		}
	}
	if parts != 0 || wf.last != before {
		c.errorf("%s: the parts of the flow are not those of the worker", where)
	}
	for b := range buckets {
		if wf.shares != nil && wf.shares.rows[b] != shares[uint8(b)] {
			c.errorf("%s: bucket %d has %d rows unanswered, counted are %d", where, b, shares[uint8(b)], wf.shares.rows[b])
		}
	}
	for _, g := range waiting {
		if !wf.mayMixRevisions && g.batch.revision() != wf.flow.revision {
			c.errorf("%s has rows of an earlier revision, and does not know", where)
		}
		for _, r := range g.list() {
			inOrder(g.batch, r)
			switch slot := g.batch.slot(r); {
			case wf.flow.held.slots[slot] != nil && wf.flow.held.slots[slot].countsQueued && wf.flow.held.slots[slot].oldOwner == wf:
			case !wf.flow.settled():
			case !wf.owns(slot):
				c.errorf("%s has slot %d, which is another's", where, slot)
			case wf.flow.held.slots[slot] != nil:
				c.errorf("%s has slot %d, which is held", where, slot)
			}
		}
	}
	if live(&wf.queue) != nil && wf.maySend() && !wf.sendDue {
		c.errorf("%s waits although there is credit", where)
	}
	for slot, n := range c.open[wf] {
		h := wf.flow.held.slots[slot]
		switch {
		case !wf.flow.settled():
		case h == nil && !wf.owns(slot):
			c.errorf("worker %s, flow %s, slot %d: %d rows run at a worker that does not own it", wf.worker.id, wf.flow.name, slot, n)
		case h != nil && h.oldOwner != wf:
			c.errorf("worker %s, flow %s, slot %d: %d rows run while %s hands it over", wf.worker.id, wf.flow.name, slot, n, h.oldOwner.worker.id)
		}
	}
}

// owners compares the table with the rule: the highest weight wins.
func (c *checker) owners(f *flow, remainder, divisor int) {
	if f.table == nil {
		return
	}
	if !slices.Contains(c.s.placement.tables, f.table) {
		c.errorf("flow %s: its table is not in use", f.name)
	}
	members := f.table.members.list()
	for slot := remainder; slot < keyslot.Count; slot += divisor {
		best := members[0]
		for _, seat := range members[1:] {
			if c.s.placement.beats(seat, best, uint16(slot)) {
				best = seat
			}
		}
		if owner := f.table.owner[slot]; owner != best {
			c.errorf("flow %s: slot %d belongs to %s, not to %s", f.name, slot, c.s.placement.seats[best].id, c.s.placement.seats[owner].id)
		}
	}
}

// tables checks which tables are in use, and by how many flows.
func (c *checker) tables() {
	flows := map[*table]int{}
	for _, f := range c.s.flows {
		if f.table != nil {
			flows[f.table]++
		}
	}
	for i, t := range c.s.placement.tables {
		if t.users != flows[t] || t.users == 0 {
			c.errorf("a table is in use by %d flows, counted are %d", flows[t], t.users)
		}
		if n := len(t.members.list()); n != t.count {
			c.errorf("a table has %d members, counted are %d", n, t.count)
		}
		for _, other := range c.s.placement.tables[:i] {
			if slices.Equal(t.members, other.members) {
				c.errorf("two tables have the same members")
			}
		}
	}
}

func (wf *workerFlow) owns(slot uint16) bool { return wf.ready && wf.flow.owner(slot) == wf }

func (c *checker) held(f *flow) {
	handing, staying, heldRows := map[*workerFlow]int{}, map[*workerFlow]int{}, 0
	for slot, h := range f.held.slots {
		handing[h.oldOwner]++
		n := 0
		for _, wf := range f.holders() {
			n += c.open[wf][slot]
		}
		queued := func(g *segment) {
			for _, r := range g.list() {
				if g.batch.slot(r) == slot {
					n++
				}
			}
		}
		if h.countsQueued {
			// While the hand-over is under way that made it, they are still to be counted.
			uncounted := f.handOver != nil && f.handOver.number == h.handOver
			if !uncounted {
				h.oldOwner.queue.each(queued)
			}
			if !uncounted && h.oldOwner.hasAside() {
				for _, b := range h.oldOwner.shares.crowded {
					h.oldOwner.shares.aside[b].each(queued)
				}
			}
			for _, from := range f.inbox {
				if q, ok := from.(*requeuedRows); ok && q.workerFlow == h.oldOwner && q.handOver > h.handOver {
					q.each(func(g segment) { queued(&g) })
				}
			}
		}
		if slices.Contains(h.oldOwner.guardedSlots, slot) {
			n++
		}
		if h.open != n || n == 0 && !slices.Contains(f.held.handedOver, slot) {
			c.errorf("flow %s, slot %d: %d rows are open at %s, counted are %d", f.name, slot, n, h.oldOwner.worker.id, h.open)
		}
		if h.keepsRows {
			staying[h.oldOwner]++
		}
		for _, run := range h.lists {
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
	if heldRows != f.held.rows {
		c.errorf("flow %s: %d rows are held, counted are %d", f.name, heldRows, f.held.rows)
	}
	for wf := range f.each {
		if handing[wf] != wf.handingOver {
			c.errorf("worker %s, flow %s: %d slots are handed over, counted are %d", wf.worker.id, f.name, handing[wf], wf.handingOver)
		}
		if staying[wf] != wf.keeping {
			c.errorf("worker %s, flow %s: %d slots stay, counted are %d", wf.worker.id, f.name, staying[wf], wf.keeping)
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
func OpenRows(b *Batch) []uint32 { return b.openRows() }

// GivenUp counts the rows with keys that workers have of a flow although their batches are over.
func (s *Scheduler) GivenUp(flow string) (n int) {
	if f := s.byName[flow]; f != nil {
		for wf := range f.each {
			for p := wf.first; p != nil; p = p.next {
				if p.Batch.over && len(p.Batch.Keys) > 0 {
					n += p.open
				}
			}
		}
	}
	return n
}

// InFlight counts the rows of all flows that have no outcome yet.
func (s *Scheduler) InFlight() uint64 {
	var n uint64
	for _, f := range s.flows {
		n += f.ledger.InFlight()
	}
	return n
}

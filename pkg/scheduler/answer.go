package scheduler

import (
	"container/heap"
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

func (e Answered) step(s *Scheduler) {
	w := s.workers[e.Worker]
	if w == nil {
		return
	}
	p := w.sent.part(e.Part)
	if p == nil {
		return
	}
	b, f := p.Batch, p.workerFlow.flow
	if len(e.Returned) > 0 && len(b.Keys) > 0 && !b.over {
		s.holdReturned(p, e.Returned)
	}
	p.announce(e.Began, true)
	p.announce(e.Parked, false)
	if e.Last || len(e.Finished)+len(e.NotDone) > 0 {
		p.workerFlow.newestAnswered = max(p.workerFlow.newestAnswered, p.Number)
	}
	returned := p.closeRanges(e.Returned)
	p.moved = p.moved || len(returned) > 0

	for i := range e.NotDone {
		p.moved = p.moved || !p.has(e.NotDone[i].Row) // it has ended before: the worker is defective
	}
	var counts batch.Counts
	var only bitset.Set
	if p.moved && !b.over {
		only = bitset.New(p.Len())
	}
	end := func(i uint32, outcome batch.Outcome) {
		if !b.over && b.markEnded(p.Row(i)) {
			counts[outcome]++
			if only != nil {
				only.Add(i)
			}
		}
	}
	for i := range e.NotDone {
		if nd := &e.NotDone[i]; int(nd.Row) < p.Len() && p.close(nd.Row) {
			end(nd.Row, nd.Outcome)
		}
	}
	for _, i := range p.closeRanges(e.Finished) {
		end(i, batch.Done)
	}
	if e.Last {
		switch {
		case b.over || p.open == 0:
		case p.open == b.remaining-int(counts.Total()):
			// What is left of the part is what is left of the batch: nobody will ask for single rows any more.
			counts[batch.Done] += uint64(p.open)
			if only != nil {
				p.eachOpen(func(i uint32) { only.Add(i) })
			}
		default:
			p.eachOpen(func(i uint32) { end(i, batch.Done) })
		}
		p.closeAll()
	}

	if !b.over {
		for outcome, n := range counts {
			f.ledger.Outcomes[outcome] += n
		}
		if n := counts.Total(); n > 0 {
			s.act(Answer{Part: p, Result: e.Result, Only: only, Last: s.countEnded(b, int(n))})
		}
	}
	if len(returned) > 0 && !b.over {
		s.takeBack(f, p, returned)
	}
	if p.open == 0 {
		p.drop()
	}
	wf := p.workerFlow
	s.readmitWorker(wf)
	if wf.hasAside() {
		s.sendQueued(wf)
	}
	if len(f.handedOverSlots) > 0 {
		s.wake(f)
	}
	s.stopCounting(f)
}

// has reports whether the part has a row i that is still the worker's.
func (p *Part) has(i uint32) bool { return int(i) < p.Len() && p.isOpen(i) }

// takeBack queues rows that a worker handed back.
func (s *Scheduler) takeBack(f *flow, p *Part, returned []uint32) {
	for i, r := range returned {
		returned[i] = p.Row(r)
	}
	slices.Sort(returned)
	f.ledger.HandedBack += uint64(len(returned))
	if len(p.Batch.Keys) > 0 {
		// Their slots are held, and are not let go before this step is over.
		for _, r := range returned {
			f.held[p.Batch.slot(r)].keep(f, heldRow{p.Batch, r, p.Deaths})
		}
		return
	}
	g := segment{batch: p.Batch, rows: returned, deaths: p.Deaths}
	if len(returned) == p.Batch.Rows() {
		g.rows = nil
	}
	s.queueWhole(f, g, true)
}

// closeRanges takes rows from the worker and returns those that were its own.
func (p *Part) closeRanges(ranges []batch.Range) []uint32 {
	var rows []uint32
	p.each(ranges, func(i uint32) {
		if p.close(i) {
			rows = append(rows, i)
		}
	})
	return rows
}

// each calls f for each row of the ranges that the part has.
func (p *Part) each(ranges []batch.Range, f func(i uint32)) {
	n := uint64(p.Len())
	for _, r := range ranges {
		for i := uint64(r.First); i < min(uint64(r.First)+uint64(r.Count), n); i++ {
			f(uint32(i))
		}
	}
}

// rest is the rows that are the worker's, as a segment.
func (p *Part) rest() segment {
	g := segment{batch: p.Batch, deaths: p.Deaths}
	if p.Rows != nil || p.closedRows != nil {
		g.rows = make([]uint32, 0, p.open)
		p.eachOpen(func(i uint32) { g.rows = append(g.rows, p.Row(i)) })
	}
	return g
}

// eachOpen calls f for each row that is the worker's, by its place in the part.
func (p *Part) eachOpen(f func(i uint32)) {
	if p.open == 0 {
		return
	}
	for i := range uint32(p.Len()) {
		if p.closedRows == nil || !p.closedRows.Has(i) {
			f(i)
		}
	}
}

// closeAll takes all rows from the worker.
func (p *Part) closeAll() {
	if len(p.Batch.Keys) > 0 {
		p.eachOpen(p.countAnswered)
	}
	p.workerFlow.addUnanswered(-p.open)
	p.open = 0
}

// fail gives rows of a batch an outcome that no worker gave.
func (s *Scheduler) fail(b *Batch, rows []uint32, outcome batch.Outcome, code batch.Code) {
	if b.over {
		return
	}
	failed := rows[:0:0]
	for _, r := range rows {
		if b.markEnded(r) {
			failed = append(failed, r)
		}
	}
	if len(failed) == 0 {
		return
	}
	b.flow.ledger.Outcomes[outcome] += uint64(len(failed))
	last := s.countEnded(b, len(failed))
	if last {
		b.flow.sweep.over++
	}
	s.act(Fail{Batch: b, Rows: failed, Outcome: outcome, Code: code, Last: last})
}

// ended counts rows of a batch that got their outcome, and reports whether they were its last.
func (s *Scheduler) countEnded(b *Batch, rows int) bool {
	b.remaining -= rows
	if b.remaining > 0 {
		return false
	}
	b.over = true
	s.deadlines.remove(b)
	return true
}

func (e Cancelled) step(s *Scheduler) {
	b := e.Batch
	if b.over || b.flow == nil {
		return
	}
	b.flow.ledger.Outcomes[batch.Failed] += uint64(b.remaining)
	b.flow.sweep.over++
	b.cancelled = true
	s.countEnded(b, b.remaining)
}

func (Tick) step(s *Scheduler) {
	s.ticked = s.now
	for _, f := range s.flows {
		f.expiryDue = f.expiryDue || len(f.held) > 0 && !f.expiry.After(s.now)
		f.starvationDue = f.starvationDue || f.readyCount() == 0 && (!f.waiting.empty() || len(f.wholeLines) > 0) && s.now.Sub(f.waitingSince) >= s.config.NoWorker
		f.sweepDue = f.sweepDue || f.sweep.isDue(s.now)
		if f.expiryDue || f.starvationDue || f.sweepDue {
			s.wake(f)
		}
	}
}

// starveSome fails rows that waited for a worker for too long, until somebody is ready.
func (s *Scheduler) failStarving(f *flow) {
	for f.readyCount() == 0 {
		q := &f.waiting
		for q.empty() && len(f.wholeLines) > 0 {
			if q = f.wholeLines[0].next(); q == nil {
				f.wholeLines = f.wholeLines[1:]
				q = &f.waiting
			}
		}
		if q.empty() {
			break
		}
		if s.budget <= 0 {
			return
		}
		g := *q.front()
		q.pop()
		s.spend(costPart + g.len())
		s.fail(g.batch, g.list(), batch.Failed, batch.CodeNoCapableWorker)
	}
	f.starvationDue = false
}

// deadlines is a heap of batches, the nearest deadline first.
type deadlines []*Batch

func (d *deadlines) add(b *Batch) { heap.Push(d, b) }

func (d *deadlines) remove(b *Batch) {
	if b.heapIndex >= 0 {
		heap.Remove(d, b.heapIndex)
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].Deadline.Before(d[j].Deadline) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapIndex, d[j].heapIndex = i, j
}

func (d *deadlines) Push(x any) {
	b := x.(*Batch)
	b.heapIndex = len(*d)
	*d = append(*d, b)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	b := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	b.heapIndex = -1
	return b
}

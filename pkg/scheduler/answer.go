package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// step handles Answered: it takes the answered rows from the worker, counts the outcome of each row that has none yet, and
// passes the result on. An answer is ignored if the worker is not known, or has no open rows of the part.
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

	// First the rows that the worker gives back, and those that it began or parked.
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
		p.moved = p.moved || !p.has(partRow(e.NotDone[i].Row)) // a row that ended before: the worker is defective
	}
	// Then the rows that ended. only has those for which this result counts, where it does not count for all.
	var counts batch.Counts
	var only bitset.Set
	if p.moved && !b.over {
		pointAnsweredElsewhere.Hit()
		only = bitset.New(p.Len())
	}
	end := func(i partRow, outcome batch.Outcome) {
		if !b.over && b.markEnded(p.row(i)) {
			counts[outcome]++
			if only != nil {
				only.Add(uint32(i))
			}
		}
	}
	for i := range e.NotDone {
		if nd := &e.NotDone[i]; int(nd.Row) < p.Len() && p.close(partRow(nd.Row)) {
			end(partRow(nd.Row), nd.Outcome)
		}
	}
	for _, i := range p.closeRanges(e.Finished) {
		end(i, batch.Done)
	}
	if e.Last {
		// Rows that no answer named are Done, and so is each row that is still open.
		switch {
		case b.over || p.open == 0:
		case p.open == b.remaining-int(counts.Total()):
			// The open rows of the part are the last ones of the batch. Nobody will ask for single rows any more, so they are
			// counted together.
			counts[batch.Done] += uint64(p.open)
			if only != nil {
				p.eachOpen(func(i partRow) { only.Add(uint32(i)) })
			}
		default:
			p.eachOpen(func(i partRow) { end(i, batch.Done) })
		}
		p.closeAll()
	}

	// Each row counts once, so the ledger grows by these rows, and the batch's owner gets the result.
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
	// The rows that the worker has no more make room for others.
	if p.open == 0 {
		p.drop()
	}
	wf := p.workerFlow
	s.readmitWorker(wf)
	if wf.hasAside() {
		s.sendQueued(wf)
	}
	if len(f.held.handedOver) > 0 {
		s.wake(f)
	}
	s.stopCounting(f)
}

// takeBack takes rows of a part that the worker gave back, so that they go to a worker again. Rows with a key wait for their
// slots, which are held; rows without keys are queued for any worker. returned has the rows' places in the part.
func (s *Scheduler) takeBack(f *flow, p *Part, returned []partRow) {
	rows := make([]uint32, len(returned))
	for i, r := range returned {
		rows[i] = p.row(r)
	}
	slices.Sort(rows)
	pointHandedBack.Hit()
	f.ledger.HandedBack += uint64(len(rows))
	if len(p.Batch.Keys) > 0 {
		// The slots of the rows are held: holdReturned saw to that. No slot is let go before this Step is over.
		for _, r := range rows {
			f.held.slots[p.Batch.slot(r)].keep(&f.held, heldRow{p.Batch, r, p.Deaths})
		}
		return
	}
	g := segment{batch: p.Batch, rows: rows, deaths: p.Deaths}
	if len(rows) == p.Batch.Rows() {
		g.rows = nil
	}
	s.queueWhole(f, g, true)
}

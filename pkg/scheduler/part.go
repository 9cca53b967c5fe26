package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Part is rows of one batch that were sent to one worker together. Its exported fields do not change.
//
// The life of a part, and of each of its rows:
//
//	part:  send ──▶ open rows > 0 ──▶ open rows = 0: dropped
//	                  │        ▲
//	                  └ resend ┘ (after a session resumed; as a new Part of the same number, without rows that left)
//
//	row:   open ──▶ closed, because the worker ended it, gave it back, died, or the row was taken away
type Part struct {
	// Number is the part's number: the parts of one worker are numbered from 1, over all flows.
	Number uint64
	Batch  *Batch
	// Rows are the rows' places in the batch, ascending; nil means all rows of the batch.
	Rows []uint32
	// Deaths is how many deaths of workers count against the part's rows. With one or more, the worker announces each row
	// before it runs it. With two or more, the worker runs nothing else at the same time.
	Deaths uint32

	workerFlow *workerFlow // the worker flow that it was sent to
	prev, next *Part       // neighbours in the list of the worker flow
	open       int         // rows that the worker has not answered and that were not taken away
	closedRows bitset.Set  // places of the rows that were closed one by one; nil while none was. If open is 0, no row is open, whatever this says.
	running    bitset.Set  // places of the rows that the worker has announced and that have not parked; nil before the first one
	// moved says that rows were taken away or given back, so that a later result does not count for all rows that it names:
	// Answer.Only is needed.
	moved bool
	// epoch is flow.epoch when the part was sent; otherRevision says whether its batch was of another revision than the
	// active one then.
	epoch         uint32
	otherRevision bool
	sentAt        time.Time // when the part was sent first
}

// mayBeOtherRevision reports whether the part's batch may be of another revision than the active one.
func (p *Part) mayBeOtherRevision() bool {
	return p.otherRevision || p.epoch != p.workerFlow.flow.epoch
}

// Len returns how many rows the part has.
func (p *Part) Len() int {
	if p.Rows == nil {
		return p.Batch.Rows()
	}
	return len(p.Rows)
}

// Row returns the place in the batch of the part's i-th row.
func (p *Part) Row(i uint32) uint32 { return p.row(partRow(i)) }

// partRow is the place of a row in its part, from 0. The place of a row in its batch is a plain uint32, as in package batch. The two
// have different types so that the compiler refuses to mix them up.
type partRow uint32

// row returns the place in the batch of the part's i-th row. It does what Row does, with the type partRow.
func (p *Part) row(i partRow) uint32 {
	if p.Rows == nil {
		return uint32(i)
	}
	return p.Rows[i]
}

// isOpen reports whether the part's i-th row is open: the worker has neither answered it nor lost it. i must be less than Len.
func (p *Part) isOpen(i partRow) bool {
	return p.open > 0 && (p.closedRows == nil || !p.closedRows.Has(uint32(i)))
}

// has reports whether the part has an i-th row and that row is open.
func (p *Part) has(i partRow) bool { return int(i) < p.Len() && p.isOpen(i) }

// each calls f for each place in the ranges that is less than the part's length.
func (p *Part) each(ranges []batch.Range, f func(i partRow)) {
	n := uint64(p.Len())
	for _, r := range ranges {
		for i := uint64(r.First); i < min(uint64(r.First)+uint64(r.Count), n); i++ {
			f(partRow(i))
		}
	}
}

// eachOpen calls f with the place in the part of each open row, ascending.
func (p *Part) eachOpen(f func(i partRow)) {
	if p.open == 0 {
		return
	}
	for i := range partRow(p.Len()) {
		if p.closedRows == nil || !p.closedRows.Has(uint32(i)) {
			f(i)
		}
	}
}

// rest returns the part's open rows as a segment.
func (p *Part) rest() segment {
	g := segment{batch: p.Batch, deaths: p.Deaths}
	if p.Rows != nil || p.closedRows != nil {
		g.rows = make([]uint32, 0, p.open)
		p.eachOpen(func(i partRow) { g.rows = append(g.rows, p.row(i)) })
	}
	return g
}

// close marks the part's i-th row as closed: it is not the worker's any more. It returns false, and does nothing, if the row
// was closed before.
func (p *Part) close(i partRow) bool {
	if p.open == 0 {
		return false
	}
	if p.closedRows == nil {
		p.closedRows = bitset.New(p.Len())
	}
	if !p.closedRows.Add(uint32(i)) {
		return false
	}
	p.open--
	p.workerFlow.addUnanswered(-1)
	if len(p.Batch.Keys) > 0 {
		p.countAnswered(i)
	}
	return true
}

// closeRanges marks the rows of the ranges as closed, and returns the places of those that were open.
func (p *Part) closeRanges(ranges []batch.Range) []partRow {
	var rows []partRow
	p.each(ranges, func(i partRow) {
		if p.close(i) {
			rows = append(rows, i)
		}
	})
	return rows
}

// closeAll marks all rows of the part as closed.
func (p *Part) closeAll() {
	if len(p.Batch.Keys) > 0 {
		p.eachOpen(p.countAnswered)
	}
	p.workerFlow.addUnanswered(-p.open)
	p.open = 0
}

// countAnswered counts the part's i-th row, which must have a key, out of the counts by slot, because the worker does not have
// the row any more.
func (p *Part) countAnswered(i partRow) {
	slot := p.Batch.slot(p.row(i))
	p.workerFlow.addShare(slot, -1)
	f := p.workerFlow.flow
	if f.counts != nil {
		f.counts.add(slot, -1, p.mayBeOtherRevision())
	}
	if len(f.held.slots) > 0 {
		f.held.countOne(slot)
	}
}

// replace makes a new part with only the open rows of p and with p's number, puts it into p's place in the worker flow's list
// and in sentParts, and returns it.
func (p *Part) replace() *Part {
	n := &Part{Number: p.Number, Batch: p.Batch, Rows: p.rest().rows, Deaths: p.Deaths, workerFlow: p.workerFlow,
		prev: p.prev, next: p.next, open: p.open, epoch: p.epoch, otherRevision: p.otherRevision, sentAt: p.sentAt}
	p.relink(n, n)
	sent := &p.workerFlow.worker.sent
	sent.parts[p.Number-sent.first] = n
	return n
}

// drop forgets a part that has no open rows.
func (p *Part) drop() {
	p.relink(p.next, p.prev)
	p.workerFlow.worker.sent.drop(p.Number)
}

// relink changes the worker flow's list of parts so that nothing in it points to p: the part before p, or the list's
// beginning, points to first, and the part after p, or the list's end, points to last.
func (p *Part) relink(first, last *Part) {
	if p.prev != nil {
		p.prev.next = first
	} else {
		p.workerFlow.first = first
	}
	if p.next != nil {
		p.next.prev = last
	} else {
		p.workerFlow.last = last
	}
	if p.workerFlow.nextExpiring == p {
		p.workerFlow.nextExpiring = first
	}
	if p.workerFlow.nextSearched == p {
		p.workerFlow.nextSearched = first
	}
}

// sentParts are the parts that a worker was sent and that have open rows, by number.
type sentParts struct {
	first uint64  // number of parts[0]
	parts []*Part // by number, from first on; nil for parts without open rows, but parts[0] is never nil
}

// next returns the number that the next part to the worker gets.
func (sent *sentParts) next() uint64 {
	if sent.first == 0 {
		sent.first = 1
	}
	return sent.first + uint64(len(sent.parts))
}

// part returns the part with a number; nil if that part has no open rows any more, or was never sent.
func (sent *sentParts) part(number uint64) *Part {
	if number < sent.first || number-sent.first >= uint64(len(sent.parts)) {
		return nil
	}
	return sent.parts[number-sent.first]
}

// drop forgets a part that has no open rows.
func (sent *sentParts) drop(number uint64) {
	sent.parts[number-sent.first] = nil
	n := 0
	for n < len(sent.parts) && sent.parts[n] == nil {
		n++
	}
	sent.parts = sent.parts[n:]
	sent.first += uint64(n)
}

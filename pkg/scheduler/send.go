package scheduler

import (
	"math"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
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

	workerFlow *workerFlow
	prev, next *Part      // of the workerFlow
	open       int        // rows that the worker has not answered and that were not taken away
	closedRows bitset.Set // rows that are not open any more; nil while all are, or none is
	running    bitset.Set // rows that were announced, and neither ended nor parked since; nil while there was none
	moved      bool       // rows were taken away, or handed back, that a result must not end by its silence
	// When it was sent: the flow's epoch, and whether its batch was of another revision than the active one.
	epoch         uint32
	otherRevision bool
	sentAt        time.Time // first
}

// early reports whether the part's batch may be of another revision than the active one.
func (p *Part) mayBeOtherRevision() bool {
	return p.otherRevision || p.epoch != p.workerFlow.flow.epoch
}

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
func (p *Part) isOpen(i uint32) bool {
	return p.open > 0 && (p.closedRows == nil || !p.closedRows.Has(i))
}

// close takes the part's i-th row from the worker; false when it was not the worker's any more.
func (p *Part) close(i uint32) bool {
	if p.open == 0 {
		return false
	}
	if p.closedRows == nil {
		p.closedRows = bitset.New(p.Len())
	}
	if !p.closedRows.Add(i) {
		return false
	}
	p.open--
	p.workerFlow.addUnanswered(-1)
	if len(p.Batch.Keys) > 0 {
		p.countAnswered(i)
	}
	return true
}

// answered counts the part's i-th row, which has a key, as the worker's no more.
func (p *Part) countAnswered(i uint32) {
	slot := p.Batch.slot(p.Row(i))
	p.workerFlow.addShare(slot, -1)
	f := p.workerFlow.flow
	if f.counts != nil {
		f.counts.add(slot, -1, p.mayBeOtherRevision())
	}
	if len(f.held) > 0 {
		f.countHandedOver(slot)
	}
}

// window is the parts sent to a worker, by number.
type sentParts struct {
	first uint64  // the number of parts[0]
	parts []*Part // nil once every row is answered; parts[0] is not nil
}

func (sent *sentParts) next() uint64 {
	if sent.first == 0 {
		sent.first = 1
	}
	return sent.first + uint64(len(sent.parts))
}

func (sent *sentParts) part(number uint64) *Part {
	if number < sent.first || number-sent.first >= uint64(len(sent.parts)) {
		return nil
	}
	return sent.parts[number-sent.first]
}

// append puts a new part behind the workerFlow's others.
func (wf *workerFlow) append(p *Part) {
	if p.prev = wf.last; p.prev != nil {
		p.prev.next = p
	} else {
		wf.first = p
	}
	wf.last = p
}

// drop forgets a part of which every row is answered or taken away.
func (p *Part) drop() {
	p.relink(p.next, p.prev)
	p.workerFlow.worker.sent.drop(p.Number)
}

// relink has the part's neighbours, or the workerFlow's ends, point to others instead of it.
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

// replace puts a part of what is open of p into its place.
func (p *Part) replace() *Part {
	n := &Part{Number: p.Number, Batch: p.Batch, Rows: p.rest().rows, Deaths: p.Deaths, workerFlow: p.workerFlow,
		prev: p.prev, next: p.next, open: p.open, epoch: p.epoch, otherRevision: p.otherRevision, sentAt: p.sentAt}
	p.relink(n, n)
	sent := &p.workerFlow.worker.sent
	sent.parts[p.Number-sent.first] = n
	return n
}

func (sent *sentParts) drop(number uint64) {
	sent.parts[number-sent.first] = nil
	n := 0
	for n < len(sent.parts) && sent.parts[n] == nil {
		n++
	}
	sent.parts = sent.parts[n:]
	sent.first += uint64(n)
}

// A part may overdraw what credit is left up to this much, so that the end of a window is not sent in crumbs.
const (
	overdrawRows  = 1024
	overdrawBytes = 64 << 10
)

// mayRun reports whether the worker may be sent rows of this workerFlow now. One that hands slots over may have kept some.
func (wf *workerFlow) maySend() bool {
	return wf.hasCredit() && (wf.mayServe() || wf.handingOver > 0 && !wf.isLeaving())
}

func (wf *workerFlow) hasCredit() bool {
	return wf.worker.connected && !wf.worker.resending && wf.creditRows > 0 && wf.creditBytes > 0
}

// pump sends what the workerFlow's queue and credit allow.
func (s *Scheduler) sendQueued(wf *workerFlow) {
	if wf.queue.empty() && !wf.hasAside() {
		return
	}
	if wf.flow.handOver != nil { // which slots are the workerFlow's is not settled
		s.sendQueuedSoon(wf)
		return
	}
	if wf.hasAside() && !s.readmit(wf) {
		s.sendQueuedSoon(wf)
		return
	}
	for {
		for !wf.queue.empty() && wf.queue.front().batch.over {
			s.spend(costSegment)
			s.noteUnqueued(wf, wf.queue.front())
			wf.queue.pop()
		}
		if wf.queue.empty() {
			wf.mayMixRevisions = wf.mayMixRevisions && wf.hasAside()
			return
		}
		if !wf.maySend() {
			return
		}
		if s.budget <= 0 {
			s.sendQueuedSoon(wf)
			return
		}
		g := wf.queue.front()
		if !s.admit(wf, g) {
			wf.queue.pop()
			continue
		}
		part := segment{batch: g.batch, deaths: g.deaths}
		var rest []uint32
		if part.rows, rest = wf.fit(g, math.MaxInt64); rest == nil {
			wf.queue.pop()
		} else {
			g.rows = rest
		}
		s.send(wf, part)
	}
}

// fit divides a segment into what the credit, and the worker, allow to be sent now, which is at least one row and no more than
// most, and the rest. A row that alone is more than the worker takes is alone in its part.
func (wf *workerFlow) fit(g *segment, most int64) (rows, rest []uint32) {
	b := g.batch
	w := wf.worker
	maxRows, maxBytes := min(most, max(wf.creditRows, overdrawRows), w.partRows), min(max(wf.creditBytes, overdrawBytes), w.partBytes)
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
func (s *Scheduler) send(wf *workerFlow, g segment) {
	w, f := wf.worker, wf.flow
	p := &Part{
		Number: w.sent.next(), Batch: g.batch, Rows: g.rows, Deaths: g.deaths, workerFlow: wf, open: g.len(), epoch: f.epoch,
		otherRevision: g.batch.revision() != f.revision, sentAt: s.now,
	}
	s.spend(costPart + p.open)
	w.sent.parts = append(w.sent.parts, p)
	wf.append(p)
	wf.addUnanswered(p.open)
	if p.Deaths >= survivableDeaths {
		w.suspects = append(slices.DeleteFunc(w.suspects, func(p *Part) bool { return p.open == 0 }), p)
	}
	if len(p.Batch.Keys) > 0 {
		p.eachOpen(func(i uint32) {
			slot := p.Batch.slot(p.Row(i))
			wf.addShare(slot, 1)
			if f.counts != nil {
				f.counts.add(slot, 1, p.otherRevision)
			}
		})
		if f.unanswered > countFrom {
			s.countsOf(f)
		}
	}
	wf.takeCredit(p)
	s.act(Send{Worker: w.id, Part: p})
}

// resume sends the next part of a worker again that did not reach it.
func (s *Scheduler) sendNextAgain(w *worker) {
	s.spend(costPart)
	sent := &w.sent
	w.resendNext = max(w.resendNext, sent.first)
	if !w.resending || w.resendNext >= sent.next() {
		s.resending = slices.DeleteFunc(s.resending, func(o *worker) bool { return o == w })
		if w.resending {
			w.resending = false
			s.afterResending(w)
		}
		return
	}
	p := sent.part(w.resendNext)
	if w.resendNext++; p != nil {
		s.sendAgain(p)
	}
}

// resumed goes on with new parts once all are sent again.
func (s *Scheduler) afterResending(w *worker) {
	for _, wf := range w.workerFlows {
		s.spend(costSlot)
		s.askForRowsAgain(wf)
		s.readmitWorker(wf)
		if !wf.queue.empty() || wf.hasAside() {
			s.sendQueuedSoon(wf)
		}
		s.sendWholeSoon(wf.flow)
	}
}

// sendAgain sends a part that did not reach its worker, without the rows that shall run elsewhere: a key's later rows must
// not run there before the earlier ones, which are elsewhere already.
func (s *Scheduler) sendAgain(p *Part) {
	wf, w := p.workerFlow, p.workerFlow.worker
	s.spend(p.Len())
	switch {
	case p.Batch.over:
		p.closeAll()
	case len(p.Batch.Keys) > 0:
		p.takeAway(func(h *heldSlot) bool { return !h.keepsRows })
	case !wf.mayServe():
		g := p.rest()
		p.closeAll()
		s.queueWhole(wf.flow, g, true)
	}
	if len(wf.flow.handedOverSlots) > 0 {
		s.wake(wf.flow)
	}
	if p.open == 0 {
		p.drop()
		return
	}
	if p.open < p.Len() {
		p = p.replace()
	}
	wf.takeCredit(p)
	s.act(Send{Worker: w.id, Part: p})
}

// load counts rows that were sent, or, below zero, that are the worker's no more.
func (wf *workerFlow) addUnanswered(rows int) {
	wf.unanswered += int64(rows)
	wf.flow.unanswered += int64(rows)
	if wf.ready {
		wf.flow.loads[wf.worker.seat] = wf.unanswered
	}
}

// pay takes a part from the workerFlow's credit.
func (wf *workerFlow) takeCredit(p *Part) {
	wf.creditRows -= int64(p.Len())
	if p.Rows == nil {
		wf.creditBytes -= int64(p.Batch.Ends[p.Batch.Rows()-1])
		return
	}
	for _, r := range p.Rows {
		wf.creditBytes -= p.Batch.size(r)
	}
}

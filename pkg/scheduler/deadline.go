package scheduler

import (
	"container/heap"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// step handles Tick: for each flow it notes whether slots are held for too long, rows waited too long for a ready worker, or a
// sweep is due. Pending work follows. Batches whose deadline passed are found by deadlinePassed.
func (Tick) step(s *Scheduler) {
	s.ticked = s.now
	for _, f := range s.flows {
		f.expiryDue = f.expiryDue || len(f.held.slots) > 0 && !f.held.expiry.After(s.now)
		f.starvationDue = f.starvationDue || f.readyCount() == 0 && (!f.waiting.empty() || len(f.wholeLines) > 0) && s.now.Sub(f.waitingSince) >= s.config.NoWorker
		f.sweepDue = f.sweepDue || f.sweep.isDue(s.now)
		if f.expiryDue || f.starvationDue || f.sweepDue {
			s.wake(f)
		}
	}
}

// failStarving fails all waiting rows of a flow that had no ready worker for too long. It stops early if a worker is ready, or
// when the Step's budget is used up; in the second case it goes on in the next Step.
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
		pointNoWorker.Hit()
		s.fail(g.batch, g.list(), batch.Failed, batch.CodeNoCapableWorker)
	}
	f.starvationDue = false
}

// fail gives rows of a batch an outcome that no worker gave, counts it, and adds the action Fail. rows are places in the
// batch. Rows that have an outcome already are left out, and so are all rows of a batch that is over.
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

// countEnded notes that so many more rows of a batch have their outcome. It returns true if no row is left without one; then
// the batch is over.
func (s *Scheduler) countEnded(b *Batch, rows int) bool {
	b.remaining -= rows
	if b.remaining > 0 {
		return false
	}
	b.over = true
	s.deadlines.remove(b)
	b.flow.open.remove(b)
	return true
}

// step handles Cancelled: the batch is over, and all its rows that have no outcome count as failed. Queued rows of it are
// dropped when their turn comes, or by a sweep.
func (e Cancelled) step(s *Scheduler) {
	b := e.Batch
	if b.over || b.flow == nil {
		return
	}
	pointCancelled.Hit()
	b.flow.ledger.Outcomes[batch.Failed] += uint64(b.remaining)
	b.flow.sweep.over++
	b.cancelled = true
	s.countEnded(b, b.remaining)
}

// deadlines is a heap (container/heap) of the batches that have a deadline and are not over, the batch with the earliest
// deadline first.
type deadlines []*Batch

// add puts a batch that has a deadline into the heap.
func (d *deadlines) add(b *Batch) { heap.Push(d, b) }

// remove takes a batch out, if it is in the heap.
func (d *deadlines) remove(b *Batch) {
	if b.heapIndex >= 0 {
		heap.Remove(d, b.heapIndex)
	}
}

// Len returns the number of batches. Like the next four methods, it is there for container/heap.
func (d deadlines) Len() int { return len(d) }

// Less reports whether the i-th batch has an earlier deadline than the j-th.
func (d deadlines) Less(i, j int) bool { return d[i].Deadline.Before(d[j].Deadline) }

// Swap swaps two batches, and sets their heapIndex to their new places.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapIndex, d[j].heapIndex = i, j
}

// Push appends a batch, for heap.Push only: to add one, call add.
func (d *deadlines) Push(x any) {
	b := x.(*Batch)
	b.heapIndex = len(*d)
	*d = append(*d, b)
}

// Pop removes and returns the last batch of the slice, for package heap only: to take a batch out, call remove.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	b := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	b.heapIndex = -1
	return b
}

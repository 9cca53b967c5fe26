package scheduler

import (
	"math/bits"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Batches without keys have no order to keep. Each one goes to any worker that can run it and has credit, and must not wait behind
// a batch that no worker can take now. So there are several lines: one for each revision, and one for each class of batches that are
// too large for some workers.

// wholeLine is a queue of batches without keys that the same workers can take: they run on the same revision, and are of
// about the same size.
type wholeLine struct {
	revision  batch.Revision
	sizeClass sizeClass // zero for batches that every worker takes
	returned  queue     // batches, or rests of batches, that a worker had before; they go first
	submitted queue     // batches that no worker has had yet
}

// sizeClass says roughly how large a batch is: rows and bytes are the numbers of binary digits of its number of rows and of
// its bytes. The zero sizeClass is for every batch that is small enough for all workers.
type sizeClass struct{ rows, bytes int }

// sizeClassOf returns the size class of a batch; it is zero if no worker so far has a limit that the batch exceeds.
func (s *Scheduler) sizeClassOf(b *Batch) sizeClass {
	rows, bytes := b.Rows(), int64(b.Ends[b.Rows()-1])
	if int64(rows) <= s.leastRows && bytes <= s.leastBytes {
		return sizeClass{}
	}
	return sizeClass{bits.Len(uint(rows)), bits.Len64(uint64(bytes))}
}

// takes reports whether the batch with all its rows is within the worker's limits for one part.
func (w *worker) takes(b *Batch) bool {
	return int64(b.Rows()) <= w.partRows && int64(b.Ends[len(b.Ends)-1]) <= w.partBytes
}

// next returns the queue of the line's next batch; nil means that the line is empty. It drops batches that are over.
func (line *wholeLine) next() *queue {
	for _, q := range [...]*queue{&line.returned, &line.submitted} {
		for !q.empty() && q.front().batch.over {
			q.pop()
		}
		if !q.empty() {
			return q
		}
	}
	return nil
}

// queueWhole queues a batch without keys, or rows of one, in the line for its revision and size, and sends all batches of the
// flow that can be sent. again says that a worker had the rows before.
func (s *Scheduler) queueWhole(f *flow, g segment, again bool) {
	s.noteWaiting(f)
	revision, size := g.batch.revision(), s.sizeClassOf(g.batch)
	i := slices.IndexFunc(f.wholeLines, func(line *wholeLine) bool { return line.revision == revision && line.sizeClass == size })
	if i < 0 {
		i = len(f.wholeLines)
		f.wholeLines = append(f.wholeLines, &wholeLine{revision: revision, sizeClass: size})
	}
	q := &f.wholeLines[i].submitted
	if again {
		q = &f.wholeLines[i].returned
	}
	q.push(g)
	s.sendWhole(f)
}

// sendWhole sends the flow's batches without keys, the oldest first, each to the least loaded worker with credit that can take
// it. It stops when no batch can be sent, or when the Step's budget is used up; in the second case it goes on as pending work.
func (s *Scheduler) sendWhole(f *flow) {
	for {
		if s.budget <= 0 {
			s.sendWholeSoon(f)
			return
		}
		// Find the oldest batch that some worker can take now: only the first batch of each line needs a look.
		var first *queue
		var to *workerFlow
		for i := 0; i < len(f.wholeLines); i++ {
			q := f.wholeLines[i].next()
			if q == nil {
				f.wholeLines = slices.Delete(f.wholeLines, i, i+1)
				i--
				continue
			}
			if first != nil && first.front().batch.arrival < q.front().batch.arrival {
				continue
			}
			s.spend(costSegment + len(f.loads)/16)
			if wf := f.workerForWhole(q.front().batch); wf != nil {
				first, to = q, wf
			}
		}
		if first == nil {
			return
		}
		g := *first.front()
		first.pop()
		s.send(to, g)
	}
}

// workerForWhole returns the worker flow to which a batch without keys can be sent now; nil means that the batch has to wait.
func (f *flow) workerForWhole(b *Batch) *workerFlow {
	if b.revision() != f.revision {
		if wf, some := f.stillOn(b); some {
			pointEarlier.Hit()
			return wf
		}
	}
	return f.leastLoaded(b)
}

// stillOn looks for workers that still run the batch's revision, which is not the active one, and so can certainly run the
// batch. best is the least loaded worker flow of them that has credit; nil means that none has. some says that there is at
// least one, with credit or without.
func (f *flow) stillOn(b *Batch) (best *workerFlow, some bool) {
	revision := b.revision()
	for wf := range f.each {
		if wf.acknowledged != revision || !wf.worker.connected || wf.worker.cordoned || wf.isLeaving() || !wf.worker.takes(b) {
			continue
		}
		some = true
		if wf.hasCredit() && (best == nil || wf.unanswered < best.unanswered) {
			best = wf
		}
	}
	return best, some
}

// leastLoaded returns the ready worker flow with credit that has the fewest unanswered rows, among those whose worker's limits
// allow the batch; nil means that it has to wait. If the batch is too large for all ready workers, with credit or without, any
// of them will do: it reports the batch's rows as too large.
func (f *flow) leastLoaded(b *Batch) *workerFlow {
	best := f.leastLoadedWhere(func(*worker) bool { return true })
	if best == nil || best.worker.takes(b) {
		return best
	}
	takers := false
	better := f.leastLoadedWhere(func(w *worker) bool {
		takes := w.takes(b)
		takers = takers || takes
		return takes
	})
	if better == nil && !takers {
		pointTooLarge.Hit()
		return best
	}
	return better
}

// leastLoadedWhere returns the ready worker flow with credit that has the fewest unanswered rows, among those for whose worker
// may returns true; nil means that there is none.
func (f *flow) leastLoadedWhere(may func(*worker) bool) *workerFlow {
	var best *workerFlow
	least := int64(notReady)
	for seat, load := range f.loads {
		if load < least && may(f.workerFlows[seat].worker) && f.workerFlows[seat].maySend() {
			best, least = f.workerFlows[seat], load
		}
	}
	return best
}

package scheduler

import (
	"math/bits"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Batches without keys have no order to keep. So each goes to whichever worker can run it and has credit, and one that can't
// go anywhere now holds up none that could: those of a revision stand in a line of their own, and so do those of about one size that
// not every worker takes.

// wholeLine is batches that can all go to the same workers.
type wholeLine struct {
	revision  batch.Revision
	sizeClass sizeClass
	returned  queue // those that a worker had already
	submitted queue
}

// size is about what a batch measures which some worker does not take: the lengths of its rows and bytes as binary numbers.
// Zero: all take it.
type sizeClass struct{ rows, bytes int }

func (s *Scheduler) sizeClassOf(b *Batch) sizeClass {
	rows, bytes := b.Rows(), int64(b.Ends[b.Rows()-1])
	if int64(rows) <= s.leastRows && bytes <= s.leastBytes {
		return sizeClass{}
	}
	return sizeClass{bits.Len(uint(rows)), bits.Len64(uint64(bytes))}
}

// takes reports whether the whole batch may go to the worker as one part.
func (w *worker) takes(b *Batch) bool {
	return int64(b.Rows()) <= w.partRows && int64(b.Ends[len(b.Ends)-1]) <= w.partBytes
}

// next is the queue that the line's next batch is in; nil: there is none.
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

// whole queues a batch that goes to one worker whole, and sends what can go.
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

// pumpWhole sends whole batches to the least loaded workers that have credit, those first that came first.
func (s *Scheduler) sendWhole(f *flow) {
	for {
		if s.budget <= 0 {
			s.sendWholeSoon(f)
			return
		}
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

// runner is the workerFlow that a whole batch goes to now; nil for none.
func (f *flow) workerForWhole(b *Batch) *workerFlow {
	if b.revision() != f.revision {
		if wf, some := f.stillOn(b); some {
			return wf
		}
	}
	return f.leastLoaded(b)
}

// remaining is the least loaded workerFlow with credit whose worker is still on the batch's revision, not the active one, and so can
// certainly run it; nil for none. some: there are such workers, if only without credit.
func (f *flow) stillOn(b *Batch) (best *workerFlow, some bool) {
	revision := b.revision()
	for wf := range f.each {
		if wf.acknowledged != revision || !wf.worker.connected || wf.isLeaving() || !wf.worker.takes(b) {
			continue
		}
		some = true
		if wf.hasCredit() && (best == nil || wf.unanswered < best.unanswered) {
			best = wf
		}
	}
	return best, some
}

// leastLoaded is the ready workerFlow with credit that has the fewest rows to answer; nil for none. Its worker takes a batch of that
// size, if any ready one does; where none does, whoever is sent the batch has its rows failed.
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
		return best
	}
	return better
}

// least is the ready workerFlow with credit that has the fewest rows to answer, of those whose worker may do; nil for none.
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

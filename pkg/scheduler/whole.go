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
	revision batch.Revision
	size     size
	again    queue // those that a worker had already
	fresh    queue
}

// size is about what a batch measures which some worker does not take: the lengths of its rows and bytes as binary numbers.
// Zero: all take it.
type size struct{ rows, bytes int }

func (s *Scheduler) size(b *Batch) size {
	rows, bytes := b.Rows(), int64(b.Ends[b.Rows()-1])
	if int64(rows) <= s.leastRows && bytes <= s.leastBytes {
		return size{}
	}
	return size{bits.Len(uint(rows)), bits.Len64(uint64(bytes))}
}

// takes reports whether the whole batch may go to the worker as one part.
func (w *worker) takes(b *Batch) bool {
	return int64(b.Rows()) <= w.partRows && int64(b.Ends[len(b.Ends)-1]) <= w.partBytes
}

// next is the queue that the line's next batch is in; nil: there is none.
func (l *wholeLine) next() *queue {
	for _, q := range [...]*queue{&l.again, &l.fresh} {
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
func (s *Scheduler) whole(f *flow, g segment, again bool) {
	s.starve(f)
	revision, size := g.batch.revision(), s.size(g.batch)
	i := slices.IndexFunc(f.wholes, func(l *wholeLine) bool { return l.revision == revision && l.size == size })
	if i < 0 {
		i = len(f.wholes)
		f.wholes = append(f.wholes, &wholeLine{revision: revision, size: size})
	}
	q := &f.wholes[i].fresh
	if again {
		q = &f.wholes[i].again
	}
	q.push(g)
	s.pumpWhole(f)
}

// pumpWholeSoon sends whole batches when it is their turn.
func (s *Scheduler) pumpWholeSoon(f *flow) {
	if len(f.wholes) > 0 {
		f.pumpsWhole = true
		s.wake(f)
	}
}

// pumpWhole sends whole batches to the least loaded workers that have credit, those first that came first.
func (s *Scheduler) pumpWhole(f *flow) {
	for {
		if s.budget <= 0 {
			s.pumpWholeSoon(f)
			return
		}
		var first *queue
		var to *link
		for i := 0; i < len(f.wholes); i++ {
			q := f.wholes[i].next()
			if q == nil {
				f.wholes = slices.Delete(f.wholes, i, i+1)
				i--
				continue
			}
			if first != nil && first.front().batch.arrival < q.front().batch.arrival {
				continue
			}
			s.spend(costSegment + len(f.loads)/16)
			if l := f.runner(q.front().batch); l != nil {
				first, to = q, l
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

// runner is the link that a whole batch goes to now; nil for none.
func (f *flow) runner(b *Batch) *link {
	if b.revision() != f.revision {
		if l, some := f.remaining(b); some {
			return l
		}
	}
	return f.leastLoaded(b)
}

// remaining is the least loaded link with credit whose worker is still on the batch's revision, not the active one, and so can
// certainly run it; nil for none. some: there are such workers, if only without credit.
func (f *flow) remaining(b *Batch) (best *link, some bool) {
	revision := b.revision()
	for l := range f.each {
		if l.acknowledged != revision || !l.worker.connected || l.isLeaving() || !l.worker.takes(b) {
			continue
		}
		some = true
		if l.hasCredit() && (best == nil || l.unanswered < best.unanswered) {
			best = l
		}
	}
	return best, some
}

// leastLoaded is the ready link with credit that has the fewest rows to answer; nil for none. Its worker takes a batch of that
// size, if any ready one does; where none does, whoever is sent the batch has its rows failed.
func (f *flow) leastLoaded(b *Batch) *link {
	best := f.least(func(*worker) bool { return true })
	if best == nil || best.worker.takes(b) {
		return best
	}
	takers := false
	better := f.least(func(w *worker) bool {
		takes := w.takes(b)
		takers = takers || takes
		return takes
	})
	if better == nil && !takers {
		return best
	}
	return better
}

// least is the ready link with credit that has the fewest rows to answer, of those whose worker may do; nil for none.
func (f *flow) least(may func(*worker) bool) *link {
	var best *link
	least := int64(notReady)
	for seat, load := range f.loads {
		if load < least && may(f.links[seat].worker) && f.links[seat].mayRun() {
			best, least = f.links[seat], load
		}
	}
	return best
}

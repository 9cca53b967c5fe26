package scheduler

import "github.com/kisgrid/kisgrid/internal/keyslot"

// A hand-over must know of which slots rows are with workers. Looking through all parts for that takes as long as there are
// rows, so a flow with many of them counts them by slot, as they are sent and answered. One with few is counted when it is
// asked, and from then on: what counts take is never much beside what the rows do.

const (
	countFrom = 8192 // unanswered rows
	countTo   = 512
)

// slotCounts counts a flow's unanswered rows that have a key, wherever they are, by slot.
type slotCounts struct {
	open [keyslot.Count]int32
	// earlier are those of them that may be of another revision than the active one; nil: none is.
	otherRevision []int32
}

// counted is the flow's counts.
func (s *Scheduler) countsOf(f *flow) *slotCounts {
	if f.counts != nil {
		return f.counts
	}
	if n := len(s.spareCounts); n > 0 {
		f.counts, s.spareCounts = s.spareCounts[n-1], s.spareCounts[:n-1]
	} else {
		f.counts = new(slotCounts)
	}
	s.spend(int(f.unanswered))
	for wf := range f.each {
		f.countLink(wf)
	}
	for _, from := range f.inbox {
		if dead, ok := from.(*lostParts); ok {
			f.countLink(dead.workerFlow)
		}
	}
	return f.counts
}

func (f *flow) countLink(wf *workerFlow) {
	for p := wf.first; p != nil; p = p.next {
		if len(p.Batch.Keys) > 0 {
			p.eachOpen(func(i uint32) { f.counts.add(p.Batch.slot(p.Row(i)), 1, p.mayBeOtherRevision()) })
		}
	}
}

func (c *slotCounts) add(slot uint16, n int32, early bool) {
	c.open[slot] += n
	if early {
		if c.otherRevision == nil {
			c.otherRevision = make([]int32, keyslot.Count)
		}
		c.otherRevision[slot] += n
	}
}

// switched makes all that is counted so far rows of another revision than the active one.
func (c *slotCounts) switched() {
	if c.otherRevision == nil {
		c.otherRevision = make([]int32, keyslot.Count)
	}
	copy(c.otherRevision, c.open[:])
}

// uncount ends the counting where few rows are left.
func (s *Scheduler) stopCounting(f *flow) {
	if f.counts == nil || f.unanswered > countTo || f.handOver != nil {
		return
	}
	if c := f.counts; len(s.spareCounts) < 4 {
		if f.unanswered > 0 {
			clear(c.open[:])
		}
		c.otherRevision = nil
		s.spareCounts = append(s.spareCounts, c)
	}
	f.counts = nil
}

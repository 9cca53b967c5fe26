package scheduler

import "github.com/kisgrid/kisgrid/internal/keyslot"

// A hand-over must know of which slots rows are with workers. To find out it would have to look at all parts, which takes longer the
// more rows there are. So a flow with many unanswered rows counts them by slot whenever rows are sent and answered. A flow with few
// rows is counted when a hand-over asks, and counts from then on. In both cases counting costs little beside the work on the rows.

// A flow begins to count its unanswered rows by slot when it has more than countFrom of them, and stops when it has at most
// countTo.
const (
	countFrom = 8192
	countTo   = 512
)

// slotCounts counts, for each slot, the rows with a key that workers have not answered, over all workers of one flow.
type slotCounts struct {
	// open counts the rows of each slot that are not answered.
	open [keyslot.Count]int32
	// otherRevision counts, by slot, the rows in open that may be of another revision than the active one; nil means that
	// there are none.
	otherRevision []int32
}

// countsOf returns the slotCounts of a flow. If the flow does not count its rows by slot yet, countsOf counts them, and the
// flow keeps the counts up to date from then on.
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
		f.countRows(wf)
	}
	for _, from := range f.inbox {
		if dead, ok := from.(*lostParts); ok {
			f.countRows(dead.workerFlow)
		}
	}
	return f.counts
}

// countRows adds the unanswered rows of a worker flow that have a key to f.counts, which must not be nil.
func (f *flow) countRows(wf *workerFlow) {
	for p := wf.first; p != nil; p = p.next {
		if len(p.Batch.Keys) > 0 {
			p.eachOpen(func(i partRow) { f.counts.add(p.Batch.slot(p.row(i)), 1, p.mayBeOtherRevision()) })
		}
	}
}

// add adds n to the number of unanswered rows of a slot; n is below zero for rows that were answered or taken away. early says
// that the rows may be of another revision than the active one.
func (c *slotCounts) add(slot uint16, n int32, early bool) {
	c.open[slot] += n
	if early {
		if c.otherRevision == nil {
			c.otherRevision = make([]int32, keyslot.Count)
		}
		c.otherRevision[slot] += n
	}
}

// switched is called when another revision becomes the active one: all rows counted so far may be of another revision then.
func (c *slotCounts) switched() {
	if c.otherRevision == nil {
		c.otherRevision = make([]int32, keyslot.Count)
	}
	copy(c.otherRevision, c.open[:])
}

// stopCounting ends the counting by slot of a flow that has at most countTo unanswered rows, unless a hand-over is under way.
// It keeps up to four slotCounts for the next flows that count.
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

package scheduler

// A hand-over must know of which slots rows are with workers. Looking through all parts for that takes as long as there are
// rows, so a flow with many of them counts them by slot, as they are sent and answered. One with few is counted when it is
// asked, and from then on: what counts take is never much beside what the rows do.

const (
	countFrom = 8192 // unanswered rows
	countTo   = 512
)

// slotCounts counts a flow's unanswered rows that have a key, wherever they are, by slot.
type slotCounts struct {
	open [Slots]int32
	// earlier are those of them that may be of another revision than the active one; nil: none is.
	earlier []int32
}

// counted is the flow's counts.
func (s *Scheduler) counted(f *flow) *slotCounts {
	if f.counts != nil {
		return f.counts
	}
	if n := len(s.spare); n > 0 {
		f.counts, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		f.counts = new(slotCounts)
	}
	s.spend(int(f.unanswered))
	for l := range f.each {
		f.countLink(l)
	}
	for _, from := range f.inbox {
		if dead, ok := from.(*residue); ok {
			f.countLink(dead.link)
		}
	}
	return f.counts
}

func (f *flow) countLink(l *link) {
	for p := l.first; p != nil; p = p.next {
		if len(p.Batch.Keys) > 0 {
			p.eachOpen(func(i uint32) { f.counts.add(p.Batch.slot(p.Row(i)), 1, p.early()) })
		}
	}
}

func (c *slotCounts) add(slot uint16, n int32, early bool) {
	c.open[slot] += n
	if early {
		if c.earlier == nil {
			c.earlier = make([]int32, Slots)
		}
		c.earlier[slot] += n
	}
}

// switched makes all that is counted so far rows of another revision than the active one.
func (c *slotCounts) switched() {
	if c.earlier == nil {
		c.earlier = make([]int32, Slots)
	}
	copy(c.earlier, c.open[:])
}

// uncount ends the counting where few rows are left.
func (s *Scheduler) uncount(f *flow) {
	if f.counts == nil || f.unanswered > countTo || f.move != nil {
		return
	}
	if c := f.counts; len(s.spare) < 4 {
		if f.unanswered > 0 {
			clear(c.open[:])
		}
		c.earlier = nil
		s.spare = append(s.spare, c)
	}
	f.counts = nil
}

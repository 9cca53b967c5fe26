package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// scratch is what split reuses from batch to batch.
type splitBuffers struct {
	counts []int      // by seat, how many of the rows are its; zero in between
	rows   [][]uint32 // by seat, the rows; nil in between
	seats  []uint16   // those with rows
}

func (e Submitted) step(s *Scheduler) {
	b := e.Batch
	f := s.flow(b.Flow)
	s.arrivals++
	b.flow, b.arrival, b.remaining, b.heapIndex, b.submittedAt = f, s.arrivals, b.Rows()-len(b.Ended), -1, s.now
	f.ledger.In += uint64(b.Rows())
	for i := range b.Ended {
		f.ledger.Outcomes[b.Ended[i].Outcome]++
	}
	if b.remaining == 0 {
		b.over = true
		s.act(Finish{Batch: b})
		return
	}
	if !b.Deadline.IsZero() {
		s.deadlines.add(b)
	}
	g := segment{batch: b}
	if len(b.Ended) > 0 {
		g.rows = b.openRows()
	}
	switch {
	case len(b.Keys) == 0:
		s.queueWhole(f, g, false)
	case f.settled():
		s.route(f, g)
	default:
		f.submitted.push(g)
		s.wake(f)
	}
}

// route divides a segment, whose rows have keys, over the queues of the workerFlows that own its rows' slots, and sends what may be
// sent.
func (s *Scheduler) route(f *flow, g segment) {
	s.spend(costSegment + 2*g.len())
	if g.batch.over {
		return
	}
	if len(f.held.slots) > 0 {
		s.spend(3 * g.len())
		if g = f.held.holdBack(g); g.len() == 0 {
			return
		}
	}
	switch f.readyCount() {
	case 0:
		s.noteWaiting(f)
		f.waiting.push(g)
	case 1:
		wf := f.owner(0)
		wf.push(g)
		s.sendQueued(wf)
	default:
		s.split(f, g)
	}
}

// split counts the rows of each workerFlow, carves their index out of one allocation, and fills it.
func (s *Scheduler) split(f *flow, g segment) {
	b, owner := g.batch, &f.table.owner
	if n := len(f.workerFlows); len(s.splitBuffers.counts) < n {
		s.splitBuffers = splitBuffers{counts: make([]int, n), rows: make([][]uint32, n)}
	}
	counts, rows, seats := s.splitBuffers.counts, s.splitBuffers.rows, s.splitBuffers.seats[:0]
	if g.rows == nil {
		for _, key := range b.Keys {
			o := owner[keyslot.Of(key)]
			if counts[o]++; counts[o] == 1 {
				seats = append(seats, o)
			}
		}
	} else {
		for _, r := range g.rows {
			o := owner[b.slot(r)]
			if counts[o]++; counts[o] == 1 {
				seats = append(seats, o)
			}
		}
	}
	s.splitBuffers.seats = seats
	if len(seats) == 1 {
		counts[seats[0]] = 0
		wf := f.workerFlows[seats[0]]
		wf.push(g)
		s.sendQueued(wf)
		return
	}
	slices.Sort(seats)
	index := make([]uint32, g.len())
	for _, o := range seats {
		rows[o], index = index[:0:counts[o]], index[counts[o]:]
		counts[o] = 0
	}
	if g.rows == nil {
		for r, key := range b.Keys {
			o := owner[keyslot.Of(key)]
			rows[o] = append(rows[o], uint32(r))
		}
	} else {
		for _, r := range g.rows {
			o := owner[b.slot(r)]
			rows[o] = append(rows[o], r)
		}
	}
	for _, o := range seats {
		wf := f.workerFlows[o]
		wf.push(segment{batch: b, rows: rows[o], deaths: g.deaths})
		rows[o] = nil
		s.sendQueued(wf)
	}
}

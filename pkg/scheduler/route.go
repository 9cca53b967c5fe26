package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// splitBuffers is memory that Scheduler.split uses again for each batch.
type splitBuffers struct {
	counts []int      // by seat, how many rows of the segment the worker gets; all 0 between two calls
	rows   [][]uint32 // by seat, the rows that the worker gets; all nil between two calls
	seats  []uint16   // the seats that get rows
}

// route divides a segment, whose rows have keys, over the queues of the worker flows that own the rows' slots. It sends as
// much as credit allows. Rows of held slots wait instead, and so do all rows while no worker is ready.
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

// split divides a segment by the owners of its rows' slots, queues each owner's rows, and sends as much as credit allows. It
// counts the rows of each owner first, so that one allocation holds the lists of all.
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

package scheduler

import "slices"

// scratch is what split reuses from batch to batch.
type scratch struct {
	counts []int      // by seat, how many of the rows are its; zero in between
	rows   [][]uint32 // by seat, the rows; nil in between
	seats  []uint16   // those with rows
}

func (e Submitted) step(s *Scheduler) {
	b := e.Batch
	f := s.flow(b.Flow)
	s.arrivals++
	b.flow, b.arrival, b.remaining, b.heapIndex = f, s.arrivals, b.Rows()-len(b.Ended), -1
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
		g.rows = b.open()
	}
	s.route(f, g)
}

// route divides a segment over the queues of the links that own its rows' slots, and sends what may be sent.
func (s *Scheduler) route(f *flow, g segment) {
	if len(g.batch.Keys) == 0 {
		s.starve(f)
		f.whole.push(g)
		s.pumpWhole(f)
		return
	}
	if len(f.held) > 0 {
		if g = f.holdBack(g); g.len() == 0 {
			return
		}
	}
	if f.ready() == 0 {
		s.starve(f)
		f.waiting.push(g)
		return
	}
	if f.ready() == 1 {
		l := f.owner(0)
		l.queue.push(g)
		s.pump(l)
		return
	}
	s.split(f, g)
}

// starve notes since when rows wait for a worker to become ready.
func (s *Scheduler) starve(f *flow) {
	if f.ready() == 0 && f.waiting.empty() && f.whole.empty() {
		f.since = s.now
	}
}

// split counts the rows of each link, carves their index out of one allocation, and fills it.
func (s *Scheduler) split(f *flow, g segment) {
	b, owner := g.batch, &f.table.owner
	if n := len(f.links); len(s.scratch.counts) < n {
		s.scratch = scratch{counts: make([]int, n), rows: make([][]uint32, n)}
	}
	counts, rows, seats := s.scratch.counts, s.scratch.rows, s.scratch.seats[:0]
	if g.rows == nil {
		for _, key := range b.Keys {
			o := owner[Slot(key)]
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
	s.scratch.seats = seats
	if len(seats) == 1 {
		counts[seats[0]] = 0
		l := f.links[seats[0]]
		l.queue.push(g)
		s.pump(l)
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
			o := owner[Slot(key)]
			rows[o] = append(rows[o], uint32(r))
		}
	} else {
		for _, r := range g.rows {
			o := owner[b.slot(r)]
			rows[o] = append(rows[o], r)
		}
	}
	for _, o := range seats {
		l := f.links[o]
		l.queue.push(segment{batch: b, rows: rows[o], deaths: g.deaths})
		rows[o] = nil
		s.pump(l)
	}
}

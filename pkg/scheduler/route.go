package scheduler

// scratch is what route reuses from batch to batch.
type scratch struct {
	counts []int      // rows per ready link
	rows   [][]uint32 // their rows
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
	if len(f.ready) == 0 {
		s.starve(f)
		f.waiting.push(g)
		return
	}
	if len(f.ready) == 1 {
		f.ready[0].queue.push(g)
		s.pump(f.ready[0])
		return
	}
	s.split(f, g)
}

// starve notes since when rows wait for a worker to become ready.
func (s *Scheduler) starve(f *flow) {
	if len(f.ready) == 0 && f.waiting.empty() && f.whole.empty() {
		f.since = s.now
	}
}

// split counts the rows of each link, carves their index out of one allocation, and fills it.
func (s *Scheduler) split(f *flow, g segment) {
	b := g.batch
	n := len(f.ready)
	if cap(s.scratch.counts) < n {
		s.scratch = scratch{counts: make([]int, n), rows: make([][]uint32, n)}
	}
	counts, rows := s.scratch.counts[:n], s.scratch.rows[:n]
	clear(counts)
	if g.rows == nil {
		for _, key := range b.Keys {
			counts[f.owner[Slot(key)]]++
		}
	} else {
		for _, r := range g.rows {
			counts[f.owner[b.slot(r)]]++
		}
	}
	index := make([]uint32, g.len())
	for i, c := range counts {
		if c == g.len() {
			f.ready[i].queue.push(g)
			s.pump(f.ready[i])
			return
		}
		rows[i], index = index[:0:c], index[c:]
	}
	if g.rows == nil {
		for r, key := range b.Keys {
			o := f.owner[Slot(key)]
			rows[o] = append(rows[o], uint32(r))
		}
	} else {
		for _, r := range g.rows {
			o := f.owner[b.slot(r)]
			rows[o] = append(rows[o], r)
		}
	}
	for i, c := range counts {
		if c > 0 {
			f.ready[i].queue.push(segment{batch: b, rows: rows[i], deaths: g.deaths})
			s.pump(f.ready[i])
		}
		rows[i] = nil
	}
}

package client

import "time"

// keep has the keeper watch a batch of the outbox whose Timeout ends before those that it watches. The caller holds mu.
func (s *Stream) keep(p *Pending) {
	if !p.timed || !s.nearest.IsZero() && !p.deadline.Before(s.nearest) {
		return
	}
	s.nearest = p.deadline
	if !s.keeping {
		s.keeping = true
		s.keeper.Go(s.keepDeadlines)
	}
	wake(s.early)
}

// keepDeadlines ends batches whose Timeout is over while they wait to be sent: a deadline is a moment, whether a coordinator is
// there or not. It runs from the first batch that has one until the stream's end.
func (s *Stream) keepDeadlines() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.early:
		case <-s.ctx.Done():
			return // what is left ends with the stream
		}
		if next := s.expire(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// expire ends the batches of the outbox that are late, and returns when the next one will be; zero: none.
func (s *Stream) expire(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nearest = time.Time{}
	kept := s.outbox[:0]
	for _, p := range s.outbox {
		switch {
		case p.late(now):
			s.lapse(p)
			continue
		case p.timed && (s.nearest.IsZero() || p.deadline.Before(s.nearest)):
			s.nearest = p.deadline
		}
		kept = append(kept, p)
	}
	if len(kept) < len(s.outbox) {
		clear(s.outbox[len(kept):])
		s.outbox = kept
		wake(s.room)
		wake(s.work) // Close may have waited for them
	}
	return s.nearest
}

// lapse ends a batch that is late. The caller holds mu, and takes it out of the outbox.
func (s *Stream) lapse(p *Pending) {
	delete(s.unanswered, p.id.Sequence)
	s.queued = s.queued.minus(sizeOf(&p.columns))
	s.end(p, p.errLate(nil))
}

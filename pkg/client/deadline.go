package client

import "time"

// noteDeadline makes sure that watchDeadlines wakes up when the Timeout of a batch in the outbox is over. It does nothing for a batch
// without a Timeout. For the first batch with one it starts watchDeadlines. The caller holds mu.
func (s *Stream) noteDeadline(p *Pending) {
	if !p.timed || !s.nearest.IsZero() && !p.deadline.Before(s.nearest) {
		return
	}
	s.nearest = p.deadline
	if !s.watching {
		s.watching = true
		s.watcher.Go(s.watchDeadlines)
	}
	s.sooner.wake()
}

// watchDeadlines ends batches whose Timeout is over while they wait in the outbox, whether there is a coordinator or not. It is a
// goroutine of the stream, from the first batch with a Timeout until the stream's end.
func (s *Stream) watchDeadlines() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.sooner:
		case <-s.ctx.Done():
			return // the remaining batches end with the stream
		}
		if next := s.expire(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// expire ends the batches in the outbox whose Timeout is over at the time now. It returns the earliest Timeout of the batches that
// stay; the zero time means that none has one.
func (s *Stream) expire(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nearest = time.Time{}
	kept := s.outbox[:0]
	for _, p := range s.outbox {
		switch {
		case p.late(now):
			s.endLate(p)
			continue
		case p.timed && (s.nearest.IsZero() || p.deadline.Before(s.nearest)):
			s.nearest = p.deadline
		}
		kept = append(kept, p)
	}
	if len(kept) < len(s.outbox) {
		clear(s.outbox[len(kept):])
		s.outbox = kept
		s.room.wake()
		s.work.wake() // a Close may have waited for these batches
	}
	return s.nearest
}

// endLate ends a batch of the outbox whose Timeout is over. The caller holds mu, and takes the batch out of the outbox.
func (s *Stream) endLate(p *Pending) {
	pointLate.Hit()
	delete(s.unanswered, p.id.Sequence)
	s.queued = s.queued.minus(sizeOf(&p.columns))
	s.end(p, p.errLate(nil))
}

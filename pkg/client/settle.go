package client

import "fmt"

// complete ends a batch that was sent in the present session: with its result if err is nil, else with err. Only the session's goroutines
// call it.
func (s *Stream) complete(p *Pending, err error) {
	s.mu.Lock()
	delete(s.unanswered, p.id.Sequence)
	if err == nil {
		s.producer.answered(p.batch, s.flow, p.result)
	} else {
		p.err = s.producer.failed(p.batch, s.flow, err, true)
	}
	last := (s.closing || s.moving) && len(s.unanswered) == len(s.outbox)
	s.mu.Unlock()
	p.endTrace(p.err)
	close(p.done)
	if last {
		s.work.wake()
	}
}

// end ends a batch that is not sent in the present session, with an error. The caller holds mu, and takes the batch out of unanswered and
// the outbox.
func (s *Stream) end(p *Pending, err error) {
	p.err = s.producer.failed(p.batch, s.flow, err, true)
	p.endTrace(p.err)
	close(p.done)
}

// fail ends all unanswered batches with an error, in the order of Send. The caller holds mu, and no session runs, so all of these batches
// are in the outbox.
func (s *Stream) fail(err error) {
	for _, p := range s.outbox {
		s.end(p, err)
	}
	clear(s.unanswered)
	s.outbox, s.queued = nil, size{}
}

// refuse ends all unanswered batches because there has been no coordinator for too long, and makes every Send fail until there is one again.
// It returns false for a stream that never opened: such a stream ends.
func (s *Stream) refuse(err error) bool {
	select {
	case <-s.opened:
	default:
		return false
	}
	pointRefusing.Hit()
	err = fmt.Errorf("no coordinator could be reached for %s, and the stream goes on trying: %w", s.client.options.retryFor, err)
	s.mu.Lock()
	s.refusal = err
	s.fail(err)
	s.mu.Unlock()
	s.room.wake()
	return true
}

// finished reports whether the stream may end: Close was called, and every batch is answered.
func (s *Stream) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing && len(s.unanswered) == 0
}

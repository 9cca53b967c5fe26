package client

import (
	"context"
	"time"
)

// enter waits until there is room in the window, and puts the batch into the outbox. It returns an error if the stream refuses the batch,
// or if the batch's Timeout or ctx is over before. Calls enter in turn, so that a large batch that waits for room is not overtaken by small
// ones.
func (s *Stream) enter(ctx context.Context, p *Pending) error {
	const doing = "wait for room in the window"
	if ctx.Err() != nil {
		return contextError(ctx, doing)
	}
	var over <-chan time.Time // fires when the Timeout is over; nil, without a Timeout, never does
	if p.timed {
		timer := time.NewTimer(time.Until(p.deadline))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case s.turn <- struct{}{}:
	case <-over:
		return p.errLate(nil)
	case <-ctx.Done():
		return contextError(ctx, doing)
	}
	defer func() { <-s.turn }()
	for {
		if admitted, err := s.admit(p); admitted || err != nil {
			return err
		}
		select {
		case <-s.room:
		case <-over:
			return p.errLate(nil)
		case <-ctx.Done():
			return contextError(ctx, doing)
		}
	}
}

// admit gives the batch its id, puts it into the outbox and returns true, if the window has room for it. The window has room as long as the
// outbox is smaller than the credit, so that one batch may go beyond it. If there is no room or no coordinator now, admit returns false and
// no error. The caller holds the turn.
func (s *Stream) admit(p *Pending) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return false, s.refusal
	}
	if s.closing {
		return false, errStreamClosed
	}
	if !s.connected || !s.credit.minus(s.queued).positive() {
		return false, nil
	}
	id, err := s.producer.begin(p.batch, s.flow, time.Now())
	if err != nil {
		return false, err
	}
	s.sendings++
	p.batch.Sent() // from here on the batch belongs to the stream, and Close returns its error
	p.id, p.order = id, s.sendings
	s.unanswered[id.Sequence] = p
	s.outbox = append(s.outbox, p)
	s.queued = s.queued.plus(sizeOf(&p.columns))
	s.noteDeadline(p)
	s.work.wake()
	return true, nil
}

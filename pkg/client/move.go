package client

import "time"

const (
	// moveTimeout is how long a stream that moves waits for the answers of the batches that it sent. Batches that are unanswered then
	// are sent again to the other coordinator, as after a broken connection.
	moveTimeout = 5 * time.Second
	// moveTries is the limit for tries to find another coordinator, after one request to move.
	moveTries = 100
)

// move moves the stream to another coordinator, when the present one asks for it:
//
//  1. It waits for the request. Until then, and until another coordinator has taken the stream, the session goes on as before.
//  2. It stops the sending, so that rows of one key are not under way at two coordinators.
//  3. The session ends when all that was sent is answered, or after moveTimeout.
//
// It returns when the session is over: with the session at the other coordinator, or with nil if the stream does not move.
func (at *session) move() *session {
	s := at.stream
	var next *session
	for next == nil {
		select {
		case n := <-at.asked:
			next = at.openElsewhere(n)
		case <-at.over:
			return nil
		}
	}
	pointMoves.Hit()
	s.logger.Info("stream moves", "from", at.opened.GetCoordinator(), "to", next.opened.GetCoordinator())
	s.mu.Lock()
	s.moving = true
	s.mu.Unlock()
	s.work.wake()
	timer := time.NewTimer(moveTimeout)
	defer timer.Stop()
	select {
	case <-at.over:
	case <-timer.C:
		pointMoveLate.Hit()
		at.cancel()
		<-at.over
	}
	return next
}

// readyToMove reports whether the session may end because the stream moves: everything that was sent is answered.
func (s *Stream) readyToMove() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moving && len(s.unanswered) == len(s.outbox)
}

// openElsewhere asks other coordinators to take the stream. n is the number of coordinators. It returns nil if none of them takes it, or
// the session is over. gRPC sends the client's calls to one coordinator after the other, but calls of other streams come in between, so one
// round may miss some: two rounds reach nearly all.
func (at *session) openElsewhere(n int) *session {
	for range min(2*n, moveTries) {
		// An error means that this coordinator has its share of streams, or can't be reached. The stream then stays as it is.
		if next, err := at.stream.open(at); err == nil {
			return next
		}
		if at.ctx.Err() != nil {
			return nil
		}
	}
	pointStays.Hit()
	return nil
}

package client

import "time"

const (
	// moveBound is how long a stream that moves sends nothing because batches are unanswered. What is still unanswered then is
	// sent again where the stream goes, as after a broken connection.
	moveBound = 5 * time.Second
	// moveTries bounds how often one request to move has the client ask for a place.
	moveTries = 100
)

// move waits until the coordinator asks the stream to move, and finds another one that takes it. Until then all goes on as
// before. Then it has send stop, and end the session when all that went out is answered, so that batches of one key are not
// under way at two coordinators, unless it takes longer than moveBound. It returns what it found when the session is over; nil:
// the stream is not to move.
func (s *Stream) move(at *session, asked <-chan int, over <-chan struct{}) *session {
	var next *session
	for next == nil {
		select {
		case n := <-asked:
			next = s.elsewhere(at, n)
		case <-over:
			return nil
		}
	}
	s.logger.Info("stream moves", "from", at.opened.GetCoordinator(), "to", next.opened.GetCoordinator())
	s.mu.Lock()
	s.moving = true
	s.mu.Unlock()
	wake(s.work)
	timer := time.NewTimer(moveBound)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		at.cancel()
		<-over
	}
	return next
}

// moves reports whether the session may end because the stream moves: nothing that went out is unanswered.
func (s *Stream) moves() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moving && len(s.unanswered) == len(s.outbox)
}

// elsewhere asks coordinators, of which there are n, to take the stream; nil: none does, or the session is over. Calls go round
// all that are there, but others' go round with them: two rounds reach nearly all.
func (s *Stream) elsewhere(at *session, n int) *session {
	for range min(2*n, moveTries) {
		// An error means that this one has its share, or can't be reached. Nothing is lost by staying.
		if next, err := s.open(at); err == nil {
			return next
		}
		if at.ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

package worker

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// crossingTime is how long a draining worker keeps a session open that has nothing left to deliver. Parts that the coordinator
// sent before it received the message Draining arrive in this time.
const crossingTime = 250 * time.Millisecond

// drain ends all sessions in good order. The worker tells each coordinator that it drains, hands back the rows that have not
// begun, and ends each session when the coordinator has acknowledged every result. drain returns nil when no coordinator is
// left, and an error when ctx is done first.
//
//	serving ──► draining: no new rows ──► all results acknowledged, crossingTime over ──► session ended
//	                   │ ctx is done
//	                   └──► error; Worker.serve cuts off the rest
func (s *server) drain(ctx context.Context) error {
	s.draining.Store(true)
	s.output.drain()
	s.metrics.draining.Set(1)
	s.readiness()
	for _, p := range s.allPeers() {
		p.mu.Lock()
		if sess := p.session.Load(); sess != nil && p.hadSession {
			sess.enqueueDraining()
		}
		p.mu.Unlock()
		p.wakeUp()
		p.handBack("", nil)
	}
	for {
		left, pause := s.endIdleSessions()
		if left == 0 {
			return nil
		}
		var later <-chan time.Time
		if pause > 0 {
			later = time.After(pause)
		}
		select {
		case <-s.changed:
		case <-later:
		case <-ctx.Done():
			pointDrainLate.Hit()
			held := s.budget.sums().held.rows
			return batch.Errorf(batch.CodeDeadline, "drain the worker: %d coordinators still waited for %d rows, or had not acknowledged them, when the time was over: "+
				"these rows run again on other workers; give more time with --drain-timeout: %w", left, held, ctx.Err())
		}
	}
}

// endIdleSessions ends the sessions of coordinators for which the worker has nothing left to do. It returns how many
// coordinators are left, and after which time to look again; 0 means when s.changed says so.
func (s *server) endIdleSessions() (left int, pause time.Duration) {
	for _, p := range s.allPeers() {
		wait, idle := p.isIdle()
		switch {
		case !idle:
			left++
		case wait > 0:
			left++
			if pause == 0 || wait < pause {
				pause = wait
			}
		default:
			if s.removePeer(p) {
				p.drop(errDrained)
			}
		}
	}
	return left, pause
}

// isIdle reports whether the worker holds no part and no result for the coordinator. wait is for how long parts that crossed
// the message Draining may still arrive; 0 or less means that none can arrive any more.
func (p *peer) isIdle() (wait time.Duration, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.parts) > 0 || len(p.results) > 0 {
		return 0, false
	}
	sess := p.session.Load()
	if sess == nil {
		return crossingTime, true // the first session is in its handshake
	}
	select {
	case <-sess.ended:
		return 0, true
	default:
	}
	if sess.toldDraining.IsZero() {
		return crossingTime, true
	}
	return crossingTime - time.Since(sess.toldDraining), true
}

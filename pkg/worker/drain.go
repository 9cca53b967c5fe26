package worker

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// settleTime is how long a draining worker waits for parts that crossed its Draining message before it ends a session that has
// nothing left to tell.
const crossingTime = 250 * time.Millisecond

// drain takes nothing new, hands back what has not begun, and ends each session when everything that it has to tell is
// acknowledged. It returns when no coordinator is left, or with an error when ctx is done first.
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
			held := s.budget.sums().held.rows
			return batch.Errorf(batch.CodeDeadline, "%d coordinators still waited for %d rows, or had not acknowledged them, when the time to drain was over: "+
				"what they miss runs again elsewhere; give more time with --drain-timeout: %w", left, held, ctx.Err())
		}
	}
}

// dismiss ends the sessions of coordinators that need the worker no more. It returns how many are left, and when to look
// again if nothing changes before.
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

// idle reports whether the coordinator waits for nothing, and how long parts on their way to the worker may still take.
func (p *peer) isIdle() (wait time.Duration, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.parts) > 0 || len(p.results) > 0 {
		return 0, false
	}
	sess := p.session.Load()
	if sess == nil {
		return crossingTime, true // its handshake is under way
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

package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// A coordinator that reaches few workers may be on the wrong side of a broken network. It compares the number of its sessions with the
// numbers that other coordinators tell in etcd. While it is cut off, it takes no batches, does not take unreachable workers for lost, and
// leaves the leadership to a coordinator that reaches more.

const (
	// reachCheckInterval is how often a coordinator compares its sessions with those of other coordinators.
	reachCheckInterval = time.Second
	// firstSessionPatience is how long a worker that has just registered may take for its first session before it counts as unreachable.
	firstSessionPatience = 3 * time.Second
)

// surveyReach finds out which registered workers this coordinator reaches, and decides whether it is cut off.
func (r *roster) surveyReach() (s flowstate.Reachability) {
	was := r.board.Load().CutOff
	// lost counts the lost workers that this coordinator had reached before. A worker that was never reached may have a wrong address, which
	// says nothing about this coordinator.
	lost := 0
	for _, id := range slices.Sorted(maps.Keys(r.members)) {
		m := r.members[id]
		p := m.peer
		switch {
		case p.connected.Load():
			s.Sessions++
			if !m.sameNameSince.IsZero() {
				s.SharingName = append(s.SharingName, id)
			}
			continue
		case m.dead:
			continue
		}
		why := p.unreachable.Load()
		never := !p.everReached.Load()
		if why == nil && never && time.Since(p.createdAt) > firstSessionPatience {
			slow := "it has not answered for " + firstSessionPatience.String()
			why = &slow
		}
		switch {
		case p.lost.Load():
			s.Lost++
			s.Unreached++
			if !never {
				lost++
			}
		case never && (why != nil || was): // a coordinator that was cut off has to reach a worker before that worker counts as reachable
			s.Unreached++
		}
		if why != nil {
			s.Unreachable = append(s.Unreachable, cluster.Unreachable{Worker: id, Address: *p.address.Load(), Reason: *why})
		}
	}
	switch {
	case lost > s.Sessions, was && s.Unreached > s.Sessions:
		s.OthersReachMore = r.othersReachMore(s.Sessions, true)
		s.CutOff = s.OthersReachMore || s.Sessions == 0
	case s.Unreached > s.Sessions:
		s.OthersReachMore = r.othersReachMore(s.Sessions, false)
		s.CutOff = s.OthersReachMore
	}
	return s
}

// othersReachMore reports whether another coordinator that takes batches has more sessions with workers than this one. sessions is
// this coordinator's number of them. silent says whether a coordinator whose build does not tell its number counts as having more.
func (r *roster) othersReachMore(sessions int, silent bool) bool {
	for id, c := range r.coordinators() {
		switch {
		case id == r.id || !c.Ready:
		case c.Sessions == nil && silent, c.Sessions != nil && *c.Sessions > sessions:
			return true
		}
	}
	return false
}

// errOthersReachMore is the cause that ends whileReaching's context, and so the reason for which this coordinator gives up the leadership.
var errOthersReachMore = errors.New("this coordinator can't reach most workers, and another one reaches more")

// whileReaching returns a context that is cancelled, with the cause errOthersReachMore, as soon as this coordinator is cut off and another
// one reaches more workers. The caller must call stop, which also cancels the context and waits until its goroutine has ended.
func whileReaching(ctx context.Context, b *flowstate.Board) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if b.Await(ctx, func(s *flowstate.Snapshot) bool { return s.OthersReachMore }) {
			cancel(errOthersReachMore)
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

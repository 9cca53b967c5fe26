package coordinator

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// Whether a worker lives, a coordinator knows for sure in one case only: it had a session with that worker, and the address
// to which the session went takes no connections any more. Any other failure may be this coordinator's own: it may be on
// another machine than the one that the address is meant for, or behind a firewall. Then the worker's lease decides, and the
// coordinator says whom it can't reach, tries less and less often, and leaves its clients to others that reach more.

// attempt is one dial.
type dialAttempt struct {
	address string // as the worker's record has it
	remote  string // the address that answered, as IP:port; empty where none did
}

// dial makes a connection to where the worker says that it is, and notes where that led.
func (p *workerPeer) dial(ctx context.Context, address string) (net.Conn, error) {
	w := p.worker
	w.Address = address
	conn, err := p.fleet.dial(ctx, w)
	a := &dialAttempt{address: address}
	if err == nil && conn.RemoteAddr() != nil {
		a.remote = conn.RemoteAddr().String()
	}
	p.lastDial.Store(a)
	return conn, err
}

// provesDeath reports whether a failed try to begin a session proves that the process which had this id is no more. It may
// dial, and blocks for a second at the most.
func (p *workerPeer) provesDeath(ctx context.Context, err error) bool {
	tried := p.lastDial.Load()
	if p.sessionDial == nil || tried == nil || tried.address != p.sessionDial.address {
		return false // it was never reached, or has moved
	}
	if errors.Is(err, errAnotherWorker) {
		return tried.remote == p.sessionDial.remote
	}
	where, refused := refusedAt(err)
	if !refused || where == "" || where == p.sessionDial.remote {
		return refused
	}
	// The name stands for several addresses, and another one than the session's refused first.
	dialing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	w := p.worker
	w.Address = p.sessionDial.remote
	conn, err := p.fleet.dial(dialing, w)
	if err == nil {
		_ = conn.Close() // it was only asked whether somebody listens
	}
	where, refused = refusedAt(err)
	return refused && (where == "" || where == p.sessionDial.remote)
}

// refusedAt reports whether a dial failed because a machine was reached, and nobody listens there, and at which address that
// was; it is empty where the dialer does not tell. That a name server refuses says nothing about the worker.
func refusedAt(err error) (address string, refused bool) {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return "", false
	}
	if _, lookup := errors.AsType[*net.DNSError](err); lookup {
		return "", false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
		return op.Addr.String(), true
	}
	return "", true
}

// diedUnseen reports whether a worker whose key is gone has died: another coordinator may have seen that first. A key whose
// lease ran out proves nothing.
func (p *workerPeer) diedUnseen(ctx context.Context) bool {
	if !p.resumable || p.draining.Load() {
		return false
	}
	dialing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn, err := p.dial(dialing, *p.address.Load())
	if err == nil {
		_ = conn.Close()
	}
	return p.provesDeath(dialing, err)
}

// miss notes, and logs, that the worker can't be reached.
func (p *workerPeer) noteUnreachable(ctx context.Context, why string) {
	address := *p.address.Load()
	p.unreachable.CompareAndSwap(nil, &why) // the first reason stays, so that it is not news again and again
	advice := []any{"worker", p.worker.ID, "address", address, "error", why}
	if serve.OnlyHere(address) {
		advice = append(advice, "advice", "the address means whatever machine dials it: where the worker is on another one, give it --advertise host:port, as coordinators dial it")
	}
	p.log.Warn("worker can't be reached; it is tried again", advice...)
	p.fleet.peerChanged(ctx)
}

const (
	// reachPause is how often a coordinator compares whom it reaches with what others say that they reach.
	reachCheckInterval = time.Second
	// reachPatience is how long a worker that has just come may take for its first session before it counts as out of reach.
	firstSessionPatience = 3 * time.Second
)

// survey looks whom this coordinator reaches.
func (f *fleet) surveyReach() (r flowstate.Reachability) {
	was := f.board.Load().CutOff
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		k := m.peer
		switch {
		case k.connected.Load():
			r.Sessions++
			if !m.sameNameSince.IsZero() {
				r.SharingName = append(r.SharingName, id)
			}
			continue
		case m.dead:
			continue
		}
		why := k.unreachable.Load()
		never := !k.everReached.Load()
		if why == nil && never && time.Since(k.createdAt) > firstSessionPatience {
			slow := "it has not answered for " + firstSessionPatience.String()
			why = &slow
		}
		switch {
		case k.lost.Load():
			r.Lost++
			r.Unreached++
		case never && (why != nil || was): // one that was cut off needs to be shown that it reaches them
			r.Unreached++
		}
		if why != nil {
			r.Unreachable = append(r.Unreachable, cluster.Unreachable{Worker: id, Address: *k.address.Load(), Reason: *why})
		}
	}
	switch {
	case r.Lost > r.Sessions, was && r.Unreached > r.Sessions:
		r.OthersReachMore = f.othersReachMore(r.Sessions, true)
		r.CutOff = r.OthersReachMore || r.Sessions == 0
	case r.Unreached > r.Sessions:
		r.OthersReachMore = f.othersReachMore(r.Sessions, false)
		r.CutOff = r.OthersReachMore
	}
	return r
}

// outdone reports whether another coordinator that takes batches has sessions with more workers. Builds that don't say how
// many they have count as silent says.
func (f *fleet) othersReachMore(sessions int, silent bool) bool {
	for id, c := range f.Coordinators() {
		switch {
		case id == f.id || !c.Ready:
		case c.Sessions == nil && silent, c.Sessions != nil && *c.Sessions > sessions:
			return true
		}
	}
	return false
}

// look surveys, and tells everybody who goes by it when something has changed.
func (f *fleet) checkReach(ctx context.Context) {
	f.removeSuperseded(ctx)
	if now, was := f.surveyReach(), f.board.Load(); now.CutOff != was.CutOff || now.OthersReachMore != was.OthersReachMore || now.Sessions != was.Sessions ||
		!slices.Equal(now.Unreachable, was.Unreachable) || !slices.Equal(now.SharingName, was.SharingName) {
		f.publish()
	}
}

// cutOff reports whether clients are left to others, because most workers can't be reached from here: then it is not they
// that are lost.
func (f *fleet) cutOff(ctx context.Context) bool {
	cut := false
	return f.wait(ctx, func() {
		f.publish()
		cut = f.board.Load().CutOff
	}) && cut
}

// whileReaching is ctx, which ends with errOutdone while other coordinators reach more workers and this one is cut off. stop
// must be called, and waits until nothing is left of it.
func whileReaching(ctx context.Context, b *flowstate.Board) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if b.Await(ctx, func(c *flowstate.Snapshot) bool { return c.OthersReachMore }) {
			cancel(errOthersReachMore)
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

var errOthersReachMore = errors.New("this coordinator can't reach most workers, and others can")

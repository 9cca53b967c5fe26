package coordinator

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/kisgrid/kisgrid/internal/serve"
)

// A coordinator knows for sure that a worker is dead in one case only: it had a session with the worker, and the address to which the
// session went refuses connections now. Any other failure may be the coordinator's own: it may be on another machine than the one that
// the address is meant for, or behind a firewall. Then the worker's lease in etcd decides, and the coordinator dials less and less often.

// errAnotherWorker is the error of a handshake in which a process other than this worker answered at the worker's address.
var errAnotherWorker = errors.New("another worker answers at its address")

// dialAttempt is one try to connect to a worker: which address was dialled, and which one answered.
type dialAttempt struct {
	address string // the address that was dialled, from the worker's record in etcd
	remote  string // the address that answered, as IP:port; empty if none did
}

// dial connects to the worker at address, the one that it has registered, and notes in lastDial which address answered.
func (p *workerPeer) dial(ctx context.Context, address string) (net.Conn, error) {
	w := p.worker
	w.Address = address
	conn, err := p.settings.dial(ctx, w)
	a := &dialAttempt{address: address}
	if err == nil && conn.RemoteAddr() != nil {
		a.remote = conn.RemoteAddr().String()
	}
	p.lastDial.Store(a)
	return conn, err
}

// provesDeath reports whether err, with which the last session or try to begin one ended, proves that the worker's process is dead. It may
// dial once more, and blocks for a second at most.
func (p *workerPeer) provesDeath(ctx context.Context, err error) bool {
	last := p.lastDial.Load()
	if p.sessionDial == nil || last == nil || last.address != p.sessionDial.address {
		pointMoved.Hit()
		return false // it was never reached, or has moved
	}
	if errors.Is(err, errAnotherWorker) {
		return last.remote == p.sessionDial.remote
	}
	where, refused := refusedAt(err)
	if !refused || where == "" || where == p.sessionDial.remote {
		return refused
	}
	// The name stands for several addresses, and an address that was not the session's refused first.
	pointSecondDial.Hit()
	dialing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	w := p.worker
	w.Address = p.sessionDial.remote
	conn, err := p.settings.dial(dialing, w)
	if err == nil {
		_ = conn.Close() // the question was only whether a process listens
	}
	where, refused = refusedAt(err)
	return refused && (where == "" || where == p.sessionDial.remote)
}

// refusedAt reports whether a dial failed with err because a machine answered that no process listens at the address (connection refused),
// and which address that was; "" means that the dialer does not tell. If it was a name server that refused, refused is false, since that
// proves nothing about the worker.
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

// diedUnseen reports whether a worker whose key is gone from etcd has died of itself: another coordinator may have noticed the death first
// and removed the key. It dials the worker to find out, for a second or two at most, since a missing key alone proves nothing: its lease
// may have run out.
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

// noteUnreachable notes and logs why the worker can't be reached, and tells the peer's owner.
func (p *workerPeer) noteUnreachable(ctx context.Context, why string) {
	address := *p.address.Load()
	p.unreachable.CompareAndSwap(nil, &why) // the first reason stays, so that each further try is not a change
	fields := []any{"worker", p.worker.ID, "address", address, "error", why}
	if serve.OnlyHere(address) {
		fields = append(fields, "advice", "the address means the machine that dials it: if the worker is on another machine, start it with --advertise host:port, an address that coordinators can dial")
	}
	p.log.Warn("worker can't be reached; it is tried again", fields...)
	p.owner.peerChanged(ctx)
}

package simetcd

import (
	"context"
	"errors"
	"net"
	"path"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Call is one call of a client, except streams, as a function given to OnCall sees it.
type Call struct {
	Member  string // the name of the member that got it
	Client  string // who makes it: what Peer of the connection says, for connections that have this method, such as those of simnet
	Method  string // such as "Txn", "Range" or "LeaseGrant"
	Request any    // such as *etcdserverpb.TxnRequest; it must not be changed
}

// Fault is something that goes wrong with one call. The zero value is nothing.
type Fault struct {
	// Before is how long the call waits before it takes effect, After how long its answer takes after that.
	Before, After time.Duration
	// Refuse is the error with which the call ends without effect, such as rpctypes.ErrGRPCTimeout. Default nil: none.
	Refuse error
	// Lose says that the call takes effect, and its answer never comes.
	Lose Loss
}

// Loss is a way to lose the answer of a call that took effect.
type Loss int

// The ways to lose an answer.
const (
	LoseNothing   Loss = iota
	LoseSilently       // the client waits in vain, until its timeout
	LoseByCut          // the connection breaks
	LoseByTimeout      // after etcd's own timeout the client is told that the leader may have failed
)

// add adds what else goes wrong with the call.
func (f *Fault) add(other Fault) {
	f.Before += other.Before
	f.After += other.After
	if f.Refuse == nil {
		f.Refuse = other.Refuse
	}
	if f.Lose == LoseNothing {
		f.Lose = other.Lose
	}
}

// rule is a function that was given to OnCall.
type rule struct{ f func(Call) Fault }

// connOf returns the connection over which a call came, or nil if that is not known.
func connOf(ctx context.Context) net.Conn {
	if p, ok := peer.FromContext(ctx); ok {
		if at, ok := p.Addr.(connAddr); ok {
			return at.conn
		}
	}
	return nil
}

// nameOf returns who is at the other end of a connection.
func nameOf(conn net.Conn) string {
	if named, ok := conn.(interface{ Peer() string }); ok {
		return named.Peer()
	}
	return ""
}

// requestTimeout is how long etcd tries to get a request through.
func (e *Etcd) requestTimeout() time.Duration { return 5*time.Second + 2*e.config.Election }

// unary is the gRPC interceptor of calls. It applies delays and faults.
func (m *member) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	e := m.etcd
	e.mu.Lock()
	delay, rules, reaches := e.delay, e.rules, m.reaches()
	e.mu.Unlock()
	if requiresLeader(ctx) && !reaches {
		return nil, rpctypes.ErrGRPCNoLeader
	}
	conn := connOf(ctx)
	var fault Fault
	for _, rule := range rules {
		fault.add(rule.f(Call{Member: m.Name, Client: nameOf(conn), Method: path.Base(info.FullMethod), Request: request}))
	}
	if err := m.sleep(ctx, delay/2+fault.Before); err != nil {
		return nil, err
	}
	if fault.Refuse != nil {
		return nil, fault.Refuse
	}
	answer, err := handle(ctx, request)
	if again := m.sleep(ctx, delay-delay/2+fault.After); again != nil {
		return nil, again
	}
	switch fault.Lose {
	case LoseByCut:
		if conn != nil {
			_ = conn.Close() // the error only says that it is closed already
		}
		return nil, rpctypes.ErrGRPCStopped
	case LoseSilently:
		return nil, m.sleep(ctx, time.Hour)
	case LoseByTimeout:
		if err := m.sleep(ctx, e.requestTimeout()); err != nil {
			return nil, err
		}
		return nil, rpctypes.ErrGRPCTimeoutDueToLeaderFail
	}
	return answer, err
}

// sleep blocks for a time. It ends early, with an error, when the client gives up or the member stops.
func (m *member) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended returns the error with which a call or stream ends whose context has ended.
func ended(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return err
}

// agree calls f, under Etcd.mu, once the member has a leader and a majority. A read also waits until the member has applied all that was
// written before it; and it fails if a leader had to be elected meanwhile, as in etcd. agree gives up after etcd's timeout for requests,
// and when ctx ends or the member stops.
func (m *member) agree(ctx context.Context, reads bool, f func() error) error {
	e := m.etcd
	var timeout <-chan time.Time
	lost, seen := false, int64(-1)
	for {
		e.mu.Lock()
		stopped := m.stopped
		switch {
		case !m.up:
			e.mu.Unlock()
			return rpctypes.ErrGRPCStopped
		case !m.reaches():
			lost = true
		case reads && lost:
			e.mu.Unlock()
			return rpctypes.ErrGRPCLeaderChanged
		default:
			if seen < 0 {
				seen = e.state.store.revision
			}
			if !reads || m.applied >= seen {
				err := f()
				e.mu.Unlock()
				return err
			}
		}
		changed := e.changed
		e.mu.Unlock()
		if timeout == nil {
			timer := time.NewTimer(e.requestTimeout())
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-timeout:
			if reads {
				return rpctypes.ErrGRPCTimeout
			}
			return rpctypes.ErrGRPCTimeoutDueToLeaderFail
		case <-ctx.Done():
			return ended(ctx)
		case <-stopped:
			return rpctypes.ErrGRPCStopped
		}
	}
}

// write calls f, under Etcd.mu, once the member has a leader, publishes what f has changed, and returns once the member itself has applied
// it.
func (m *member) write(ctx context.Context, f func() (*writer, error)) error {
	var revision int64
	err := m.agree(ctx, false, func() error {
		w, err := f()
		if err == nil && w != nil {
			m.etcd.publish(w)
			revision = m.etcd.state.store.revision
		}
		return err
	})
	if err == nil && revision > 0 {
		err = m.await(ctx, revision)
	}
	return err
}

// await blocks until the member has applied a revision.
func (m *member) await(ctx context.Context, revision int64) error {
	e := m.etcd
	for {
		e.mu.Lock()
		reached, changed, stopped := m.applied >= revision || !m.up, e.changed, m.stopped
		e.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-stopped:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// publish shows changes to the members' watchers, and notes them in the journal. e.mu is held.
func (e *Etcd) publish(w *writer) {
	if len(w.changes) == 0 {
		return
	}
	e.record(w.changes)
	revision := e.state.store.revision
	for _, m := range e.members {
		switch {
		case m.cut || !m.up:
		case m.lag == 0 && m.applied == revision-1:
			m.apply(revision)
		default:
			m.applyLater(revision)
		}
	}
}

// applyLater lets a member that lags apply a revision when it is due. Etcd.mu is held.
func (m *member) applyLater(revision int64) {
	state, stopped := m.etcd.state, m.stopped
	time.AfterFunc(m.lag, func() {
		m.etcd.mu.Lock()
		defer m.etcd.mu.Unlock()
		if m.etcd.state == state && m.stopped == stopped && m.up && !m.cut && revision > m.applied {
			m.apply(revision)
			m.etcd.broadcast()
		}
	})
}

// apply lets a member reach a revision: its watchers are shown each one up to it. Etcd.mu is held.
func (m *member) apply(revision int64) {
	for m.applied < revision {
		m.applied++
		for s := range m.streams {
			s.show()
		}
	}
}

// requiresLeader reports whether the client wants an error if there is no leader.
func requiresLeader(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(rpctypes.MetadataRequireLeaderKey)
	return len(values) > 0 && values[0] == rpctypes.MetadataHasLeader
}

// requiring is a stream that ends when there is no leader.
type requiring struct {
	grpc.ServerStream
	ctx context.Context
	end context.CancelCauseFunc
}

// Context implements grpc.ServerStream.
func (r *requiring) Context() context.Context { return r.ctx }

// stream is the gRPC interceptor of streams. It ends those that require a leader when there is none.
func (m *member) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if !requiresLeader(s.Context()) {
		return handle(srv, s)
	}
	r := &requiring{ServerStream: s}
	r.ctx, r.end = context.WithCancelCause(s.Context())
	defer r.end(nil)
	m.etcd.mu.Lock()
	if !m.reaches() {
		m.etcd.mu.Unlock()
		return rpctypes.ErrGRPCNoLeader
	}
	m.requiring[r] = true
	m.etcd.mu.Unlock()
	defer func() {
		m.etcd.mu.Lock()
		defer m.etcd.mu.Unlock()
		delete(m.requiring, r)
	}()
	return handle(srv, r)
}

package simetcd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// member is one server. Etcd.mu guards its fields from up on.
type member struct {
	etcd *Etcd
	Member

	up        bool
	id        uint64
	address   string // at which it listens, with the port that it got at its first start
	server    *grpc.Server
	stopped   chan struct{} // closed when the server stops
	cut       bool          // it reaches no other member
	applied   int64         // the revision that the member has reached
	lag       time.Duration // how far it is behind the others
	streams   map[*watchStream]bool
	requiring map[*requiring]bool // streams that end when there is no leader
}

// newMember makes a member that does not run yet.
func newMember(e *Etcd, m Member, n uint64) *member {
	return &member{etcd: e, Member: m, id: e.rand.Uint64() | n + 1, address: m.Address, applied: e.state.store.revision}
}

// start listens and serves. It does nothing if the member runs.
func (m *member) start(ctx context.Context) error {
	e := m.etcd
	e.mu.Lock()
	up, address := m.up, m.address
	e.mu.Unlock()
	if up {
		return nil
	}
	listener, err := m.Network.Listen(ctx, address)
	if err != nil {
		return fmt.Errorf("start member %s of the simulated etcd at %s: %w", m.Name, address, err)
	}
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(m.unary), grpc.ChainStreamInterceptor(m.stream),
		grpc.MaxRecvMsgSize(e.config.MaxBytes + 512<<10), grpc.MaxSendMsgSize(1<<31 - 1), grpc.MaxConcurrentStreams(1<<32 - 1),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
	}
	if e.config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(e.config.TLS)))
	}
	server := grpc.NewServer(options...)
	s := service{member: m}
	pb.RegisterKVServer(server, s)
	pb.RegisterWatchServer(server, s)
	pb.RegisterLeaseServer(server, s)
	pb.RegisterAuthServer(server, s)
	pb.RegisterMaintenanceServer(server, s)
	pb.RegisterClusterServer(server, s)

	e.mu.Lock()
	m.up, m.server, m.stopped, m.address = true, server, make(chan struct{}), withPort(address, listener.Addr())
	m.streams, m.requiring = map[*watchStream]bool{}, map[*requiring]bool{}
	if !m.cut {
		m.applied = e.state.store.revision
	}
	e.reconsider()
	e.mu.Unlock()
	e.running.Go(func() {
		// The error only says that the server was stopped, or that the listener is gone, because its machine is.
		_ = server.Serve(identifiable{listener})
	})
	return nil
}

// withPort returns an address with the port at which a listener listens, if its own is 0.
func withPort(address string, at net.Addr) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address
	}
	_, port, _ = net.SplitHostPort(at.String())
	return net.JoinHostPort(host, port)
}

// reachedAt returns the address at which clients reach the member. Etcd.mu is held.
func (m *member) reachedAt() string {
	if port, ok := strings.CutPrefix(m.address, ":"); ok {
		return net.JoinHostPort(m.Name, port)
	}
	return m.address
}

// stop cuts all connections and stops to listen. It waits until no call runs any more. It does nothing if the member does not run.
func (m *member) stop() {
	e := m.etcd
	e.mu.Lock()
	if !m.up {
		e.mu.Unlock()
		return
	}
	m.up = false
	server := m.server
	close(m.stopped)
	e.reconsider()
	e.mu.Unlock()
	server.Stop()
}

// service is a member as gRPC calls it.
type service struct {
	*member
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedAuthServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
}

// header makes the header of an answer. Revision 0 means the member's newest one. Etcd.mu is held.
func (m *member) header(revision int64) *pb.ResponseHeader {
	if revision == 0 {
		revision = m.applied
	}
	return &pb.ResponseHeader{ClusterId: m.etcd.state.cluster, MemberId: m.id, Revision: revision, RaftTerm: m.etcd.term}
}

// fill completes the header of an answer to a client. Etcd.mu is held.
func (m *member) fill(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = m.etcd.state.cluster, m.id, m.etcd.term
}

// identifiable is a listener whose connections can be found from the calls that came over them.
type identifiable struct{ net.Listener }

// Accept implements net.Listener.
func (l identifiable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return identified{conn}, nil
}

// identified is a connection whose remote address leads to it.
type identified struct{ net.Conn }

// RemoteAddr implements net.Conn.
func (c identified) RemoteAddr() net.Addr { return connAddr{c.Conn.RemoteAddr(), c.Conn} }

// connAddr is the address of the other end of a connection, with the connection.
type connAddr struct {
	net.Addr
	conn net.Conn
}

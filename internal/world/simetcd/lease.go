package simetcd

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	maxLease    = 9000000000             // seconds
	expiryCheck = 500 * time.Millisecond // how often etcd looks for leases that have run out
)

// minLease is the shortest lease, in seconds.
func (e *Etcd) minLease() int64 { return int64(math.Ceil((e.config.Election * 3 / 2).Seconds())) }

// LeaseGrant implements etcdserverpb.LeaseServer.
func (s service) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (answer *pb.LeaseGrantResponse, err error) {
	if err := s.signedIn(ctx); err != nil {
		return nil, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{LeaseGrant: r}, true, func(*identity) (*writer, error) {
		e := s.etcd
		id := r.GetID()
		for id == 0 {
			id = e.rand.Int64()
		}
		switch {
		case r.GetTTL() > maxLease:
			return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
		case e.state.leases[id] != nil:
			return nil, rpctypes.ErrGRPCLeaseExist
		}
		l := &lease{id: id, ttl: max(r.GetTTL(), e.minLease()), keys: map[string]bool{}, revoked: make(chan struct{})}
		l.expiry = time.Now().Add(time.Duration(l.ttl) * time.Second)
		e.state.leases[id] = l
		e.rearm()
		answer = &pb.LeaseGrantResponse{Header: s.header(0), ID: id, TTL: l.ttl}
		return nil, nil
	})
	return answer, err
}

// LeaseRevoke implements etcdserverpb.LeaseServer.
func (s service) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (answer *pb.LeaseRevokeResponse, err error) {
	if err := s.signedIn(ctx); err != nil {
		return nil, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{LeaseRevoke: r}, false, func(who *identity) (*writer, error) {
		l := s.etcd.state.leases[r.GetID()]
		if l == nil {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
		if err := s.etcd.state.mayRenew(who, l); err != nil {
			return nil, err
		}
		w := s.etcd.state.revoke(l)
		answer = &pb.LeaseRevokeResponse{Header: s.header(s.etcd.state.store.revision)}
		return w, nil
	})
	return answer, err
}

// LeaseKeepAlive implements etcdserverpb.LeaseServer.
func (s service) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	failed := make(chan error, 1)
	s.etcd.running.Go(func() { failed <- s.keepAlive(stream) })
	select {
	case err := <-failed:
		return err
	case <-stream.Context().Done():
		return ended(stream.Context())
	}
}

// keepAlive renews leases, one after the other, until the stream ends.
func (s service) keepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.etcd.mu.Lock()
		delay := s.etcd.delay
		answer := &pb.LeaseKeepAliveResponse{Header: s.header(0), ID: r.GetID()}
		s.etcd.mu.Unlock()
		if err := s.sleep(stream.Context(), delay/2); err != nil {
			return err
		}
		if answer.TTL, err = s.renew(stream.Context(), r.GetID()); err != nil {
			return err
		}
		if err := s.sleep(stream.Context(), delay-delay/2); err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// renew starts a lease anew and returns its length in seconds, 0 if there is no such lease. A lease that has run out is not renewed.
func (m *member) renew(ctx context.Context, id int64) (ttl int64, err error) {
	var over chan struct{} // closed when the lease, which has run out, is gone
	err = m.agree(ctx, false, func() error {
		who, err := m.identify(ctx)
		if err != nil {
			return err
		}
		l := m.etcd.state.leases[id]
		if m.etcd.state.auth.enabled && who == nil {
			return rpctypes.ErrGRPCUserEmpty
		}
		if l == nil {
			return nil
		}
		if err := m.etcd.state.mayRenew(who, l); err != nil {
			return err
		}
		now := time.Now()
		if now.After(l.expiry) {
			over = l.revoked
			return nil
		}
		l.expiry, ttl = now.Add(time.Duration(l.ttl)*time.Second), l.ttl
		return nil
	})
	if errors.Is(err, rpctypes.ErrGRPCTimeoutDueToLeaderFail) {
		err = rpctypes.ErrGRPCNoLeader
	}
	if over != nil {
		select {
		case <-over:
		case <-ctx.Done():
			return 0, ended(ctx)
		}
	}
	return ttl, err
}

// LeaseTimeToLive implements etcdserverpb.LeaseServer.
func (s service) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (answer *pb.LeaseTimeToLiveResponse, err error) {
	if err := s.signedIn(ctx); err != nil {
		return nil, err
	}
	err = s.agree(ctx, true, func() error {
		who, err := s.identify(ctx)
		if err != nil {
			return err
		}
		answer = &pb.LeaseTimeToLiveResponse{Header: s.header(0), ID: r.GetID(), TTL: -1}
		l := s.etcd.state.leases[r.GetID()]
		if l == nil {
			return nil
		}
		answer.TTL, answer.GrantedTTL = int64(time.Until(l.expiry).Seconds()), l.ttl
		if !r.GetKeys() {
			return nil
		}
		for _, key := range slices.Sorted(maps.Keys(l.keys)) {
			if err := s.etcd.state.permitted(who, span{from: key, one: true}, false); err != nil {
				return err
			}
			answer.Keys = append(answer.Keys, []byte(key))
		}
		return nil
	})
	return answer, err
}

// LeaseLeases implements etcdserverpb.LeaseServer. Leases come in the order in which they run out.
func (s service) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	if err := s.signedIn(ctx); err != nil {
		return nil, err
	}
	s.etcd.mu.Lock()
	defer s.etcd.mu.Unlock()
	leases := slices.SortedFunc(maps.Values(s.etcd.state.leases), func(a, b *lease) int {
		if c := a.expiry.Compare(b.expiry); c != 0 {
			return c
		}
		return int(a.id>>1 - b.id>>1)
	})
	answer := &pb.LeaseLeasesResponse{Header: s.header(0)}
	for _, l := range leases {
		answer.Leases = append(answer.Leases, &pb.LeaseStatus{ID: l.id})
	}
	return answer, nil
}

// rearm sets the timer for the next lease that runs out: to the next of the moments at which etcd looks for such leases. e.mu is held.
func (e *Etcd) rearm() {
	var next time.Time
	for _, l := range e.state.leases {
		if !l.expiry.IsZero() && (next.IsZero() || l.expiry.Before(next)) {
			next = l.expiry
		}
	}
	if next.IsZero() || e.closed {
		e.expiry.Stop()
		return
	}
	check := next.Sub(e.born).Truncate(expiryCheck) + expiryCheck // the first one after the lease has run out
	e.expiry.Reset(time.Until(e.born.Add(check)))
}

// expire revokes the leases that have run out, each at a revision of its own.
func (e *Etcd) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.leader == nil {
		return
	}
	now := time.Now()
	var over []*lease
	for _, l := range e.state.leases {
		if !l.expiry.IsZero() && now.After(l.expiry) {
			over = append(over, l)
		}
	}
	slices.SortFunc(over, func(a, b *lease) int {
		if c := a.expiry.Compare(b.expiry); c != 0 {
			return c
		}
		return int(a.id>>1 - b.id>>1)
	})
	for _, l := range over {
		e.publish(e.state.revoke(l))
	}
	e.rearm()
}

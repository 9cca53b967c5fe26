package simetcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	etcdversion "go.etcd.io/etcd/api/v3/version"
)

// databaseBytes is the size of the database that the model tells; it has none.
const databaseBytes = 20480

// Status implements etcdserverpb.MaintenanceServer.
func (s service) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	if err := s.signedIn(ctx); err != nil {
		return nil, err
	}
	e := s.etcd
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := &pb.StatusResponse{
		Header: s.header(0), Version: etcdversion.Version, RaftTerm: e.term, RaftIndex: uint64(s.applied), RaftAppliedIndex: uint64(s.applied),
		DbSize: databaseBytes, DbSizeInUse: databaseBytes, DbSizeQuota: 2 << 30, StorageVersion: "3.7.0", DowngradeInfo: &pb.DowngradeInfo{},
	}
	if s.reaches() {
		answer.Leader = e.leader.id
	} else {
		answer.Errors = append(answer.Errors, "etcdserver: no leader")
	}
	for _, a := range e.alarms() {
		answer.Errors = append(answer.Errors, a.String())
	}
	return answer, nil
}

// alarms are the alarms that are on. e.mu is held.
func (e *Etcd) alarms() []*pb.AlarmMember {
	if !e.state.alarm {
		return nil
	}
	return []*pb.AlarmMember{{MemberID: e.members[0].id, Alarm: pb.AlarmType_NOSPACE}}
}

// Alarm implements etcdserverpb.MaintenanceServer, for the alarm that the database is full.
func (s service) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	check := s.adminOnly
	if r.GetAction() == pb.AlarmRequest_GET {
		check = s.signedIn
	}
	if err := check(ctx); err != nil {
		return nil, err
	}
	answer := &pb.AlarmResponse{}
	err := s.write(ctx, func() (*writer, error) {
		e := s.etcd
		answer.Header = s.header(0)
		nospace := r.GetAlarm() == pb.AlarmType_NOSPACE
		switch r.GetAction() {
		case pb.AlarmRequest_GET:
			if nospace || r.GetAlarm() == pb.AlarmType_NONE {
				answer.Alarms = e.alarms()
			}
		case pb.AlarmRequest_ACTIVATE:
			if nospace {
				e.state.alarm = true
				answer.Alarms = e.alarms()
			}
		case pb.AlarmRequest_DEACTIVATE:
			if nospace {
				answer.Alarms = e.alarms()
				e.state.alarm = false
			}
		}
		return nil, nil
	})
	return answer, err
}

// Defragment implements etcdserverpb.MaintenanceServer. It makes room in a full database, as it does in etcd after a compaction.
func (s service) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.adminOnly(ctx); err != nil {
		return nil, err
	}
	s.etcd.mu.Lock()
	defer s.etcd.mu.Unlock()
	s.etcd.state.full = false
	return &pb.DefragmentResponse{}, nil
}

// MoveLeader implements etcdserverpb.MaintenanceServer.
func (s service) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := s.adminOnly(ctx); err != nil {
		return nil, err
	}
	e := s.etcd
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader != s.member {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	for _, m := range e.members {
		if m.id == r.GetTargetID() && m.up && !m.cut {
			e.term++
			e.lead(m)
			return &pb.MoveLeaderResponse{Header: s.header(0)}, nil
		}
	}
	return nil, rpctypes.ErrGRPCBadLeaderTransferee
}

// MemberList implements etcdserverpb.ClusterServer.
func (s service) MemberList(ctx context.Context, r *pb.MemberListRequest) (answer *pb.MemberListResponse, err error) {
	list := func() error {
		e := s.etcd
		answer = &pb.MemberListResponse{Header: s.header(0)}
		answer.Header.Revision = 0
		scheme := "http://"
		if e.config.TLS != nil {
			scheme = "https://"
		}
		for _, m := range e.members {
			answer.Members = append(answer.Members, &pb.Member{
				ID: m.id, Name: m.Name, ClientURLs: []string{scheme + m.reachedAt()}, PeerURLs: []string{scheme + m.Name + ":2380"},
			})
		}
		return nil
	}
	if r.GetLinearizable() {
		return answer, s.agree(ctx, true, list)
	}
	s.etcd.mu.Lock()
	defer s.etcd.mu.Unlock()
	return answer, list()
}

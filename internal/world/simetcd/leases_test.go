package simetcd_test

import (
	"bytes"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func leases(s *transcript) {
	grant := func(id, ttl int64) {
		answer, err := s.leases.LeaseGrant(s.Context(), &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		s.note("grant", answer, err)
	}
	left := func(id int64, keys bool) {
		answer, err := s.leases.LeaseTimeToLive(s.Context(), &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
		if err == nil && answer.TTL >= 0 {
			answer.TTL = 1
		}
		if err == nil {
			slices.SortFunc(answer.Keys, bytes.Compare)
		}
		s.note("time to live", answer, err)
	}
	revoke := func(id int64) {
		answer, err := s.leases.LeaseRevoke(s.Context(), &pb.LeaseRevokeRequest{ID: id})
		s.note("revoke", answer, err)
	}
	grant(5, 0)
	grant(5, 10)
	grant(6, -3)
	grant(7, 50)
	grant(8, 9_000_000_001)
	revoke(6)
	revoke(6)
	left(5, true)
	left(7, true)
	left(9, true)
	s.put(&pb.PutRequest{Key: []byte("y"), Lease: 7})
	s.put(&pb.PutRequest{Key: []byte("x"), Lease: 7})
	s.put(&pb.PutRequest{Key: []byte("z"), Lease: 7})
	left(7, true)
	left(7, false)
	stream, err := s.leases.LeaseKeepAlive(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, id := range []int64{7, 99, 0, 7} {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			s.Fatal(err)
		}
		answer, err := stream.Recv()
		s.note("keep alive", answer, err)
	}
	if err := stream.CloseSend(); err != nil {
		s.Fatal(err)
	}
	_, err = stream.Recv()
	s.say("the end: %v", err)
	w := s.watch()
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	w.note(s, "create", 1)
	revoke(7)
	w.note(s, "event", 1)
	s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	revoke(5)
	all, err := s.leases.LeaseLeases(s.Context(), &pb.LeaseLeasesRequest{})
	s.note("leases", all, err)
}

func leaseMoves(s *transcript) {
	for _, id := range []int64{11, 12} {
		answer, err := s.leases.LeaseGrant(s.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 100})
		s.note("grant", answer, err)
	}
	s.put(&pb.PutRequest{Key: []byte("stays"), Lease: 11})
	s.put(&pb.PutRequest{Key: []byte("moves"), Lease: 11})
	s.put(&pb.PutRequest{Key: []byte("moves"), Lease: 12})
	s.put(&pb.PutRequest{Key: []byte("leaves"), Lease: 11})
	s.put(&pb.PutRequest{Key: []byte("leaves")})
	s.put(&pb.PutRequest{Key: []byte("deleted"), Lease: 11})
	s.delete(&pb.DeleteRangeRequest{Key: []byte("deleted")})
	s.put(&pb.PutRequest{Key: []byte("deleted")})
	for _, id := range []int64{11, 12} {
		answer, err := s.leases.LeaseRevoke(s.Context(), &pb.LeaseRevokeRequest{ID: id})
		s.note("revoke", answer, err)
		s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	}
}

func leaseExpires(s *transcript) {
	answer, err := s.leases.LeaseGrant(s.Context(), &pb.LeaseGrantRequest{ID: 21, TTL: 1})
	s.note("grant", answer, err)
	w := s.watch()
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, PrevKv: true})
	w.note(s, "create", 1)
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("l2"), Lease: 21}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("l1"), Lease: 21}}},
	}})
	w.note(s, "event", 1)
	from := time.Now()
	w.note(s, "event", 1)
	if after := time.Since(from); after < 900*time.Millisecond || after > 20*time.Second {
		s.Errorf("a lease of 1 s ran out after %v", after)
	}
	left, err := s.leases.LeaseTimeToLive(s.Context(), &pb.LeaseTimeToLiveRequest{ID: 21})
	s.note("time to live", left, err)
}

// recipes uses the client's own methods, as KisGrid does.
func recipes(s *transcript) {
	ctx := s.Context()
	lease, err := s.client.Grant(ctx, 10)
	if err != nil {
		s.Fatal(err)
	}
	txn, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("me"), "=", 0)).
		Then(clientv3.OpPut("me", "x", clientv3.WithLease(lease.ID))).Else(clientv3.OpGet("me")).Commit()
	s.note("txn", (*pb.TxnResponse)(txn), err)
	txn, err = s.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("me"), "<", s.base).WithPrefix()).
		Then(clientv3.OpDelete("me", clientv3.WithPrefix())).Else(clientv3.OpGet("m", clientv3.WithPrefix(), clientv3.WithKeysOnly())).Commit()
	s.note("txn", (*pb.TxnResponse)(txn), err)
	once, err := s.client.KeepAliveOnce(ctx, lease.ID)
	s.say("kept alive: %v %v", once != nil && once.TTL == 10, err)
	_, err = s.client.KeepAliveOnce(ctx, 12345)
	s.say("kept alive: %v", err)
	left, err := s.client.TimeToLive(ctx, 12345)
	s.say("left: %d %v", left.TTL, err)
	_, err = s.client.Revoke(ctx, lease.ID)
	s.say("revoked: %v", err)
	_, err = s.client.Revoke(ctx, lease.ID)
	s.say("revoked: %v", err)
	_, err = s.client.Get(ctx, "me", clientv3.WithRev(s.base+1000))
	s.say("ahead: %v", err)
	status, err := s.client.Status(ctx, s.client.Endpoints()[0])
	s.say("status: leader %v, alarms %v %v", status.Leader != 0, status.Errors, err)
	members, err := s.client.MemberList(ctx)
	s.say("members: %d %v", len(members.Members), err)
}

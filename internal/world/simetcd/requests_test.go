package simetcd_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func versions(s *transcript) {
	for _, value := range []string{"1", "2", "", "3"} {
		s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte(value)})
		s.get(&pb.RangeRequest{Key: []byte("k")})
	}
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("4"), PrevKv: true})
	s.delete(&pb.DeleteRangeRequest{Key: []byte("k")})
	s.get(&pb.RangeRequest{Key: []byte("k")})
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("again"), PrevKv: true})
	s.get(&pb.RangeRequest{Key: []byte("k")})
	s.put(&pb.PutRequest{Key: []byte{0xff, 0}, Value: []byte{0, 0xff}})
	s.get(&pb.RangeRequest{Key: []byte{0xff}, RangeEnd: []byte{0}})
}

func ranges(s *transcript) {
	s.fill()
	grant, err := s.leases.LeaseGrant(s.Context(), &pb.LeaseGrantRequest{ID: 77, TTL: 100})
	s.note("grant", grant, err)
	defer s.leases.LeaseRevoke(s.Context(), &pb.LeaseRevokeRequest{ID: 77})
	s.put(&pb.PutRequest{Key: []byte("bb"), Value: []byte("x"), Lease: 77})
	for _, span := range [][2]string{{"a", "\x00"}, {"\x00", "\x00"}, {"b", "d"}, {"b", "b"}, {"d", "b"}, {"a", ""}, {"x", ""}, {"x", "y"}, {"b", "bb\x00"}} {
		for _, more := range []*pb.RangeRequest{
			{}, {Limit: 1}, {Limit: 2}, {Limit: 100}, {KeysOnly: true}, {CountOnly: true}, {CountOnly: true, Limit: 1}, {KeysOnly: true, Limit: 2},
			{Serializable: true}, {MinModRevision: s.base + 4}, {MaxModRevision: s.base + 6, Limit: 1}, {MinCreateRevision: s.base + 3}, {MaxCreateRevision: s.base + 3, CountOnly: true},
			{KeysOnly: true, SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND},
		} {
			more.Key, more.RangeEnd = []byte(span[0]), []byte(span[1])
			s.get(more)
		}
	}
}

func orders(s *transcript) {
	s.fill()
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("m", "v1"), opPut("n", "v1"), opPut("l", "v1"), opPut("o", "v2")}})
	for _, target := range slices.Sorted(maps.Keys(pb.RangeRequest_SortTarget_name)) {
		for _, order := range slices.Sorted(maps.Keys(pb.RangeRequest_SortOrder_name)) {
			for _, limit := range []int64{0, 1, 3} {
				s.get(&pb.RangeRequest{
					Key: []byte("a"), RangeEnd: []byte{0}, Limit: limit,
					SortTarget: pb.RangeRequest_SortTarget(target), SortOrder: pb.RangeRequest_SortOrder(order),
				})
			}
		}
	}
}

func refusals(s *transcript) {
	s.get(&pb.RangeRequest{})
	s.get(&pb.RangeRequest{Key: []byte("a"), SortOrder: 9})
	s.get(&pb.RangeRequest{Key: []byte("a"), SortTarget: 9})
	s.get(&pb.RangeRequest{Key: []byte("a"), Revision: s.base + 1})
	s.put(&pb.PutRequest{})
	s.put(&pb.PutRequest{Key: []byte("a"), Lease: 404})
	s.put(&pb.PutRequest{Key: []byte("a"), Value: []byte("x"), IgnoreValue: true})
	s.put(&pb.PutRequest{Key: []byte("a"), Lease: 1, IgnoreLease: true})
	s.put(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true})
	s.put(&pb.PutRequest{Key: []byte("a"), IgnoreLease: true})
	s.delete(&pb.DeleteRangeRequest{})
	s.txn(&pb.TxnRequest{Compare: []*pb.Compare{{}}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{{}}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("", "x")}})
	s.txn(&pb.TxnRequest{Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{})}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("b", "x"), opRange(&pb.RangeRequest{Key: []byte("a"), Revision: s.base + 9})}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("b", "x"), {Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("c"), Lease: 404}}}}})
	s.get(&pb.RangeRequest{Key: []byte("b")})
	s.compact(s.base + 1)
}

func oldRevisions(s *transcript) {
	s.fill()
	s.delete(&pb.DeleteRangeRequest{Key: []byte("a")})
	s.put(&pb.PutRequest{Key: []byte("a"), Value: []byte("new")})
	all := func() {
		for revision := s.base + 1; revision <= s.base+12; revision++ {
			s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, Revision: revision})
			s.get(&pb.RangeRequest{Key: []byte("a"), Revision: revision, KeysOnly: true})
			s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, Revision: revision, CountOnly: true})
			s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte("a"), Revision: revision})}})
		}
	}
	all()
	s.compact(s.base + 4)
	all()
	s.compact(s.base + 4)
	s.compact(s.base + 3)
	s.compact(s.base + 10)
	all()
	s.compact(s.base + 11)
	s.compact(s.base + 12)
	all()
}

func deletions(s *transcript) {
	for _, span := range [][2]string{{"b", ""}, {"x", ""}, {"b", "e"}, {"e", "b"}, {"a", "\x00"}, {"\x00", "\x00"}} {
		s.fill()
		s.delete(&pb.DeleteRangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), PrevKv: true})
		s.delete(&pb.DeleteRangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), PrevKv: true})
		s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	}
}

func ignore(s *transcript) {
	grant, err := s.leases.LeaseGrant(s.Context(), &pb.LeaseGrantRequest{ID: 88, TTL: 100})
	s.note("grant", grant, err)
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 88})
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("w"), IgnoreLease: true, PrevKv: true})
	s.get(&pb.RangeRequest{Key: []byte("k")})
	s.put(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, PrevKv: true})
	s.get(&pb.RangeRequest{Key: []byte("k")})
	s.put(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, IgnoreLease: true})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("none"), IgnoreValue: true}}}}})
	revoke, err := s.leases.LeaseRevoke(s.Context(), &pb.LeaseRevokeRequest{ID: 88})
	s.note("revoke", revoke, err)
	s.get(&pb.RangeRequest{Key: []byte("k")})
}

func conditions(s *transcript) {
	s.fill()
	results := slices.Sorted(maps.Keys(pb.Compare_CompareResult_name))
	for _, span := range [][2]string{{"a", ""}, {"x", ""}, {"a", "d"}, {"x", "z"}, {"a", "\x00"}} {
		for _, result := range results {
			for _, c := range []*pb.Compare{
				{Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 1}},
				{Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}},
				{Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: s.base + 2}},
				{Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0}},
				{Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: s.base + 8}},
				{Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("v2")}},
				{Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{}},
				{Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{}},
				{Target: pb.Compare_LEASE},
				{Target: pb.Compare_VERSION},
			} {
				c.Key, c.RangeEnd, c.Result = []byte(span[0]), []byte(span[1]), pb.Compare_CompareResult(result)
				s.txn(&pb.TxnRequest{Compare: []*pb.Compare{c}})
			}
		}
	}
	yes := &pb.Compare{Key: []byte("a"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}
	no := &pb.Compare{Key: []byte("x"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}
	for _, compares := range [][]*pb.Compare{nil, {yes}, {no}, {yes, no}, {no, yes}, {yes, yes}} {
		s.txn(&pb.TxnRequest{
			Compare: compares,
			Success: []*pb.RequestOp{opPut("t", "then"), opRange(&pb.RangeRequest{Key: []byte("t")}), opDelete("a"), opRange(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})},
			Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte("t")}), opPut("e", "else")},
		})
	}
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("nothing")}})
	s.txn(&pb.TxnRequest{})
}

func nested(s *transcript) {
	s.fill()
	no := &pb.Compare{Key: []byte("x"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{}}
	inner := &pb.TxnRequest{Compare: []*pb.Compare{no}, Success: []*pb.RequestOp{opPut("p", "1")}, Failure: []*pb.RequestOp{opPut("p", "2"), opRange(&pb.RangeRequest{Key: []byte("q")}), opDelete("b")}}
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("q", "outer"), opTxn(inner), opRange(&pb.RangeRequest{Key: []byte("p")}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte("p")})}})}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte("p")})}})}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("w", "1")}}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("w")}})}})
	s.get(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})
	s.put(&pb.PutRequest{Key: []byte("w"), Value: []byte("again")})
	s.get(&pb.RangeRequest{Key: []byte("w")})
}

func duplicates(s *transcript) {
	txns := [][]*pb.RequestOp{
		{opPut("a", "1"), opPut("a", "2")},
		{opPut("a", "1"), opDelete("a")},
		{opDelete("a"), opPut("a", "1")},
		{opDelete("a"), opDelete("a")},
		{opDelete("a", "c"), opPut("b", "1")},
		{opDelete("a", "c"), opPut("c", "1")},
		{opDelete("a", "\x00"), opPut("z", "1")},
		{opPut("a", "1"), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "2")}})},
		{opPut("a", "1"), opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opPut("a", "2")}})},
		{opPut("a", "1"), opTxn(&pb.TxnRequest{Failure: []*pb.RequestOp{opDelete("a")}})},
		{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "1")}, Failure: []*pb.RequestOp{opPut("a", "2")}})},
		{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "1")}}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "1")}})},
		{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("a")}}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "1")}})},
		{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("a", "1")}}), opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("a")}})},
	}
	for _, ops := range txns {
		s.txn(&pb.TxnRequest{Success: ops})
		s.txn(&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("never"), Target: pb.Compare_VALUE}}, Success: ops})
	}
}

func limits(s *transcript) {
	many := func(n int) (ops []*pb.RequestOp) {
		for i := range n {
			ops = append(ops, opPut(fmt.Sprintf("k%03d", i), "x"))
		}
		return ops
	}
	s.txn(&pb.TxnRequest{Success: many(128)})
	s.txn(&pb.TxnRequest{Success: many(129)})
	s.txn(&pb.TxnRequest{Failure: many(129)})
	s.txn(&pb.TxnRequest{Success: many(128), Failure: many(128)})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: many(127)})}})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: many(128)})}})
	s.put(&pb.PutRequest{Key: []byte("big"), Value: bytes.Repeat([]byte("x"), 3<<19-100)})
	s.put(&pb.PutRequest{Key: []byte("big"), Value: bytes.Repeat([]byte("x"), 3<<19)})
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("big", strings.Repeat("y", 3<<19))}})
	s.put(&pb.PutRequest{Key: []byte("big"), Value: bytes.Repeat([]byte("x"), 3<<20)})
}

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func opDelete(key string, end ...string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(strings.Join(end, ""))}}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

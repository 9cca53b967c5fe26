package simetcd_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// behaviours are scripts whose transcripts must be the same with the model and with a real etcd.
var behaviours = []struct {
	name string
	run  func(s *transcript)
	// newer says that the installed etcd may be too old for it, and is not asked.
	newer bool
}{
	{"keys and their versions", versions, false},
	{"ranges", ranges, true}, // before 3.6, keys without values have their lease
	{"ranges in other orders", orders, false},
	{"refused requests", refusals, true}, // before 3.5, an unknown order ends the process
	{"old revisions and compaction", oldRevisions, false},
	{"deletions", deletions, false},
	{"the value or the lease stays", ignore, false},
	{"conditions", conditions, false},
	{"nested transactions", nested, false},
	{"duplicate keys", duplicates, false},
	{"limits", limits, false},
	{"a watch", watch, false},
	{"a watch from the past", watchPast, false},
	{"a watch from the future", watchFuture, true},         // before 3.6, progress is reported for it too
	{"a watch of what is compacted", watchCompacted, true}, // before 3.6, a negative revision is taken
	{"filters and previous values", watchFilters, false},
	{"watches on one stream", watchMany, false},
	{"refused watches", watchRefused, true}, // before 3.6, the reasons differ
	{"one transaction is one answer", watchTransaction, false},
	{"fragments", watchFragments, true}, // before 3.5, they are cut otherwise
	{"leases", leases, false},
	{"keys move between leases", leaseMoves, false},
	{"a lease that runs out", leaseExpires, false},
	{"the client's recipes", recipes, true}, // before 3.6, keys without values have their lease
	{"users", users, true},                  // before 3.5, answers of sign-ins have other headers
}

// TestSameAsEmbeddedEtcd runs all behaviours with the model and with an embedded etcd.
func TestSameAsEmbeddedEtcd(t *testing.T) { sameAs(t, embedded(t), false) }

// TestSameAsInstalledEtcd runs the behaviours with the model and with the etcd of this machine.
func TestSameAsInstalledEtcd(t *testing.T) { sameAs(t, installed(t), true) }

// sameAs compares transcripts of the model with those of a real etcd.
func sameAs(t *testing.T, etcd server, old bool) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			if b.newer && old {
				t.Skip("etcd before 3.6 differs here")
			}
			var lines [2][]string
			for i, s := range []server{etcd, model()} {
				s.run(t, func(t *testing.T, client *clientv3.Client) {
					script := newTranscript(t, client)
					b.run(script)
					lines[i] = script.lines
				})
			}
			if len(lines[0]) == 0 {
				t.Fatal("the script has written nothing down")
			}
			compare(t, etcd.name, lines[0], lines[1])
		})
	}
}

func (s *transcript) put(r *pb.PutRequest) {
	answer, err := s.kv.Put(s.Context(), r)
	s.note("put", answer, err)
}

func (s *transcript) get(r *pb.RangeRequest) {
	answer, err := s.kv.Range(s.Context(), r)
	s.note("range", answer, err)
}

func (s *transcript) delete(r *pb.DeleteRangeRequest) {
	answer, err := s.kv.DeleteRange(s.Context(), r)
	s.note("delete", answer, err)
}

func (s *transcript) txn(r *pb.TxnRequest) {
	answer, err := s.kv.Txn(s.Context(), r)
	s.note("txn", answer, err)
}

func (s *transcript) compact(revision int64) {
	answer, err := s.kv.Compact(s.Context(), &pb.CompactionRequest{Revision: revision})
	s.note("compact", answer, err)
}

// fill puts keys a to f, some of them several times, at revisions 1 to 9.
func (s *transcript) fill() {
	for i, key := range []string{"c", "a", "b", "a", "d", "f", "e", "a", "c"} {
		s.put(&pb.PutRequest{Key: []byte(key), Value: fmt.Appendf(nil, "v%d", 9-i)})
	}
}

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

func watch(s *transcript) {
	w := s.watch()
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c")})
	w.note(s, "create", 1)
	s.fill()
	w.note(s, "event", 4)
	s.delete(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
	w.note(s, "event", 1)
	w.progress(s)
	w.note(s, "progress", 1)
	w.cancel(s, 7)
	w.cancel(s, 0)
	w.note(s, "cancel", 1)
	s.put(&pb.PutRequest{Key: []byte("a")})
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a")})
	w.note(s, "create", 1)
	s.put(&pb.PutRequest{Key: []byte("a"), Value: []byte("last")})
	w.note(s, "event", 1)
}

func watchPast(s *transcript) {
	s.fill()
	s.delete(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
	for back := range int64(10) {
		w := s.watch()
		w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, StartRevision: s.base + 10 - back, PrevKv: back%2 == 0})
		w.note(s, "create", 1)
		w.note(s, "event", 1)
	}
}

func watchFuture(s *transcript) {
	w := s.watch()
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, StartRevision: s.base + 5})
	w.note(s, "create", 1)
	w.progress(s) // has no answer
	w.create(s, &pb.WatchCreateRequest{Key: []byte("other")})
	w.note(s, "create", 1)
	s.fill()
	w.note(s, "event", 5)
}

func watchCompacted(s *transcript) {
	s.fill()
	s.compact(s.base + 5)
	w := s.watch()
	for _, from := range []int64{3, 4, 5, 6} {
		w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, StartRevision: s.base + from, PrevKv: true})
		w.note(s, "create", 1)
		w.note(s, "event", 1)
	}
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1})
	w.note(s, "create", 1)
}

func watchFilters(s *transcript) {
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("before")})
	w := s.watch()
	for _, filters := range [][]pb.WatchCreateRequest_FilterType{nil, {pb.WatchCreateRequest_NOPUT}, {pb.WatchCreateRequest_NODELETE}, {pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE}} {
		w.create(s, &pb.WatchCreateRequest{Key: []byte("k"), Filters: filters, PrevKv: true})
		w.note(s, "create", 1)
	}
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("1")})
	s.delete(&pb.DeleteRangeRequest{Key: []byte("k")})
	s.put(&pb.PutRequest{Key: []byte("k"), Value: []byte("2")})
	// Answers to different watches may come in any order.
	var lines []string
	for range 6 {
		lines = append(lines, s.text(w.next(s), nil))
	}
	s.say("%q", sorted(lines...))
}

func watchMany(s *transcript) {
	w := s.watch()
	for i, span := range [][2]string{{"a", ""}, {"b", ""}, {"a", "c"}, {"", ""}, {"b", "\x00"}} {
		r := &pb.WatchCreateRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1])}
		if i == 2 {
			r.WatchId = 42
		}
		w.create(s, r)
		w.note(s, "create", 1)
	}
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 42})
	w.note(s, "create", 1)
	s.put(&pb.PutRequest{Key: []byte("a"), Value: []byte("1")})
	s.put(&pb.PutRequest{Key: []byte("b"), Value: []byte("2")})
	var lines []string
	for range 5 {
		lines = append(lines, s.text(w.next(s), nil))
	}
	s.say("%q", sorted(lines...))
	w.cancel(s, 42)
	w.note(s, "cancel", 1)
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 42})
	w.note(s, "create", 1)
}

func watchRefused(s *transcript) {
	w := s.watch()
	for _, span := range [][2]string{{"b", "a"}, {"b", "b"}} {
		w.create(s, &pb.WatchCreateRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1])})
		w.note(s, "create", 1)
	}
}

func watchTransaction(s *transcript) {
	w := s.watch()
	w.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("n")})
	w.note(s, "create", 1)
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("c", "1"), opPut("z", "1"), opPut("a", "1"), opDelete("m"), opPut("b", "1")}})
	w.note(s, "event", 1)
	s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opDelete("a", "z"), opRange(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}})}})
	w.note(s, "event", 1)
	late := s.watch()
	late.create(s, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("n"), StartRevision: s.base + 1})
	late.note(s, "create", 1)
	late.note(s, "event", 1)
}

func watchFragments(s *transcript) {
	for i := range 5 {
		s.put(&pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: bytes.Repeat([]byte{'a' + byte(i)}, 700_000)})
	}
	for _, fragment := range []bool{false, true} {
		w := s.watch()
		w.create(s, &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), StartRevision: s.base + 1, Fragment: fragment})
		w.note(s, "create", 1)
		for more := true; more; {
			a := w.next(s)
			more = a.Fragment
			s.say("%d bytes, fragment %v, %d events", proto.Size(a)>>10<<10, a.Fragment, len(a.Events))
		}
	}
}

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

// users lets etcd ask for a sign-in, and does what several users may and may not do.
func users(s *transcript) {
	ctx := s.Context()
	auth := pb.NewAuthClient(s.client.ActiveConnection())
	note := func(doing string, answer proto.Message, err error) { s.note(doing, answer, err) }
	signIn := func(user, password string) context.Context {
		answer, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
		token := ""
		if err == nil {
			token, answer.Token = answer.Token, ""
		}
		note("sign in "+user, answer, err)
		return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	grant := func(ctx context.Context, role, key, end string, kind authpb.Permission_Type) {
		answer, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{
			Name: role, Perm: &authpb.Permission{Key: []byte(key), RangeEnd: []byte(end), PermType: kind},
		})
		note("grant", answer, err)
	}
	addUser := func(ctx context.Context, name, password string) {
		answer, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: password, Options: &authpb.UserAddOptions{}})
		note("add user", answer, err)
	}
	give := func(ctx context.Context, user, role string) {
		answer, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
		note("grant role", answer, err)
	}
	enable := func(ctx context.Context) {
		answer, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
		note("enable", answer, err)
	}
	signIn("root", "secret")
	enable(ctx)
	addUser(ctx, "", "x")
	addUser(ctx, "root", "secret")
	addUser(ctx, "root", "secret")
	enable(ctx)
	give(ctx, "root", "none")
	give(ctx, "nobody", "root")
	role, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"})
	note("add role", role, err)
	give(ctx, "root", "root")
	give(ctx, "root", "root")
	for _, name := range []string{"", "part", "part"} {
		role, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name})
		note("add role", role, err)
	}
	grant(ctx, "none", "a", "", authpb.Permission_READ)
	grant(ctx, "part", "", "", authpb.Permission_READ)
	grant(ctx, "part", "b", "a", authpb.Permission_READ)
	grant(ctx, "part", "a", "c", authpb.Permission_READWRITE)
	grant(ctx, "part", "c", "e", authpb.Permission_READ)
	grant(ctx, "part", "f", "", authpb.Permission_WRITE)
	grant(ctx, "part", "g", "\x00", authpb.Permission_READ)
	addUser(ctx, "ann", "pw")
	give(ctx, "ann", "part")
	enable(ctx)
	defer func() {
		admin := signIn("root", "secret")
		_, err := auth.AuthDisable(admin, &pb.AuthDisableRequest{})
		s.say("disabled: %v", err)
		for _, name := range []string{"root", "ann"} {
			_, err := auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: name})
			s.say("deleted: %v", err)
		}
		for _, name := range []string{"root", "part"} {
			_, err := auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: name})
			s.say("deleted: %v", err)
		}
	}()
	signIn("ann", "wrong")
	signIn("nobody", "pw")
	ann, admin := signIn("ann", "pw"), signIn("root", "secret")
	nobody := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, "nonsense")
	lease, err := s.leases.LeaseGrant(admin, &pb.LeaseGrantRequest{ID: 31, TTL: 100})
	note("grant", lease, err)
	answer, err := s.kv.Put(admin, &pb.PutRequest{Key: []byte("z"), Lease: 31})
	note("put", answer, err)
	for _, who := range []context.Context{ctx, nobody, ann, admin} {
		for _, span := range [][2]string{{"a", ""}, {"a", "c"}, {"b", "d"}, {"a", "e"}, {"a", "f"}, {"f", ""}, {"g", "\x00"}, {"h", "\x00"}, {"a", "\x00"}, {"\x00", "\x00"}} {
			r, err := s.kv.Range(who, &pb.RangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), KeysOnly: true})
			note("range", r, err)
			d, err := s.kv.DeleteRange(who, &pb.DeleteRangeRequest{Key: []byte(span[0] + "x"), RangeEnd: []byte(span[1])})
			note("delete", d, err)
			t, err := s.kv.Txn(who, &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte(span[0]), RangeEnd: []byte(span[1]), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: -1}}},
				Success: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte(span[0]), KeysOnly: true})},
			})
			note("txn", t, err)
		}
		for _, key := range []string{"a", "d", "f", "g", "z"} {
			for _, prev := range []bool{false, true} {
				p, err := s.kv.Put(who, &pb.PutRequest{Key: []byte(key), PrevKv: prev})
				note("put", p, err)
			}
			p, err := s.kv.Put(who, &pb.PutRequest{Key: []byte(key), Lease: 31})
			note("put", p, err)
			t, err := s.kv.Txn(who, &pb.TxnRequest{Failure: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut(key, "x")}})}})
			note("txn", t, err)
		}
		g, err := s.leases.LeaseGrant(who, &pb.LeaseGrantRequest{ID: 32, TTL: 100})
		note("grant", g, err)
		for _, id := range []int64{31, 32, 33} {
			l, err := s.leases.LeaseTimeToLive(who, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
			if err == nil {
				l.TTL = min(l.TTL, 1)
				slices.SortFunc(l.Keys, bytes.Compare)
			}
			note("time to live", l, err)
		}
		keep, err := s.leases.LeaseKeepAlive(who)
		if err != nil {
			s.Fatal(err)
		}
		for _, id := range []int64{33, 31} {
			if err := keep.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				s.say("it ended before: %v", err)
				break
			}
			k, err := keep.Recv()
			note("keep alive", k, err)
			if err != nil {
				break
			}
		}
		for _, id := range []int64{32, 33} {
			v, err := s.leases.LeaseRevoke(who, &pb.LeaseRevokeRequest{ID: id})
			note("revoke", v, err)
		}
		c, err := s.kv.Compact(who, &pb.CompactionRequest{Revision: s.base - 1})
		s.say("compact: %v %v", c != nil, status.Code(err))
		u, err := auth.UserAdd(who, &pb.AuthUserAddRequest{Name: "ann", Password: "x"})
		note("add user", u, err)
		st, err := pb.NewMaintenanceClient(s.client.ActiveConnection()).Status(who, &pb.StatusRequest{})
		s.say("status: %v %v", st != nil, err)
		al, err := pb.NewMaintenanceClient(s.client.ActiveConnection()).Alarm(who, &pb.AlarmRequest{})
		note("alarm", al, err)
		w := s.watchAs(who)
		for _, span := range [][2]string{{"a", ""}, {"a", "f"}, {"a", "\x00"}, {"g", "\x00"}} {
			w.create(s, &pb.WatchCreateRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1])})
			w.note(s, "create", 1)
		}
	}
	changed, err := auth.UserChangePassword(admin, &pb.AuthUserChangePasswordRequest{Name: "ann", Password: "new"})
	note("change password", changed, err)
	r, err := s.kv.Range(ann, &pb.RangeRequest{Key: []byte("a")})
	note("range", r, err)
	signIn("ann", "pw")
	ann = signIn("ann", "new")
	revoked, err := auth.RoleRevokePermission(admin, &pb.AuthRoleRevokePermissionRequest{Role: "part", Key: []byte("a"), RangeEnd: []byte("c")})
	note("revoke permission", revoked, err)
	revoked, err = auth.RoleRevokePermission(admin, &pb.AuthRoleRevokePermissionRequest{Role: "part", Key: []byte("a"), RangeEnd: []byte("c")})
	note("revoke permission", revoked, err)
	r, err = s.kv.Range(ann, &pb.RangeRequest{Key: []byte("a")})
	note("range", r, err)
	taken, err := auth.UserRevokeRole(admin, &pb.AuthUserRevokeRoleRequest{Name: "ann", Role: "part"})
	note("revoke role", taken, err)
	taken, err = auth.UserRevokeRole(admin, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"})
	note("revoke role", taken, err)
	gone, err := auth.UserDelete(admin, &pb.AuthUserDeleteRequest{Name: "root"})
	note("delete user", gone, err)
	allUsers, err := auth.UserList(admin, &pb.AuthUserListRequest{})
	note("users", allUsers, err)
	allRoles, err := auth.RoleList(ann, &pb.AuthRoleListRequest{})
	note("roles", allRoles, err)
	allRoles, err = auth.RoleList(admin, &pb.AuthRoleListRequest{})
	note("roles", allRoles, err)
	stats, err := auth.AuthStatus(admin, &pb.AuthStatusRequest{})
	if err == nil {
		stats.AuthRevision = 0
	}
	note("status", stats, err)
	back, err := s.leases.LeaseRevoke(admin, &pb.LeaseRevokeRequest{ID: 31})
	note("revoke", back, err)
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

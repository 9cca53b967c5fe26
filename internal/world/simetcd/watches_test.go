package simetcd_test

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

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

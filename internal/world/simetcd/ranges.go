package simetcd

import (
	"bytes"
	"math"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// read answers a range request. now is the revision that counts as the newest one; the request may name an older one, which the caller has
// checked. The corners are those of etcd: a limit applies before the sort if no order is named, and keys without values have no lease.
func (s *store) read(r *pb.RangeRequest, now int64) *pb.RangeResponse {
	at := r.GetRevision()
	if at <= 0 {
		at = now
	}
	limit := r.GetLimit()
	if !inKeyOrder(r) || filtered(r) {
		limit = 0
	}
	if limit > 0 && limit < math.MaxInt64 {
		limit++ // so that one key more shows that there are more
	}
	answer := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: now}}
	var kvs []*mvccpb.KeyValue
	s.each(newSpan(r.GetKey(), r.GetRangeEnd()), at, func(kv *mvccpb.KeyValue) bool {
		answer.Count++
		if !r.GetCountOnly() && (limit <= 0 || int64(len(kvs)) < limit) && passes(r, kv) {
			kvs = append(kvs, kv)
		}
		return true
	})
	sortAs(r, kvs)
	if r.GetLimit() > 0 && int64(len(kvs)) > r.GetLimit() {
		kvs, answer.More = kvs[:r.GetLimit()], true
	}
	if r.GetKeysOnly() {
		for i, kv := range kvs {
			kvs[i] = &mvccpb.KeyValue{Key: kv.GetKey(), CreateRevision: kv.GetCreateRevision(), ModRevision: kv.GetModRevision(), Version: kv.GetVersion()}
			if r.GetSortTarget() == pb.RangeRequest_VALUE {
				kvs[i].Lease = kv.GetLease()
			}
		}
	}
	answer.Kvs = kvs
	return answer
}

// inKeyOrder reports whether a request asks for the order in which keys are kept.
func inKeyOrder(r *pb.RangeRequest) bool {
	return r.GetSortOrder() == pb.RangeRequest_NONE || (r.GetSortTarget() == pb.RangeRequest_KEY && r.GetSortOrder() == pb.RangeRequest_ASCEND)
}

// filtered reports whether a request leaves keys out by their revisions.
func filtered(r *pb.RangeRequest) bool {
	return r.GetMinModRevision() != 0 || r.GetMaxModRevision() != 0 || r.GetMinCreateRevision() != 0 || r.GetMaxCreateRevision() != 0
}

// passes reports whether a key is not left out by its revisions.
func passes(r *pb.RangeRequest, kv *mvccpb.KeyValue) bool {
	return (r.GetMaxModRevision() == 0 || kv.GetModRevision() <= r.GetMaxModRevision()) && kv.GetModRevision() >= r.GetMinModRevision() &&
		(r.GetMaxCreateRevision() == 0 || kv.GetCreateRevision() <= r.GetMaxCreateRevision()) && kv.GetCreateRevision() >= r.GetMinCreateRevision()
}

// sortAs sorts keys as a request asks. Equal ones come in the order in which etcd's sort leaves them, which is not the stable one.
func sortAs(r *pb.RangeRequest, kvs []*mvccpb.KeyValue) {
	order := r.GetSortOrder()
	if r.GetSortTarget() != pb.RangeRequest_KEY && order == pb.RangeRequest_NONE {
		order = pb.RangeRequest_ASCEND
	}
	if order == pb.RangeRequest_NONE || (r.GetSortTarget() == pb.RangeRequest_KEY && order == pb.RangeRequest_ASCEND) {
		return
	}
	by := &sorter{kvs: kvs, target: r.GetSortTarget()}
	if order == pb.RangeRequest_DESCEND {
		sort.Sort(sort.Reverse(by))
		return
	}
	sort.Sort(by)
}

// sorter sorts keys by one of their fields. It implements sort.Interface.
type sorter struct {
	kvs    []*mvccpb.KeyValue
	target pb.RangeRequest_SortTarget
}

// Len implements sort.Interface.
func (s *sorter) Len() int { return len(s.kvs) }

// Swap implements sort.Interface.
func (s *sorter) Swap(i, j int) { s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i] }

// Less implements sort.Interface.
func (s *sorter) Less(i, j int) bool {
	a, b := s.kvs[i], s.kvs[j]
	switch s.target {
	case pb.RangeRequest_VERSION:
		return a.GetVersion() < b.GetVersion()
	case pb.RangeRequest_CREATE:
		return a.GetCreateRevision() < b.GetCreateRevision()
	case pb.RangeRequest_MOD:
		return a.GetModRevision() < b.GetModRevision()
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.GetValue(), b.GetValue()) < 0
	}
	return bytes.Compare(a.GetKey(), b.GetKey()) < 0
}

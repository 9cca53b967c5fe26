package simetcd

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// readOnly reports whether a transaction only reads. etcd takes every nested transaction for one that writes.
func readOnly(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// serializable reports whether a transaction only makes reads that need not be linearizable.
func serializable(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if !op.GetRequestRange().GetSerializable() {
				return false
			}
		}
	}
	return true
}

// txn is one transaction. Its branches are decided, for the nested ones too, before it changes anything.
type txn struct {
	w       *writer
	holds   map[*pb.TxnRequest]bool // whether the conditions hold, of each nested transaction that is reached
	readsAt int64                   // the newest revision for a transaction that only reads; 0 means that of w
}

// transact carries a transaction out. now is the newest revision for one that only reads. An error means that nothing was changed.
func (s *state) transact(r *pb.TxnRequest, now int64) (*pb.TxnResponse, *writer, error) {
	t := &txn{w: &writer{state: s}, holds: map[*pb.TxnRequest]bool{}}
	if readOnly(r) {
		t.readsAt = now
	}
	t.decide(r)
	if err := t.check(r); err != nil {
		return nil, nil, err
	}
	answer := t.run(r)
	answer.Header.Revision = t.revision()
	t.w.end()
	return answer, t.w, nil
}

// revision is the revision at which the transaction reads.
func (t *txn) revision() int64 {
	if t.readsAt != 0 {
		return t.readsAt
	}
	return t.w.revision()
}

// decide finds out which conditions hold.
func (t *txn) decide(r *pb.TxnRequest) {
	holds := true
	for _, c := range r.GetCompare() {
		if !t.compare(c) {
			holds = false
			break
		}
	}
	t.holds[r] = holds
	for _, op := range t.branch(r) {
		if nested := op.GetRequestTxn(); nested != nil {
			t.decide(nested)
		}
	}
}

// branch returns the operations that a decided transaction makes.
func (t *txn) branch(r *pb.TxnRequest) []*pb.RequestOp {
	if t.holds[r] {
		return r.GetSuccess()
	}
	return r.GetFailure()
}

// compare reports whether a condition holds for every key of its range. For a range without keys, zeros are compared, and a condition on
// the value does not hold.
func (t *txn) compare(c *pb.Compare) bool {
	found, holds := false, true
	t.w.state.store.each(newSpan(c.GetKey(), c.GetRangeEnd()), t.revision(), func(kv *mvccpb.KeyValue) bool {
		found, holds = true, compareOne(c, kv)
		return holds
	})
	if !found {
		return c.GetTarget() != pb.Compare_VALUE && compareOne(c, &mvccpb.KeyValue{})
	}
	return holds
}

// compareOne reports whether a condition holds for one key.
func compareOne(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var result int
	switch c.GetTarget() {
	case pb.Compare_VALUE:
		result = bytes.Compare(kv.GetValue(), c.GetValue())
	case pb.Compare_CREATE:
		result = cmp.Compare(kv.GetCreateRevision(), c.GetCreateRevision())
	case pb.Compare_MOD:
		result = cmp.Compare(kv.GetModRevision(), c.GetModRevision())
	case pb.Compare_VERSION:
		result = cmp.Compare(kv.GetVersion(), c.GetVersion())
	case pb.Compare_LEASE:
		result = cmp.Compare(kv.GetLease(), c.GetLease())
	}
	switch c.GetResult() {
	case pb.Compare_EQUAL:
		return result == 0
	case pb.Compare_NOT_EQUAL:
		return result != 0
	case pb.Compare_GREATER:
		return result > 0
	case pb.Compare_LESS:
		return result < 0
	}
	return true
}

// check returns the error of the first operation that can't be made.
func (t *txn) check(r *pb.TxnRequest) error {
	for _, op := range t.branch(r) {
		var err error
		switch op := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			err = t.w.state.store.check(op.RequestRange.GetRevision(), t.revision())
		case *pb.RequestOp_RequestPut:
			err = t.w.state.checkPut(op.RequestPut)
		case *pb.RequestOp_RequestTxn:
			err = t.check(op.RequestTxn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run makes the operations, which check has found possible.
func (t *txn) run(r *pb.TxnRequest) *pb.TxnResponse {
	answer := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: t.holds[r]}
	for _, op := range t.branch(r) {
		one := &pb.ResponseOp{}
		switch op := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			one.Response = &pb.ResponseOp_ResponseRange{ResponseRange: t.w.state.store.read(op.RequestRange, t.revision())}
		case *pb.RequestOp_RequestPut:
			one.Response = &pb.ResponseOp_ResponsePut{ResponsePut: t.w.putAs(op.RequestPut)}
		case *pb.RequestOp_RequestDeleteRange:
			one.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: t.w.deleteAs(op.RequestDeleteRange)}
		case *pb.RequestOp_RequestTxn:
			one.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: t.run(op.RequestTxn)}
		}
		answer.Responses = append(answer.Responses, one)
	}
	return answer
}

// checkPut returns an error if a key can't be put: its lease does not exist, or the key does not exist whose value or lease is to stay.
func (s *state) checkPut(r *pb.PutRequest) error {
	if r.GetLease() != 0 && s.leases[r.GetLease()] == nil {
		return rpctypes.ErrGRPCLeaseNotFound
	}
	if (r.GetIgnoreValue() || r.GetIgnoreLease()) && s.store.get(string(r.GetKey()), s.store.revision) == nil {
		return rpctypes.ErrGRPCKeyNotFound
	}
	return nil
}

// putAs puts a key as a request asks, and makes the answer.
func (w *writer) putAs(r *pb.PutRequest) *pb.PutResponse {
	answer := &pb.PutResponse{}
	value, lease := r.GetValue(), r.GetLease()
	before := w.state.store.get(string(r.GetKey()), w.revision())
	if r.GetIgnoreValue() {
		value = before.GetValue()
	}
	if r.GetIgnoreLease() {
		lease = before.GetLease()
	}
	if r.GetPrevKv() {
		answer.PrevKv = before
	}
	w.put(r.GetKey(), value, lease)
	answer.Header = &pb.ResponseHeader{Revision: w.revision()}
	return answer
}

// deleteAs deletes keys as a request asks, and makes the answer.
func (w *writer) deleteAs(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	gone := w.delete(newSpan(r.GetKey(), r.GetRangeEnd()))
	answer := &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{Revision: w.revision()}, Deleted: int64(len(gone))}
	if r.GetPrevKv() {
		answer.PrevKvs = gone
	}
	return answer
}

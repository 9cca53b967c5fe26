package simetcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// checkRange returns an error for a range request that etcd refuses before it looks at its state.
func checkRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if _, ok := pb.RangeRequest_SortOrder_name[int32(r.GetSortOrder())]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if _, ok := pb.RangeRequest_SortTarget_name[int32(r.GetSortTarget())]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

// checkPut returns an error for a put that etcd refuses before it looks at its state.
func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.GetIgnoreValue() && len(r.GetValue()) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.GetIgnoreLease() && r.GetLease() != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

// checkDelete returns an error for a deletion that etcd refuses before it looks at its state.
func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkTxn returns an error for a transaction that etcd refuses before it looks at its state. limit is the limit for conditions, and for
// the operations of a branch; nested transactions get the rest of it.
func checkTxn(r *pb.TxnRequest, limit int) error {
	n := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if n > limit {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.GetKey()) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if err := checkOp(op, limit-n); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOp returns an error for an operation of a transaction that etcd refuses before it looks at its state.
func checkOp(op *pb.RequestOp, limit int) error {
	switch op := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(op.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(op.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(op.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkTxn(op.RequestTxn, limit)
	}
	return rpctypes.ErrGRPCKeyNotFound
}

// touched are the keys that a transaction puts and the ranges that it deletes.
type touched struct {
	puts map[string]bool
	dels []span
}

// deletes reports whether a key is in one of the ranges.
func (t *touched) deletes(key string) bool {
	for _, d := range t.dels {
		if d.contains(key) {
			return true
		}
	}
	return false
}

// checkDuplicates returns an error if operations put a key twice, or put and delete it. Of the two branches of a nested transaction only
// one is run, so both may put the same key. As in etcd, a nested deletion of a key that an earlier nested transaction puts is not found.
func checkDuplicates(ops []*pb.RequestOp) (*touched, error) {
	t := &touched{puts: map[string]bool{}}
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			// As in etcd, a range without an end, whose end is written as a zero byte, is taken for an empty one here.
			t.dels = append(t.dels, span{from: string(d.GetKey()), to: string(d.GetRangeEnd()), one: len(d.GetRangeEnd()) == 0})
		}
	}
	for _, op := range ops {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		then, err := checkDuplicates(nested.GetSuccess())
		if err != nil {
			return nil, err
		}
		otherwise, err := checkDuplicates(nested.GetFailure())
		if err != nil {
			return nil, err
		}
		for key := range then.puts {
			if t.puts[key] || t.deletes(key) {
				return nil, rpctypes.ErrGRPCDuplicateKey
			}
		}
		for key := range otherwise.puts {
			if t.puts[key] || t.deletes(key) {
				return nil, rpctypes.ErrGRPCDuplicateKey
			}
		}
		for _, keys := range []map[string]bool{then.puts, otherwise.puts} {
			for key := range keys {
				t.puts[key] = true
			}
		}
		t.dels = append(append(t.dels, then.dels...), otherwise.dels...)
	}
	for _, op := range ops {
		p := op.GetRequestPut()
		if p == nil {
			continue
		}
		if key := string(p.GetKey()); t.puts[key] || t.deletes(key) {
			return nil, rpctypes.ErrGRPCDuplicateKey
		}
		t.puts[string(p.GetKey())] = true
	}
	return t, nil
}

// cost is the room that a transaction takes in the database; 0 means that it puts nothing.
func cost(r *pb.TxnRequest) int {
	branch := func(ops []*pb.RequestOp) (sum int) {
		for _, op := range ops {
			if op.GetRequestPut() != nil {
				sum++
			} else if nested := op.GetRequestTxn(); nested != nil {
				sum += cost(nested)
			}
		}
		return sum
	}
	return max(branch(r.GetSuccess()), branch(r.GetFailure()))
}

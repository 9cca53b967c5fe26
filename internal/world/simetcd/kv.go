package simetcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// Range implements etcdserverpb.KVServer.
func (s service) Range(ctx context.Context, r *pb.RangeRequest) (answer *pb.RangeResponse, err error) {
	if err := checkRange(r); err != nil {
		return nil, err
	}
	err = s.read(ctx, r.GetSerializable(), func(who *identity) error {
		if err := s.etcd.state.permitted(who, newSpan(r.GetKey(), r.GetRangeEnd()), false); err != nil {
			return err
		}
		if err := s.etcd.state.store.check(r.GetRevision(), s.applied); err != nil {
			return err
		}
		answer = s.etcd.state.store.read(r, s.applied)
		s.fill(answer.GetHeader())
		return nil
	})
	return answer, err
}

// read calls f, under Etcd.mu, with the user that asks: at once for a serializable read, else once the member has a leader.
func (m *member) read(ctx context.Context, serializable bool, f func(*identity) error) error {
	identified := func() error {
		who, err := m.identify(ctx)
		if err != nil {
			return err
		}
		return f(who)
	}
	if !serializable {
		return m.agree(ctx, true, identified)
	}
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	return identified()
}

// propose carries a write out, once its size, its user and the room in the database allow it. f runs under Etcd.mu. grows says that the
// write needs room.
func (m *member) propose(ctx context.Context, r *pb.InternalRaftRequest, grows bool, f func(*identity) (*writer, error)) error {
	m.etcd.mu.Lock()
	who, err := m.identify(ctx)
	if grows && m.etcd.state.full && err == nil {
		m.etcd.state.alarm = true
		err = rpctypes.ErrGRPCNoSpace
	}
	m.etcd.mu.Unlock()
	if err != nil {
		return err
	}
	r.Header = &pb.RequestHeader{ID: 1 << 62}
	if who != nil {
		r.Header.Username, r.Header.AuthRevision = who.user, who.revision
	}
	if proto.Size(r) > m.etcd.config.MaxBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return m.write(ctx, func() (*writer, error) {
		if grows && m.etcd.state.alarm {
			return nil, rpctypes.ErrGRPCNoSpace
		}
		return f(who)
	})
}

// Put implements etcdserverpb.KVServer.
func (s service) Put(ctx context.Context, r *pb.PutRequest) (answer *pb.PutResponse, err error) {
	if err := checkPut(r); err != nil {
		return nil, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{Put: r}, true, func(who *identity) (*writer, error) {
		state := s.etcd.state
		if err := state.mayPut(who, r); err != nil {
			return nil, err
		}
		if err := state.checkPut(r); err != nil {
			return nil, err
		}
		w := &writer{state: state}
		answer = w.putAs(r)
		s.fill(answer.GetHeader())
		w.end()
		return w, nil
	})
	return answer, err
}

// DeleteRange implements etcdserverpb.KVServer.
func (s service) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (answer *pb.DeleteRangeResponse, err error) {
	if err := checkDelete(r); err != nil {
		return nil, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{DeleteRange: r}, false, func(who *identity) (*writer, error) {
		if err := s.etcd.state.mayDelete(who, r); err != nil {
			return nil, err
		}
		w := &writer{state: s.etcd.state}
		answer = w.deleteAs(r)
		s.fill(answer.GetHeader())
		w.end()
		return w, nil
	})
	return answer, err
}

// Txn implements etcdserverpb.KVServer.
func (s service) Txn(ctx context.Context, r *pb.TxnRequest) (answer *pb.TxnResponse, err error) {
	if err := checkTxn(r, s.etcd.config.MaxOperations); err != nil {
		return nil, err
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		if _, err := checkDuplicates(ops); err != nil {
			return nil, err
		}
	}
	run := func(who *identity) (*writer, error) {
		if err := s.etcd.state.mayTransact(who, r); err != nil {
			return nil, err
		}
		var w *writer
		var err error
		if answer, w, err = s.etcd.state.transact(r, s.applied); err != nil {
			return nil, err
		}
		s.fill(answer.GetHeader())
		return w, nil
	}
	if readOnly(r) {
		err = s.read(ctx, serializable(r), func(who *identity) error {
			_, err := run(who)
			return err
		})
		return answer, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{Txn: r}, cost(r) > 0, run)
	return answer, err
}

// Compact implements etcdserverpb.KVServer.
func (s service) Compact(ctx context.Context, r *pb.CompactionRequest) (answer *pb.CompactionResponse, err error) {
	if err := s.adminOnly(ctx); err != nil {
		return nil, err
	}
	err = s.propose(ctx, &pb.InternalRaftRequest{Compaction: r}, false, func(*identity) (*writer, error) {
		if err := s.etcd.state.store.compact(r.GetRevision()); err != nil {
			return nil, err
		}
		answer = &pb.CompactionResponse{Header: s.header(0)}
		return nil, nil
	})
	return answer, err
}

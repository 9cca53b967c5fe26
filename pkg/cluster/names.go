package cluster

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// NamesakeVerdict is what becomes of a worker under whose name another one registers.
type NamesakeVerdict int

const (
	// NamesakeKeeps means that it keeps the name, and the other one does not register.
	NamesakeKeeps NamesakeVerdict = iota
	// NamesakeYields means that its record goes as the other one's comes.
	NamesakeYields
	// NamesakeShares means that both stand side by side.
	NamesakeShares
)

// maxNameTries is how often a registration is tried that others of the name cross.
const maxNameTries = 20

// RegisterNamed is RegisterWorker for a worker that others of its name are to make room for. judge says what becomes of each
// one that is registered under w.Name; it may be called again when their records change meanwhile. Where one holds the name,
// RegisterNamed writes nothing, and returns that one. No other worker that registers so comes between judge and the record.
// Ids must begin with the name and a hyphen.
func (s *Store) RegisterNamed(
	ctx context.Context, w Worker, ttl time.Duration, judge func(Worker) NamesakeVerdict,
) (*Registration[Worker], *Worker, error) {
	for range maxNameTries {
		var yields []namesake
		all, revision, err := s.namesakes(ctx, w.Name)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range all {
			switch judge(n.worker) {
			case NamesakeKeeps:
				return nil, &n.worker, nil
			case NamesakeYields:
				yields = append(yields, n)
			case NamesakeShares:
			}
		}
		r, err := register(ctx, s, s.keys.worker(w.ID), w.ID, w, ttl, func(t *transaction) {
			t.noneSince(s.keys.named(w.Name), revision)
			for _, n := range yields {
				t.written(n.key, n.written)
				t.delete(n.key)
			}
		})
		if batch.CodeOf(err) != batch.CodeConflict {
			return r, nil, err
		}
	}
	return nil, nil, batch.Errorf(batch.CodeConflict, "registering worker %s in etcd at %s: others of the name %s come and go all the time: give it another name",
		w.ID, s.endpoints, w.Name)
}

// namesake is a worker's record, and when it was written last.
type namesake struct {
	worker  Worker
	key     string
	written int64
}

// namesakes are the workers of a name, as they stand at a revision.
func (s *Store) namesakes(ctx context.Context, name string) (all []namesake, revision int64, err error) {
	kvs, revision, err := s.list(ctx, s.keys.named(name))
	if err != nil {
		return nil, 0, err
	}
	all = readable(s, kvs, func(kv *mvccpb.KeyValue) (namesake, error) {
		w, err := s.readWorker(kv)
		return namesake{worker: w, key: string(kv.Key), written: kv.ModRevision}, err
	})
	named := all[:0]
	for _, n := range all {
		if n.worker.Name == name {
			named = append(named, n)
		}
	}
	return named, revision, nil
}

// Remaining is how long a worker's record stands unless the worker renews its lease meanwhile; 0: it has none any more. The lease
// may be another one than the worker asked for, and is renewed as a whole when etcd is restored, or gets another leader.
func (s *Store) Remaining(ctx context.Context, worker string) (time.Duration, error) {
	if err := checkName(worker); err != nil {
		return 0, batch.Errorf(batch.CodeInternal, "asking for the lease of a worker: %w", err)
	}
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.worker(worker)})
	if err != nil || len(kvs) == 0 {
		return 0, err
	}
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	left, err := s.client.TimeToLive(call, clientv3.LeaseID(kvs[0].Lease))
	if err != nil {
		return 0, s.explain(ctx, "asking for the lease of worker "+worker, err)
	}
	return time.Duration(max(left.TTL, 0)) * time.Second, nil
}

// FollowNamed is FollowWorkers for those of one name, in no order.
func (s *Store) FollowNamed(ctx context.Context, name string, f func([]Worker)) error {
	return follow(ctx, s, s.keys.named(name), s.readWorker, func(_ int64, workers []Worker) {
		named := workers[:0]
		for _, w := range workers {
			if w.Name == name {
				named = append(named, w)
			}
		}
		f(named)
	})
}

// Coordinators lists the coordinators that are registered now.
func (s *Store) Coordinators(ctx context.Context) ([]Coordinator, error) {
	kvs, _, err := s.list(ctx, s.keys.coordinators())
	if err != nil {
		return nil, err
	}
	return readable(s, kvs, s.readCoordinator), nil
}

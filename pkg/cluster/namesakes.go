package cluster

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// NamesakeVerdict says what happens to a registered worker when another process registers under its name.
type NamesakeVerdict int

const (
	// NamesakeKeeps means that the registered worker keeps the name: the other process is not registered.
	NamesakeKeeps NamesakeVerdict = iota
	// NamesakeYields means that the worker's record is removed in the same transaction that writes the other one's.
	NamesakeYields
	// NamesakeShares means that both records stand side by side.
	NamesakeShares
)

// maxNameTries is the limit for tries of RegisterNamed. A try fails when, while it runs, another process registers under the name or a
// record that must yield changes.
const maxNameTries = 20

// RegisterNamed registers a worker, as RegisterWorker does, if the other workers of its name make room. judge decides about each worker
// that is registered under w.Name; it may be called again when records change meanwhile. If one of them keeps the name, RegisterNamed
// writes nothing and returns that worker, and no Registration. The transaction makes sure that no other worker registers under the name
// between judge and the write. Worker ids must begin with the name and a hyphen.
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
			t.requireNoneSince(s.keys.named(w.Name), revision)
			for _, n := range yields {
				t.requireWritten(n.key, n.written)
				t.delete(n.key)
			}
		})
		if batch.CodeOf(err) != batch.CodeConflict {
			return r, nil, err
		}
		pointNameRace.Hit()
	}
	return nil, nil, batch.Errorf(batch.CodeConflict, "registering worker %s in etcd at %s: other workers register under the name %s again and again: give this worker another name",
		w.ID, s.endpoints, w.Name)
}

// namesake is the record of a registered worker that has the name which another process wants to register under.
type namesake struct {
	worker  Worker
	key     string
	written int64 // the revision of etcd at which the record was last written
}

// namesakes returns the workers that are registered under a name, and the revision of etcd as of which it has read them.
func (s *Store) namesakes(ctx context.Context, name string) (all []namesake, revision int64, err error) {
	kvs, revision, err := s.list(ctx, s.keys.named(name))
	if err != nil {
		return nil, 0, err
	}
	all = decodeAll(s, kvs, func(kv *mvccpb.KeyValue) (namesake, error) {
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

// Remaining returns how long a worker's record will stay in etcd if the worker does not renew its lease; 0 means that there is no record.
// etcd may have granted a longer lease than the worker asked for, and starts every lease anew when it is restored or elects another leader.
func (s *Store) Remaining(ctx context.Context, worker string) (time.Duration, error) {
	if err := checkName(worker); err != nil {
		return 0, batch.Errorf(batch.CodeInternal, "reading the lease of a worker: %w", err)
	}
	kvs, _, err := s.list(ctx, keyRange{from: s.keys.worker(worker)})
	if err != nil || len(kvs) == 0 {
		return 0, err
	}
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	left, err := s.client.TimeToLive(call, clientv3.LeaseID(kvs[0].Lease))
	if err != nil {
		return 0, s.explain(ctx, "reading the lease of worker "+worker, err)
	}
	return time.Duration(max(left.TTL, 0)) * time.Second, nil
}

// FollowNamed calls f with the workers of one name, in no particular order. It calls, blocks and ends as FollowWorkers does.
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

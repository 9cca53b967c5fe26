package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Worker is what a worker process tells of itself.
type Worker struct {
	// ID is drawn when the process registers, <name>-<random>; no id is ever used twice.
	ID string `json:"id"`
	// Name outlives the process: slots of shard keys are shared out by name.
	Name string `json:"name"`
	// Address is where coordinators dial it, host:port.
	Address string `json:"address"`
	// Functions are those registered in this build, by name.
	Functions []Function `json:"functions"`
	// Lanes is how many lanes a flow has here that asks for no number.
	Lanes int `json:"lanes"`
	// Build says which build of the program it is; any text.
	Build string `json:"build,omitempty"`
	// Draining: it takes nothing new, and hands back what it has not begun.
	Draining bool `json:"draining,omitempty"`
	// Session is SessionLiving while a coordinator has a session with it, and for a lease time after that, else SessionNone;
	// empty: it is of a build that does not say.
	Session string    `json:"session,omitempty"`
	Started time.Time `json:"started"`
	// Stores are the connectors whose store is of no use to the worker now, by name, and why. Their rows wait.
	Stores map[string]string `json:"stores,omitempty"`
	// Created is the etcd revision at which the key was written first: of two workers of one name, the later is the successor. Only
	// what is read from etcd has it.
	Created int64 `json:"-"`
}

// What Worker.Session says.
const (
	SessionLiving = "living"
	SessionNone   = "none"
)

// Function is a function that a worker has.
type Function struct {
	Name string `json:"name"`
	// Mode is KisFlow's: Verify, Save, Load, Calculate or Expand.
	Mode string `json:"mode"`
	// In and Out are the row types it reads and passes on, as text; empty where any type goes.
	In  string `json:"in,omitempty"`
	Out string `json:"out,omitempty"`
}

// Coordinator is what a coordinator process tells of itself.
type Coordinator struct {
	// ID is drawn when the process registers; no id is ever used twice.
	ID string `json:"id"`
	// Address is where clients and the command line dial it, host:port.
	Address string `json:"address"`
	// HTTP is where it serves metrics, host:port; empty for nowhere.
	HTTP string `json:"http,omitempty"`
	// Build says which build of the program it is; any text.
	Build string `json:"build,omitempty"`
	// Leader: it leads, as far as it knows itself.
	Leader bool `json:"leader,omitempty"`
	// Ready: it takes batches, and has its share of all client streams.
	Ready bool `json:"ready,omitempty"`
	// Streams is how many client streams are open there, or were a moment ago.
	Streams int `json:"streams,omitempty"`
	// Sessions is with how many workers it has a session, or had a moment ago; nil: it is of a build that does not say.
	Sessions *int `json:"sessions,omitempty"`
	// CutOff: it reaches so few workers that it leaves its clients to other coordinators.
	CutOff bool `json:"cut_off,omitempty"`
	// Missed is how many registered workers it has tried to reach in vain, and Unreachable the first MaxUnreachable of them.
	Missed      int           `json:"missed,omitempty"`
	Unreachable []Unreachable `json:"unreachable,omitempty"`
	// Namesakes are the ids of workers that it has sessions with although others have registered under their names since.
	Namesakes []string  `json:"namesakes,omitempty"`
	Started   time.Time `json:"started"`
}

// Unreachable is a worker that a coordinator can't reach.
type Unreachable struct {
	Worker  string `json:"worker"`
	Address string `json:"address"`
	// Reason is what the first failed try said.
	Reason string `json:"reason"`
}

// MaxUnreachable is how many workers a coordinator names that it can't reach.
const MaxUnreachable = 10

// Registration is a member's record in etcd, under a lease that is kept alive. Its methods may be called by several
// goroutines at the same time.
type Registration[R Worker | Coordinator] struct {
	claim *claim
}

// RegisterWorker puts the worker's record under a lease of ttl, whole seconds, 0 for DefaultTTL; etcd may grant more, by
// default never less than 2 s. CodeConflict: the id is taken, draw another one. CodeUnavailable: etcd is away, Wait for it.
func (s *Store) RegisterWorker(ctx context.Context, w Worker, ttl time.Duration) (*Registration[Worker], error) {
	return register(ctx, s, s.keys.worker(w.ID), w.ID, w, ttl, nil)
}

// RegisterCoordinator is RegisterWorker for coordinators.
func (s *Store) RegisterCoordinator(ctx context.Context, c Coordinator, ttl time.Duration) (*Registration[Coordinator], error) {
	return register(ctx, s, s.keys.coordinator(c.ID), c.ID, c, ttl, nil)
}

func register[R Worker | Coordinator](
	ctx context.Context, s *Store, key, id string, record R, ttl time.Duration, also func(*transaction),
) (*Registration[R], error) {
	if err := checkName(id); err != nil {
		return nil, batch.Errorf(batch.CodeInternal, "registering %s: %w", key, err)
	}
	value, err := encode(record)
	if err != nil {
		return nil, err
	}
	claim, err := s.claim(ctx, func(clientv3.LeaseID) string { return key }, value, ttl, also)
	if err != nil {
		return nil, err
	}
	return &Registration[R]{claim: claim}, nil
}

// Lost is closed when the record is gone, because somebody removed it or its lease ran out, or when etcd has not answered
// for the lease's time, so that it may be gone. Err says which. Close it then, and register again under a new id; or, in the
// latter case, Resume it.
// Closing a Registration does not close Lost.
func (r *Registration[R]) Lost() <-chan struct{} { return r.claim.held.Done() }

// Err is why the registration was lost, nil before that. CodeNotFound: the record is gone, others have given this process
// up. CodeUnavailable: etcd did not answer for too long; others may still count on this process.
func (r *Registration[R]) Err() error { return r.claim.lost() }

// Update replaces the record under the same lease. Once the registration is lost it fails with what Err returns.
func (r *Registration[R]) Update(ctx context.Context, record R) error {
	value, err := encode(record)
	if err != nil {
		return err
	}
	t := r.claim.store.transaction("writing " + r.claim.key)
	t.put(r.claim.key, value, clientv3.WithLease(r.claim.lease))
	return r.claim.commit(ctx, t)
}

// Resume goes on, once etcd is back, with a registration that was lost with CodeUnavailable: others who still count on this
// process may go on doing so. CodeNotFound: the record is gone, register again under a new id. CodeUnavailable: etcd is away
// again. What it returns takes the place of r, which then need not be closed.
func (r *Registration[R]) Resume(ctx context.Context) (*Registration[R], error) {
	again, err := r.claim.resume(ctx)
	if err != nil {
		return nil, err
	}
	return &Registration[R]{claim: again}, nil
}

// Close takes the record back at once. An error means that etcd did not answer: the record then goes when its lease runs
// out. It is safe twice; the second waits for the first and returns its error.
func (r *Registration[R]) Close(ctx context.Context) error { return r.claim.close(ctx) }

// RemoveWorker removes the record of a worker that is proven dead; it is no error when it is gone already. Since no id is
// used twice, this never hits a successor.
func (s *Store) RemoveWorker(ctx context.Context, id string) error {
	if err := checkName(id); err != nil {
		return batch.Errorf(batch.CodeInternal, "removing a worker: %w", err)
	}
	t := s.transaction("removing worker " + id)
	t.delete(s.keys.worker(id))
	_, err := t.commit(ctx)
	return err
}

// FollowWorkers calls f with all workers by id: once when they are listed, then after each change. Calls never overlap; of
// changes that come while f runs, only the last state is shown. The map is the callee's; what its values point at is not
// to be changed. It blocks, through outages of etcd, until the context ends or the Store is closed, and returns why.
func (s *Store) FollowWorkers(ctx context.Context, f func(map[string]Worker)) error {
	return follow(ctx, s, s.keys.workers(), s.readWorker, func(_ int64, workers []Worker) {
		byID := make(map[string]Worker, len(workers))
		for _, w := range workers {
			byID[w.ID] = w
		}
		f(byID)
	})
}

// FollowCoordinators is FollowWorkers for coordinators.
func (s *Store) FollowCoordinators(ctx context.Context, f func(map[string]Coordinator)) error {
	return follow(ctx, s, s.keys.coordinators(), s.readCoordinator, func(_ int64, coordinators []Coordinator) {
		byID := make(map[string]Coordinator, len(coordinators))
		for _, c := range coordinators {
			byID[c.ID] = c
		}
		f(byID)
	})
}

func (s *Store) readWorker(kv *mvccpb.KeyValue) (w Worker, err error) {
	if err = json.Unmarshal(kv.Value, &w); err == nil {
		w.Created = kv.CreateRevision
		w.ID, err = readMember(s.keys.workers(), kv, w.Address)
	}
	return w, err
}

func (s *Store) readCoordinator(kv *mvccpb.KeyValue) (c Coordinator, err error) {
	if err = json.Unmarshal(kv.Value, &c); err == nil {
		c.ID, err = readMember(s.keys.coordinators(), kv, c.Address)
	}
	return c, err
}

// readMember checks a member's record and returns the id that its key ends in, which is the one that counts.
func readMember(span keyRange, kv *mvccpb.KeyValue, address string) (id string, err error) {
	if address == "" {
		return "", errors.New("it has no address")
	}
	id = strings.TrimPrefix(string(kv.Key), span.from)
	return id, checkName(id)
}

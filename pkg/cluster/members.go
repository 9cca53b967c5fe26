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

// Worker is the record of a worker process.
type Worker struct {
	// ID is made when the process registers, as <name>-<random>. No id is used twice.
	ID string `json:"id"`
	// Name is the same for the process and its successor. Slots of shard keys are assigned by name.
	Name string `json:"name"`
	// Address is the host:port at which coordinators dial the worker.
	Address string `json:"address"`
	// Functions are the functions that this build of the program has registered, by name.
	Functions []Function `json:"functions"`
	// Expressions is the version of the language of expressions that the build speaks (expr.Version). Records of earlier builds have 0.
	Expressions int `json:"expressions,omitempty"`
	// Lanes is the number of lanes that a flow has here, if its document does not ask for a number.
	Lanes int `json:"lanes"`
	// HTTP is the host:port at which the worker serves metrics. It is empty if the worker serves none, and in records of earlier builds.
	HTTP string `json:"http,omitempty"`
	// Limits are those of the worker for one part. They are nil in records of earlier builds.
	Limits *Limits `json:"limits,omitempty"`
	// Build names the build of the program, in any text.
	Build string `json:"build,omitempty"`
	// Draining says that the worker takes no new rows, and gives back the rows that it has not begun.
	Draining bool `json:"draining,omitempty"`
	// Session is SessionLiving while a coordinator has a session with the worker, and for the time of a lease after that, else
	// SessionNone. It is empty in records of earlier builds.
	Session string    `json:"session,omitempty"`
	Started time.Time `json:"started"`
	// Stores says which connectors have a store that the worker can't use now, by the connector's name, and why. Rows that need it wait.
	Stores map[string]string `json:"stores,omitempty"`
	// Guarded says that the worker has an access file, so that it takes sessions from coordinators only.
	Guarded bool `json:"guarded,omitempty"`
	// Created is the revision of etcd at which the record was first written. Of two workers with one name, the later one is the successor.
	// Only records that were read from etcd have it.
	Created int64 `json:"-"`
}

// RowType returns the text of the row type that a function of the worker takes; "" if the worker does not have the function, or tells no type.
func (w *Worker) RowType(function string) string {
	for _, f := range w.Functions {
		if f.Name == function {
			return f.In
		}
	}
	return ""
}

// Limits are the limits of a process for rows and batches. All processes of a cluster should have the same. RowBytes counts at coordinators only.
type Limits struct {
	RowBytes   int `json:"row_bytes"`
	BatchBytes int `json:"batch_bytes"`
	BatchRows  int `json:"batch_rows"`
}

// LimitsOf returns the limits for a record.
func LimitsOf(l batch.Limits) *Limits {
	return &Limits{RowBytes: l.RowBytes, BatchBytes: l.BatchBytes, BatchRows: l.BatchRows}
}

// The values of Worker.Session.
const (
	SessionLiving = "living" // a coordinator has a session with the worker, or had one within the time of a lease
	SessionNone   = "none"   // no coordinator has had a session with the worker within the time of a lease
)

// Function is a function that a worker has registered.
type Function struct {
	Name string `json:"name"`
	// Mode is KisFlow's: Verify, Save, Load, Calculate or Expand.
	Mode string `json:"mode"`
	// In and Out are the row types that the function reads and passes on, as text. Empty means any type.
	In  string `json:"in,omitempty"`
	Out string `json:"out,omitempty"`
}

// Coordinator is the record of a coordinator process.
type Coordinator struct {
	// ID is made when the process registers. No id is used twice.
	ID string `json:"id"`
	// Address is the host:port at which clients and the command line dial the coordinator.
	Address string `json:"address"`
	// HTTP is the host:port at which the coordinator serves metrics. Empty means that it serves none.
	HTTP string `json:"http,omitempty"`
	// Limits are those of the coordinator for one batch. They are nil in records of earlier builds.
	Limits *Limits `json:"limits,omitempty"`
	// Build names the build of the program, in any text.
	Build string `json:"build,omitempty"`
	// Leader says that the coordinator leads, as far as it knows.
	Leader bool `json:"leader,omitempty"`
	// Ready says that the coordinator takes batches, and its share of all client streams.
	Ready bool `json:"ready,omitempty"`
	// Streams is the number of client streams that are open there, or were a moment ago.
	Streams int `json:"streams,omitempty"`
	// Sessions is the number of workers with which the coordinator has a session, or had one a moment ago. It is nil in records of earlier
	// builds.
	Sessions *int `json:"sessions,omitempty"`
	// CutOff says that the coordinator reaches so few workers that it leaves its clients to other coordinators.
	CutOff bool `json:"cut_off,omitempty"`
	// Missed is the number of registered workers that the coordinator can't reach. Unreachable names the first MaxUnreachable of them.
	Missed      int           `json:"missed,omitempty"`
	Unreachable []Unreachable `json:"unreachable,omitempty"`
	// Namesakes are the ids of workers with which the coordinator has a session, although other workers have registered under the same names
	// since.
	Namesakes []string  `json:"namesakes,omitempty"`
	Started   time.Time `json:"started"`
	// Guarded says that the coordinator has an access file and TLS, so that callers have no rights but those that the file gives them, and
	// workers must have the file, too.
	Guarded bool `json:"guarded,omitempty"`
	// Cordoned has each registered worker that gets no new rows from this coordinator because it is cordoned, by the worker's id.
	Cordoned map[string]CordonedRows `json:"cordoned,omitempty"`
}

// CordonedRows is what a coordinator still has at a worker that is cordoned.
type CordonedRows struct {
	// Rows is the number of rows that the worker has not answered.
	Rows int64 `json:"rows"`
	// Since is Control.At of the cordon that the coordinator knows: after an earlier one, the worker may have got rows again.
	Since time.Time `json:"since,omitzero"`
}

// Unreachable is a worker that a coordinator can't reach.
type Unreachable struct {
	Worker  string `json:"worker"`
	Address string `json:"address"`
	// Reason is the error of the first failed try.
	Reason string `json:"reason"`
}

// MaxUnreachable is the limit for Coordinator.Unreachable.
const MaxUnreachable = 10

// Registration is the record of a worker or coordinator in etcd, under a lease that this process renews. It is safe for concurrent use. Its
// states:
//
//	                   etcd does not answer for the time of the lease
//	Register ──► held ────────────────────────────────────────────────► lost (CodeUnavailable)
//	              │ │                                                    │
//	              │ │ the record was removed,                            │ Resume, if etcd still has the lease: a new Registration, held
//	              │ │ or its lease ran out                               │ Resume, if not: CodeNotFound
//	              │ └──────────────────► lost (CodeNotFound)             ▼
//	              └─ Close ─► closed: the record is gone
//
// A process that lost its registration with CodeNotFound registers again, under a new id.
type Registration[R Worker | Coordinator] struct {
	claim *claim
}

// RegisterWorker writes the worker's record under a lease of ttl, in whole seconds; 0 means DefaultTTL. etcd may grant a longer lease, by
// default at least 2 s. CodeConflict means that the id is taken: make another one. CodeUnavailable means that etcd is away: call Wait
// first.
func (s *Store) RegisterWorker(ctx context.Context, w Worker, ttl time.Duration) (*Registration[Worker], error) {
	return register(ctx, s, s.keys.worker(w.ID), w.ID, w, ttl, nil)
}

// RegisterCoordinator writes the coordinator's record under a lease of ttl. ttl and errors are as in RegisterWorker.
func (s *Store) RegisterCoordinator(ctx context.Context, c Coordinator, ttl time.Duration) (*Registration[Coordinator], error) {
	return register(ctx, s, s.keys.coordinator(c.ID), c.ID, c, ttl, nil)
}

// register writes the record of a worker or coordinator under a lease, as a claim. also adds more conditions and writes to the transaction
// that writes the record; nil means none.
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

// Lost returns a channel that is closed when the registration is lost: the record is gone, because somebody removed it or its lease ran
// out; or etcd has not answered for the time of the lease, so that it may be gone; or the Store was closed. Err says which. If the record
// is gone, close the Registration and register again under a new id. If etcd did not answer, Resume may go on with it. Close does not close
// this channel.
func (r *Registration[R]) Lost() <-chan struct{} { return r.claim.held.Done() }

// Err returns why the registration was lost, and nil before that. CodeNotFound means that the record is gone: coordinators have given up
// this process. CodeUnavailable means that etcd did not answer for too long: coordinators may still count on this process. CodeShutdown
// means that the Store was closed.
func (r *Registration[R]) Err() error { return r.claim.lost() }

// Update replaces the record, under the same lease. Once the registration is lost, it writes nothing and returns the error that Err
// returns.
func (r *Registration[R]) Update(ctx context.Context, record R) error {
	value, err := encode(record)
	if err != nil {
		return err
	}
	t := r.claim.store.transaction("writing " + r.claim.key)
	t.put(r.claim.key, value, clientv3.WithLease(r.claim.lease))
	return r.claim.commit(ctx, t)
}

// Resume goes on with a registration that was lost with CodeUnavailable, once etcd answers again and the lease has not run out there. The
// returned Registration takes the place of r, which then need not be closed. CodeNotFound means that the record is gone: register again
// under a new id. CodeUnavailable means that etcd still does not answer.
func (r *Registration[R]) Resume(ctx context.Context) (*Registration[R], error) {
	again, err := r.claim.resume(ctx)
	if err != nil {
		return nil, err
	}
	return &Registration[R]{claim: again}, nil
}

// Close removes the record at once. An error means that etcd did not answer: the record then disappears when its lease runs out. Close may
// be called twice: the second call waits for the first and returns its error.
func (r *Registration[R]) Close(ctx context.Context) error { return r.claim.close(ctx) }

// RemoveWorker removes the record of a worker that is known to be dead. A record that is gone already is no error. Since no id is used
// twice, this never removes the record of a successor.
func (s *Store) RemoveWorker(ctx context.Context, id string) error {
	if err := checkName(id); err != nil {
		return batch.Errorf(batch.CodeInternal, "removing a worker: %w", err)
	}
	t := s.transaction("removing worker " + id)
	t.delete(s.keys.worker(id))
	_, err := t.commit(ctx)
	return err
}

// FollowWorkers calls f with all workers, by id: when it has read them, and after each change. Calls of f never overlap. While f runs,
// changes are collected, and f is then called once with the newest state. f may keep the map, but must not change slices and maps in its
// values. FollowWorkers blocks, also while etcd is out of reach, until the context ends or the Store is closed, and returns why.
func (s *Store) FollowWorkers(ctx context.Context, f func(map[string]Worker)) error {
	return follow(ctx, s, s.keys.workers(), s.readWorker, func(_ int64, workers []Worker) {
		byID := make(map[string]Worker, len(workers))
		for _, w := range workers {
			byID[w.ID] = w
		}
		f(byID)
	})
}

// FollowCoordinators calls f with all coordinators, by id. It calls, blocks and ends as FollowWorkers does.
func (s *Store) FollowCoordinators(ctx context.Context, f func(map[string]Coordinator)) error {
	return follow(ctx, s, s.keys.coordinators(), s.readCoordinator, func(_ int64, coordinators []Coordinator) {
		byID := make(map[string]Coordinator, len(coordinators))
		for _, c := range coordinators {
			byID[c.ID] = c
		}
		f(byID)
	})
}

// readWorker decodes a worker's record. The id in its key counts, not the one in its JSON.
func (s *Store) readWorker(kv *mvccpb.KeyValue) (w Worker, err error) {
	if err = json.Unmarshal(kv.Value, &w); err == nil {
		w.Created = kv.CreateRevision
		w.ID, err = readMember(s.keys.workers(), kv, w.Address)
	}
	return w, err
}

// readCoordinator decodes a coordinator's record. The id in its key counts, not the one in its JSON.
func (s *Store) readCoordinator(kv *mvccpb.KeyValue) (c Coordinator, err error) {
	if err = json.Unmarshal(kv.Value, &c); err == nil {
		c.ID, err = readMember(s.keys.coordinators(), kv, c.Address)
	}
	return c, err
}

// readMember returns the id of a worker or coordinator: the end of the record's key. span is the range of the keys of its kind. It returns
// an error if the record's address is empty, or no process can have the id.
func readMember(span keyRange, kv *mvccpb.KeyValue, address string) (id string, err error) {
	if address == "" {
		return "", errors.New("it has no address")
	}
	id = strings.TrimPrefix(string(kv.Key), span.from)
	return id, checkName(id)
}

// Coordinators lists the coordinators that are registered now, sorted by id. Records that can't be read are logged and left out.
func (s *Store) Coordinators(ctx context.Context) ([]Coordinator, error) {
	kvs, _, err := s.list(ctx, s.keys.coordinators())
	if err != nil {
		return nil, err
	}
	return decodeAll(s, kvs, s.readCoordinator), nil
}

package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// roster is the workers that are registered in etcd, each with its connection. The fleet's goroutine owns it, except where a field says
// otherwise.
type roster struct {
	id       string // the id of this coordinator
	store    *cluster.Store
	board    *flowstate.Board
	log      hclog.Logger
	settings *peerSettings

	members  map[string]*member         // the registered workers, by id
	cordoned map[string]cluster.Control // the workers that are cordoned, by name; replaced, never changed
	// peers waits for the goroutines of all workerPeers, also those of removed workers. removals waits for the goroutines that remove the
	// keys of superseded workers.
	peers, removals sync.WaitGroup

	// coordinatorsByID are all coordinators that are registered in etcd, this one included. The follower of etcd replaces the map and
	// never changes one; any goroutine may read it.
	coordinatorsByID atomic.Pointer[map[string]cluster.Coordinator]
}

// member is a worker that has a key in etcd, with the connection to it. The fleet's goroutine owns it.
type member struct {
	worker cluster.Worker
	peer   *workerPeer
	dead   bool // the worker is known to be dead, although its key is still there
	// sameNameSince is when a worker registered later under the same name was first seen; zero means that there is none.
	sameNameSince time.Time
	// definitions has the worker's answer, by revision, for each revision that it was sent in this session and was not told to forget.
	definitions     byDefinition[definitionAnswer]
	definitionsSent uint64 // how many definitions the worker was ever sent
	// renewed are the revisions for which the session was restarted, because the worker's build knows revisions by number alone and
	// knew another revision of the same number.
	renewed map[definitionKey]bool
}

// setWorkers is called with all workers that are registered in etcd, by id. It closes the connections to workers that have left, and begins
// to dial new ones. The connections end when ctx is done, and tell owner of changes.
func (r *roster) setWorkers(ctx context.Context, workers map[string]cluster.Worker, owner peerOwner) {
	for id, m := range r.members {
		if _, there := workers[id]; !there {
			r.log.Info("worker left", "worker", id)
			r.closePeer(m)
			delete(r.members, id)
		}
	}
	byAge := slices.SortedFunc(maps.Values(workers), func(a, b cluster.Worker) int { return cmp.Compare(a.Created, b.Created) })
	for _, w := range byAge {
		if m := r.members[w.ID]; m != nil {
			m.worker = w
			m.peer.address.Store(&w.Address)
			if w.Draining {
				m.peer.draining.Store(true)
			}
			continue
		}
		r.log.Info("worker joined", "worker", w.ID, "address", w.Address)
		if r.settings.guard != nil && r.settings.transport.TLSCert != "" && !w.Guarded { // without TLS a worker can't have one
			r.log.Warn("a worker has no access file, or is of an earlier build: everybody who can connect to it may pose as a coordinator there: start it with --access-file", "worker", w.ID, "address", w.Address)
		}
		r.noteSameName(w)
		peerCtx, cancel := context.WithCancelCause(ctx)
		m := &member{worker: w, definitions: byDefinition[definitionAnswer]{}, renewed: map[definitionKey]bool{}}
		m.peer = newWorkerPeer(w, r.slotNameFor(w), r.settings, owner, cancel)
		m.peer.cordoned.Store(r.isCordoned(w))
		r.members[w.ID] = m
		r.peers.Go(func() { m.peer.run(peerCtx) })
	}
}

// setCordoned is called with all workers that are cordoned, by name. It tells the scheduler of the workers for which that has changed.
func (r *roster) setCordoned(ctx context.Context, cordoned map[string]cluster.Control) {
	r.cordoned = cordoned
	for id, m := range r.members {
		now := r.isCordoned(m.worker)
		if m.peer.cordoned.Swap(now) == now {
			continue
		}
		r.log.Info("worker is cordoned, or is not any more", "worker", id, "cordoned", now)
		// A session that begins meanwhile reads peer.cordoned, which is set already.
		r.settings.loop.post(ctx, scheduler.WorkerCordoned{Worker: id, Cordoned: now})
	}
}

// isCordoned reports whether the worker is cordoned, so that it gets no new rows.
func (r *roster) isCordoned(w cluster.Worker) bool {
	_, is := r.cordoned[w.Name]
	return is
}

// memberOf returns the member whose peer is p; nil means that the worker has left, or that another peer deals with it by now.
func (r *roster) memberOf(p *workerPeer) *member {
	if m := r.members[p.worker.ID]; m != nil && m.peer == p {
		return m
	}
	return nil
}

// closePeer ends the connection to a member's worker for good, because the worker's key is gone or must go.
func (r *roster) closePeer(m *member) {
	if !m.dead {
		m.dead = true
		m.peer.cancel(errWorkerGone)
	}
}

// removeWorkerKey deletes a dead worker's key from etcd, so that other coordinators need not find out for themselves that it is dead. It
// blocks, and tries again, until the key is gone or ctx is done. If the process lives after all, it registers under a new id once its key
// is gone.
func (r *roster) removeWorkerKey(ctx context.Context, id string) {
	for told := false; ; told = true {
		err := r.store.RemoveWorker(ctx, id)
		if err == nil {
			return
		}
		if !told && ctx.Err() == nil {
			r.log.Warn("a dead worker's key could not be removed; it is tried again", "worker", id, "error", err)
		}
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

// coordinators returns the coordinators that are registered in etcd, this one included, by id; nil until they are known. The caller must
// not change the map. Any goroutine may call it.
func (r *roster) coordinators() map[string]cluster.Coordinator {
	if all := r.coordinatorsByID.Load(); all != nil {
		return *all
	}
	return nil
}

// missingFunctions returns the names of the revision's functions that the worker has not registered. For a flow with expressions, and a worker whose
// build does not speak their language, it also returns the name of that language.
func (m *member) missingFunctions(r *flowstate.Revision) []string {
	var missing []string
	for _, name := range r.Functions {
		if !slices.ContainsFunc(m.worker.Functions, func(f cluster.Function) bool { return f.Name == name }) {
			missing = append(missing, name)
		}
	}
	if m.worker.Expressions < r.Expressions {
		missing = append(missing, fmt.Sprintf("expressions (version %d: needs a newer build)", r.Expressions))
	}
	return missing
}

// drains reports whether the member's worker takes no new rows, because it is about to stop.
func (m *member) drains() bool { return m.worker.Draining || m.peer.draining.Load() }

// alive reports whether the worker is not known to be dead and does not drain. It may have no session.
func (m *member) alive() bool { return !m.dead && !m.drains() }

// ready reports whether the worker has a session and has answered that it can run the revision.
func (m *member) ready(key definitionKey) bool {
	answer, sent := m.definitions.get(key)
	return sent && m.peer.connected.Load() && answer.accepted()
}

// definitionAnswer is a worker's answer to the definition of a revision, or the note that the answer has not come.
type definitionAnswer struct {
	pending bool // the worker was asked and has not answered
	// sentAs numbers the definitions that a worker was sent: the one that was sent last has the greatest number.
	sentAs uint64
	errors []string // why the worker can't run the revision; empty means that it can
	unfit  bool     // the errors are only that the worker's build is another than the revision needs
}

// accepted reports whether the worker has answered that it can run the revision.
func (a definitionAnswer) accepted() bool { return !a.pending && len(a.errors) == 0 }

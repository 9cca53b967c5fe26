package coordinator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
)

// roster is the workers that are registered in etcd, each with its connection. The fleet's goroutine owns it, except where a field says
// otherwise.
type roster struct {
	id       string // of this coordinator
	store    *cluster.Store
	board    *flowstate.Board
	log      hclog.Logger
	settings *peerSettings

	members map[string]*member // by the worker's id
	// peers waits for the goroutines of all peers, also of removed workers; removals for those that remove keys of dead workers.
	peers, removals sync.WaitGroup

	// coordinatorsByID are all coordinators that are registered in etcd, this one included. The follower of etcd replaces the map and
	// never changes one; any goroutine may read it.
	coordinatorsByID atomic.Pointer[map[string]cluster.Coordinator]
}

// member is a worker that has a key in etcd. The fleet's goroutine owns it.
type member struct {
	worker cluster.Worker
	peer   *workerPeer
	dead   bool // the worker is known to be dead, although its key is still there
	// sameNameSince is when a worker registered later under the same name was first seen; zero means that there is none.
	sameNameSince time.Time
	// definitions are the revisions that the worker was sent in this session, with its answers.
	definitions     byDefinition[definitionAnswer]
	definitionsSent uint64 // how many definitions the worker was ever sent
	// renewed are the revisions for which the session was restarted, because the worker's build knows revisions by number alone and
	// knew another revision of the same number.
	renewed map[definitionKey]bool
}

// setWorkers takes over which workers are registered: it closes the connections to workers that have left, and begins to dial new ones.
// ctx bounds the lives of the connections; their owner is told of changes.
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
		r.noteSameName(w)
		peerCtx, cancel := context.WithCancelCause(ctx)
		m := &member{worker: w, definitions: byDefinition[definitionAnswer]{}, renewed: map[definitionKey]bool{}}
		m.peer = newWorkerPeer(w, r.slotNameFor(w), r.settings, owner, cancel)
		r.members[w.ID] = m
		r.peers.Go(func() { m.peer.run(peerCtx) })
	}
}

// memberOf returns the member to which the peer belongs; nil when the worker has left, or has registered again.
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

// removeWorkerKey deletes a dead worker's key, so that other coordinators need not find out for themselves. It tries until the key is
// gone or ctx is done. If the process lives all the same, it registers under a new id once its key is gone.
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

// coordinators returns the coordinators that are registered in etcd, this one included, by id. Any goroutine may call it.
func (r *roster) coordinators() map[string]cluster.Coordinator {
	if all := r.coordinatorsByID.Load(); all != nil {
		return *all
	}
	return nil
}

// missingFunctions lists the functions of the revision that the worker does not have.
func (m *member) missingFunctions(r *flowstate.Revision) []string {
	var missing []string
	for _, name := range r.Functions {
		if !slices.ContainsFunc(m.worker.Functions, func(f cluster.Function) bool { return f.Name == name }) {
			missing = append(missing, name)
		}
	}
	return missing
}

// drains reports whether the member's worker takes no new rows, because it is about to stop.
func (m *member) drains() bool { return m.worker.Draining || m.peer.draining.Load() }

// alive reports whether the worker lives and does not drain, as far as this coordinator knows.
func (m *member) alive() bool { return !m.dead && !m.drains() }

// ready reports whether the worker has a session and can run the revision.
func (m *member) ready(key definitionKey) bool {
	answer, sent := m.definitions.get(key)
	return sent && m.peer.connected.Load() && answer.accepted()
}

// definitionAnswer is a worker's answer to the definition of a revision.
type definitionAnswer struct {
	pending bool // the worker was asked and has not answered
	// sentAs is the revision's place among all that the worker was sent: the one that was sent last has the greatest number.
	sentAs uint64
	errors []string // why the worker can't run the revision; empty means that it can
	unfit  bool     // the errors are only that the worker's build is another than the revision needs
}

// accepted reports whether the worker can run the revision.
func (a definitionAnswer) accepted() bool { return !a.pending && len(a.errors) == 0 }

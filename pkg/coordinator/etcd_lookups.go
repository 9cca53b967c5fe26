package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
)

const (
	// lookupGap is the least time between a request to etcd, with the entries that are read after it, and the next request.
	lookupGap = 50 * time.Millisecond
	// maxLookupKeys is the most lookups that one request to etcd makes. Each lookup takes one or two of the keys that etcd allows in a
	// request.
	maxLookupKeys = 64
	// maxEntriesRead is the most entries of the history that are read after one request. Entries are large.
	maxEntriesRead = 8
	// goneFor is for how long the coordinator remembers that the history does not have a revision. A revision enters the history only when
	// it becomes active, and a client hears of its name no sooner than that.
	goneFor = time.Second
	// maxGone is the most revisions of which the coordinator remembers that the history does not have them. When there are more, it forgets
	// all of them.
	maxGone = 4096
)

// lookupKey asks for the status of a flow in etcd, and whether the history has a revision of the flow. With a zero revision it asks for the
// status only.
type lookupKey struct {
	flow     string
	revision batch.Revision
}

// lookupReply is the answer to a lookup: what etcd has of the flow and the revision, or err.
type lookupReply struct {
	status *cluster.FlowStatus   // the flow's status; nil means that etcd has none
	entry  *cluster.HistoryEntry // the revision's entry in the history; nil means that there is none, or another revision has its number
	err    error
}

// etcdLookups asks etcd about flows and revisions that clients name and this coordinator does not know. It puts the questions of many
// clients into one request, and sends few requests in a second: so clients that name flows which do not exist can't keep etcd busy. A
// lookup is answered by a request that begins after the lookup. One goroutine, run, makes the requests; any goroutine may ask.
type etcdLookups struct {
	store *cluster.Store
	wake  chan struct{} // holds a token while lookups may be waiting
	done  chan struct{} // closed when run has returned
	// requests counts the requests to etcd, for metrics.
	requests atomic.Uint64

	mu      sync.Mutex
	waiting map[lookupKey][]chan<- lookupReply // guarded by mu; each channel has room for its reply
	order   []lookupKey                        // guarded by mu: the keys of waiting, the oldest first
	gone    map[lookupKey]time.Time            // guarded by mu: until when it is remembered that the history does not have the revision
}

// newEtcdLookups makes an etcdLookups that asks the store. It starts no goroutine; the caller starts run.
func newEtcdLookups(store *cluster.Store) *etcdLookups {
	return &etcdLookups{
		store: store, wake: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[lookupKey][]chan<- lookupReply{}, gone: map[lookupKey]time.Time{},
	}
}

// ask makes one lookup, and blocks until etcd has answered it, ctx is done, or run has returned. In the last two cases the reply has only
// an error.
func (e *etcdLookups) ask(ctx context.Context, q lookupKey) lookupReply {
	answer := make(chan lookupReply, 1)
	e.add(q, answer)
	select {
	case e.wake <- struct{}{}:
	default:
	}
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return lookupReply{err: batch.Errorf(batch.CodeCancelled, "ask etcd for flow %s: the caller gave up: %w", q.flow, context.Cause(ctx))}
	case <-e.done:
		return lookupReply{err: refuse.Draining()}
	}
}

// add queues a lookup for a later request to etcd. Its reply goes into the channels who, each of which must have room for it.
func (e *etcdLookups) add(q lookupKey, who ...chan<- lookupReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, waits := e.waiting[q]; !waits {
		e.order = append(e.order, q)
	}
	e.waiting[q] = append(e.waiting[q], who...)
}

// isGone reports whether etcd said within goneFor that the history does not have the revision.
func (e *etcdLookups) isGone(q lookupKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.gone[q])
}

// run makes requests to etcd while lookups wait. It blocks until ctx is done.
func (e *etcdLookups) run(ctx context.Context) {
	defer close(e.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		for {
			some := e.take()
			if len(some) == 0 {
				break
			}
			e.request(ctx, some)
			if !sleep(ctx, lookupGap) {
				return
			}
		}
	}
}

// take removes the lookups that have waited longest, as many as fit into one request, and returns them with the channels that wait for
// them.
func (e *etcdLookups) take() map[lookupKey][]chan<- lookupReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(e.order), maxLookupKeys)
	some := make(map[lookupKey][]chan<- lookupReply, n)
	for _, q := range e.order[:n] {
		some[q] = e.waiting[q]
		delete(e.waiting, q)
	}
	e.order = append([]lookupKey(nil), e.order[n:]...)
	return some
}

// request makes one request to etcd for some lookups, and sends the replies. Lookups whose entries are beyond maxEntriesRead are queued
// again for the next request.
func (e *etcdLookups) request(ctx context.Context, some map[lookupKey][]chan<- lookupReply) {
	var flows []string
	var revisions []cluster.FlowRevision
	listed := map[string]bool{}
	for q := range some {
		if !listed[q.flow] {
			listed[q.flow] = true
			flows = append(flows, q.flow)
		}
		if q.revision.Number != 0 {
			revisions = append(revisions, cluster.FlowRevision{Flow: q.flow, Revision: q.revision.Number})
		}
	}
	e.requests.Add(1)
	statuses, kept, err := e.store.ReadStatuses(ctx, flows, revisions)
	read := 0
	for q, who := range some {
		r := lookupReply{err: err}
		if status, there := statuses[q.flow]; there {
			r.status = &status
		}
		if kept[cluster.FlowRevision{Flow: q.flow, Revision: q.revision.Number}] {
			if read++; read > maxEntriesRead {
				e.add(q, who...)
				continue
			}
			r.entry, r.err = e.entry(ctx, q)
		}
		if q.revision.Number != 0 && r.err == nil && r.entry == nil {
			e.noteGone(q)
		}
		for _, w := range who {
			w <- r
		}
	}
}

// entry reads the entry of a revision from the history. It returns nil and no error if another revision has its number, or the entry was
// removed meanwhile.
func (e *etcdLookups) entry(ctx context.Context, q lookupKey) (*cluster.HistoryEntry, error) {
	e.requests.Add(1)
	entry, err := e.store.Revision(ctx, q.flow, q.revision.Number)
	switch {
	case batch.CodeOf(err) == batch.CodeRevisionGone:
		return nil, nil
	case err != nil:
		return nil, err
	case !entry.Name().Is(q.revision):
		return nil, nil
	}
	return entry, nil
}

// noteGone remembers, for goneFor, that the history does not have a revision.
func (e *etcdLookups) noteGone(q lookupKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.gone) >= maxGone {
		clear(e.gone)
	}
	e.gone[q] = time.Now().Add(goneFor)
}

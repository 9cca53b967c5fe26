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
	// enquiryGap is the least time between two requests to etcd in which questions are put.
	lookupGap = 50 * time.Millisecond
	// enquiryMany is how many questions one request puts at most: each is one key or two of those that etcd takes.
	maxLookupKeys = 64
	// enquiryEntries is how many entries of the history are read after one request at most. They are large.
	maxEntriesRead = 8
	// goneFor is how long it is remembered that a revision is not in the history. It comes there only by an activation, which a
	// client can't hear of sooner than of the revision's name.
	goneFor = time.Second
	// goneMany bounds how many such revisions are remembered.
	maxGone = 4096
)

// question asks what etcd says now of a flow, and whether it keeps a revision of it. With a zero revision only the flow is
// asked about.
type lookupKey struct {
	flow     string
	revision batch.Revision
}

// reply is what etcd said.
type lookupReply struct {
	status *cluster.FlowStatus   // nil: the flow has none
	entry  *cluster.HistoryEntry // nil: the revision is not kept, or another one has its number
	err    error
}

// enquiries put questions to etcd, many in one request, and few requests in a second, so that clients who ask for what is not
// there can't keep etcd busy. A question is answered by a request that begins after it was asked. One goroutine, run, makes
// the requests.
type etcdLookups struct {
	store *cluster.Store
	wake  chan struct{} // holds a token while questions may be waiting
	done  chan struct{} // closed when run returned
	// requests counts the requests to etcd.
	requests atomic.Uint64

	mu      sync.Mutex
	waiting map[lookupKey][]chan<- lookupReply // guarded by mu; each channel has room for its reply
	order   []lookupKey                        // guarded by mu: of waiting, the oldest first
	gone    map[lookupKey]time.Time            // guarded by mu: until when it is known that the revision is not kept
}

func newEtcdLookups(store *cluster.Store) *etcdLookups {
	return &etcdLookups{
		store: store, wake: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[lookupKey][]chan<- lookupReply{}, gone: map[lookupKey]time.Time{},
	}
}

// ask waits for etcd's reply, until ctx is done or run has returned.
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

// add has those who ask wait for the next request.
func (e *etcdLookups) add(q lookupKey, who ...chan<- lookupReply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, waits := e.waiting[q]; !waits {
		e.order = append(e.order, q)
	}
	e.waiting[q] = append(e.waiting[q], who...)
}

// isGone reports whether etcd has just said that it does not keep the revision.
func (e *etcdLookups) isGone(q lookupKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.gone[q])
}

// run puts the questions until ctx is done.
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
			e.put(ctx, some)
			if !sleep(ctx, lookupGap) {
				return
			}
		}
	}
}

// take takes the questions that have waited longest.
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

// put asks etcd, and answers who waits. Questions whose entries are too many to be read now wait again.
func (e *etcdLookups) put(ctx context.Context, some map[lookupKey][]chan<- lookupReply) {
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
			e.forget(q)
		}
		for _, w := range who {
			w <- r
		}
	}
}

// entry reads a revision of the history; nil where another one has its number, or it was removed meanwhile.
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

// forget remembers that a revision is not kept.
func (e *etcdLookups) forget(q lookupKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.gone) >= maxGone {
		clear(e.gone)
	}
	e.gone[q] = time.Now().Add(goneFor)
}

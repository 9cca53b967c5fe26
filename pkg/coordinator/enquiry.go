package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

const (
	// enquiryGap is the least time between two requests to etcd in which questions are put.
	enquiryGap = 50 * time.Millisecond
	// enquiryMany is how many questions one request puts at most: each is one key or two of those that etcd takes.
	enquiryMany = 64
	// enquiryEntries is how many entries of the history are read after one request at most. They are large.
	enquiryEntries = 8
	// goneFor is how long it is remembered that a revision is not in the history. It comes there only by an activation, which a
	// client can't hear of sooner than of the revision's name.
	goneFor = time.Second
	// goneMany bounds how many such revisions are remembered.
	goneMany = 4096
)

// question asks what etcd says now of a flow, and whether it keeps a revision of it. With a zero revision only the flow is
// asked about.
type question struct {
	flow     string
	revision batch.Revision
}

// reply is what etcd said.
type reply struct {
	status *cluster.FlowStatus   // nil: the flow has none
	entry  *cluster.HistoryEntry // nil: the revision is not kept, or another one has its number
	err    error
}

// enquiries put questions to etcd, many in one request, and few requests in a second, so that clients who ask for what is not
// there can't keep etcd busy. A question is answered by a request that begins after it was asked. One goroutine, run, makes
// the requests.
type enquiries struct {
	store *cluster.Store
	wake  chan struct{} // holds a token while questions may be waiting
	done  chan struct{} // closed when run returned
	// requests counts the requests to etcd.
	requests atomic.Uint64

	mu      sync.Mutex
	waiting map[question][]chan<- reply // guarded by mu; each channel has room for its reply
	order   []question                  // guarded by mu: of waiting, the oldest first
	gone    map[question]time.Time      // guarded by mu: until when it is known that the revision is not kept
}

func newEnquiries(store *cluster.Store) *enquiries {
	return &enquiries{
		store: store, wake: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[question][]chan<- reply{}, gone: map[question]time.Time{},
	}
}

// ask waits for etcd's reply, until ctx is done or run has returned.
func (e *enquiries) ask(ctx context.Context, q question) reply {
	answer := make(chan reply, 1)
	e.add(q, answer)
	select {
	case e.wake <- struct{}{}:
	default:
	}
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return reply{err: batch.Errorf(batch.CodeCancelled, "ask etcd for flow %s: the caller gave up: %w", q.flow, context.Cause(ctx))}
	case <-e.done:
		return reply{err: errDraining()}
	}
}

// add has those who ask wait for the next request.
func (e *enquiries) add(q question, who ...chan<- reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, waits := e.waiting[q]; !waits {
		e.order = append(e.order, q)
	}
	e.waiting[q] = append(e.waiting[q], who...)
}

// isGone reports whether etcd has just said that it does not keep the revision.
func (e *enquiries) isGone(q question) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(e.gone[q])
}

// run puts the questions until ctx is done.
func (e *enquiries) run(ctx context.Context) {
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
			if !pause(ctx, enquiryGap) {
				return
			}
		}
	}
}

// take takes the questions that have waited longest.
func (e *enquiries) take() map[question][]chan<- reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(e.order), enquiryMany)
	some := make(map[question][]chan<- reply, n)
	for _, q := range e.order[:n] {
		some[q] = e.waiting[q]
		delete(e.waiting, q)
	}
	e.order = append([]question(nil), e.order[n:]...)
	return some
}

// put asks etcd, and answers who waits. Questions whose entries are too many to be read now wait again.
func (e *enquiries) put(ctx context.Context, some map[question][]chan<- reply) {
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
		r := reply{err: err}
		if status, there := statuses[q.flow]; there {
			r.status = &status
		}
		if kept[cluster.FlowRevision{Flow: q.flow, Revision: q.revision.Number}] {
			if read++; read > enquiryEntries {
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
func (e *enquiries) entry(ctx context.Context, q question) (*cluster.HistoryEntry, error) {
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
func (e *enquiries) forget(q question) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.gone) >= goneMany {
		clear(e.gone)
	}
	e.gone[q] = time.Now().Add(goneFor)
}

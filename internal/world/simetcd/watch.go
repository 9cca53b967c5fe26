package simetcd

import (
	"bytes"
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	maxQueued   = 128              // the limit for answers that wait to be sent on one stream; watchers beyond it fall behind
	maxAtOnce   = 1000             // the limit for the revisions in one answer to a watcher that was behind
	progressPer = 10 * time.Minute // the interval of progress reports, for watchers that asked for them
	noWatch     = -1               // the id of no watcher
)

// watchStream is a stream of a client with its watchers. Etcd.mu guards the fields from watchers on.
type watchStream struct {
	member *member
	stream pb.Watch_WatchServer
	wake   chan struct{} // capacity 1: holds a token when there is something to send

	watchers map[int64]*watcher
	nextID   int64
	queue    []*pb.WatchResponse
	progress *time.Ticker // nil means that no watcher has asked for progress reports
}

// watcher is one watch of a stream.
type watcher struct {
	id               int64
	span             span
	start            int64 // the first revision that it asked for
	next             int64 // the first revision that it has not been shown
	noPut, noDelete  bool
	previous         bool // events have the values before them
	fragment         bool
	progress, silent bool // asked for progress reports; nothing was sent since the last one
}

// Watch implements etcdserverpb.WatchServer.
func (s service) Watch(stream pb.Watch_WatchServer) error {
	e, ctx := s.etcd, stream.Context()
	w := &watchStream{member: s.member, stream: stream, wake: make(chan struct{}, 1), watchers: map[int64]*watcher{}}
	e.mu.Lock()
	s.streams[w] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(s.streams, w)
		if w.progress != nil {
			w.progress.Stop()
		}
	}()
	failed := make(chan error, 1)
	e.running.Go(func() {
		if err := w.receive(); err != nil {
			failed <- err
		}
	})
	for {
		answers, ticks := w.take()
		for _, a := range answers {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
		if len(answers) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-ticks:
			w.report()
		case err := <-failed:
			return canceled(err)
		case <-ctx.Done():
			return canceled(ended(ctx))
		}
	}
}

// canceled turns the end of a watch by its client into etcd's error for it.
func canceled(err error) error {
	if errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return err
}

// receive reads the client's requests until the stream ends. It returns nil when the client has no more of them.
func (w *watchStream) receive() error {
	for {
		r, err := w.stream.Recv()
		if err != nil {
			if w.stream.Context().Err() != nil {
				return err
			}
			return nil
		}
		w.member.etcd.mu.Lock()
		switch r := r.GetRequestUnion().(type) {
		case *pb.WatchRequest_CreateRequest:
			w.create(r.CreateRequest)
		case *pb.WatchRequest_CancelRequest:
			if w.watchers[r.CancelRequest.GetWatchId()] != nil {
				delete(w.watchers, r.CancelRequest.GetWatchId())
				w.push(&pb.WatchResponse{Header: w.member.header(0), WatchId: r.CancelRequest.GetWatchId(), Canceled: true})
			}
		case *pb.WatchRequest_ProgressRequest:
			w.reportAll()
		}
		w.member.etcd.mu.Unlock()
	}
}

// create adds a watcher, and shows it what it has missed. Etcd.mu is held.
func (w *watchStream) create(r *pb.WatchCreateRequest) {
	if len(r.GetKey()) == 0 {
		r.Key = []byte{0}
	}
	refuse := func(reason string) {
		w.push(&pb.WatchResponse{Header: w.member.header(0), WatchId: noWatch, Created: true, Canceled: true, CancelReason: reason})
	}
	if r.GetStartRevision() < 0 {
		refuse(rpctypes.ErrCompacted.Error())
		return
	}
	over := newSpan(r.GetKey(), r.GetRangeEnd())
	who, err := w.member.identify(w.stream.Context())
	if err == nil {
		err = w.member.etcd.state.permitted(who, over, false)
	}
	switch {
	case err != nil:
		refuse(err.Error())
		return
	case over.to != "" && bytes.Compare(r.GetKey(), r.GetRangeEnd()) >= 0:
		refuse("mvcc: watcher range is empty")
		return
	case r.GetWatchId() != 0 && w.watchers[r.GetWatchId()] != nil:
		refuse("mvcc: duplicate watch ID provided on the WatchStream")
		return
	}
	v := &watcher{
		id: r.GetWatchId(), span: over, start: r.GetStartRevision(), next: r.GetStartRevision(), previous: r.GetPrevKv(), fragment: r.GetFragment(), progress: r.GetProgressNotify(),
	}
	if v.id == 0 {
		for w.watchers[w.nextID] != nil {
			w.nextID++
		}
		v.id = w.nextID
		w.nextID++
	}
	if v.next == 0 {
		v.next = w.member.applied + 1
	}
	for _, f := range r.GetFilters() {
		v.noPut = v.noPut || f == pb.WatchCreateRequest_NOPUT
		v.noDelete = v.noDelete || f == pb.WatchCreateRequest_NODELETE
	}
	if v.progress && w.progress == nil {
		w.progress = time.NewTicker(progressPer + time.Duration(w.member.etcd.rand.Int64N(int64(progressPer/10))))
	}
	w.watchers[v.id] = v
	w.push(&pb.WatchResponse{Header: w.member.header(0), WatchId: v.id, Created: true})
	w.catchUp(v)
}

// push queues an answer. Etcd.mu is held.
func (w *watchStream) push(a *pb.WatchResponse) {
	w.queue = append(w.queue, a)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// show shows new changes to the stream's watchers. Etcd.mu is held.
func (w *watchStream) show() {
	for id := range w.nextID { // in their order, so that the same happens in each run of a test
		if v := w.watchers[id]; v != nil {
			w.catchUp(v)
		}
	}
	for id, v := range w.watchers {
		if id >= w.nextID || id < 0 {
			w.catchUp(v)
		}
	}
}

// catchUp queues the events that a watcher has not been shown, unless too much waits to be sent already: then it stays behind. It ends the
// watcher if some of them are compacted. Etcd.mu is held.
func (w *watchStream) catchUp(v *watcher) {
	m, s := w.member, w.member.etcd.state.store
	for v.next <= m.applied && len(w.queue) < maxQueued {
		if v.next < s.compacted {
			delete(w.watchers, v.id)
			w.push(&pb.WatchResponse{Header: &pb.ResponseHeader{ClusterId: m.etcd.state.cluster, MemberId: m.id, RaftTerm: m.etcd.term},
				WatchId: v.id, Canceled: true, CompactRevision: s.compacted})
			return
		}
		events, next := w.events(v)
		v.next = next
		if len(events) == 0 {
			continue
		}
		v.silent = false
		for _, a := range w.split(v, &pb.WatchResponse{Header: m.header(0), WatchId: v.id, Events: events}) {
			w.push(a)
		}
	}
}

// events returns the events from the revision on that a watcher sees next, and the revision that it sees after them. Etcd.mu is held.
func (w *watchStream) events(v *watcher) (events []*mvccpb.Event, next int64) {
	s, applied := w.member.etcd.state.store, w.member.applied
	revisions, last := 0, int64(0)
	for _, c := range s.log[s.since(v.next):] {
		if c.revision > applied {
			break
		}
		if !v.span.contains(string(c.event.GetKv().GetKey())) {
			continue
		}
		if c.revision != last {
			if revisions++; revisions > maxAtOnce {
				return events, c.revision
			}
			last = c.revision
		}
		if deleted := c.event.GetType() == mvccpb.Event_DELETE; (deleted && v.noDelete) || (!deleted && v.noPut) {
			continue
		}
		event := c.event
		if v.previous && (event.GetType() == mvccpb.Event_DELETE || event.GetKv().GetCreateRevision() != event.GetKv().GetModRevision()) && event.GetKv().GetModRevision() > s.compacted {
			event = &mvccpb.Event{Type: event.GetType(), Kv: event.GetKv(), PrevKv: s.get(string(event.GetKv().GetKey()), event.GetKv().GetModRevision()-1)}
		}
		events = append(events, event)
	}
	return events, applied + 1
}

// split divides an answer into fragments, if its watcher takes them and it is large.
func (w *watchStream) split(v *watcher, a *pb.WatchResponse) []*pb.WatchResponse {
	limit := w.member.etcd.config.MaxBytes + 512<<10
	if !v.fragment || len(a.GetEvents()) < 2 || proto.Size(a) < limit {
		return []*pb.WatchResponse{a}
	}
	var parts []*pb.WatchResponse
	for rest := a.GetEvents(); len(rest) > 0; {
		part := &pb.WatchResponse{Header: a.GetHeader(), WatchId: a.GetWatchId(), Fragment: true}
		for len(part.GetEvents()) < len(rest) {
			part.Events = rest[:len(part.GetEvents())+1]
			if len(part.GetEvents()) > 1 && proto.Size(part) >= limit {
				part.Events = part.GetEvents()[:len(part.GetEvents())-1]
				break
			}
		}
		rest = rest[len(part.GetEvents()):]
		part.Fragment = len(rest) > 0
		parts = append(parts, part)
	}
	return parts
}

// take returns the answers that wait to be sent, and lets watchers that fell behind go on. ticks tells when progress is to be reported.
func (w *watchStream) take() (answers []*pb.WatchResponse, ticks <-chan time.Time) {
	w.member.etcd.mu.Lock()
	defer w.member.etcd.mu.Unlock()
	answers, w.queue = w.queue, nil
	if len(answers) >= maxQueued {
		w.show()
	}
	if w.progress != nil {
		ticks = w.progress.C
	}
	return answers, ticks
}

// report sends a progress report to each watcher that asked for them and was sent nothing since the last one.
func (w *watchStream) report() {
	w.member.etcd.mu.Lock()
	defer w.member.etcd.mu.Unlock()
	for id, v := range w.watchers {
		if v.progress && v.silent && v.next > w.member.applied && w.member.applied >= v.start {
			w.push(&pb.WatchResponse{Header: w.member.header(0), WatchId: id})
		}
		v.silent = true
	}
}

// reportAll answers a request for progress: one report for all watchers, if none of them is behind. Etcd.mu is held.
func (w *watchStream) reportAll() {
	for _, v := range w.watchers {
		if v.next <= w.member.applied || w.member.applied < v.start {
			return
		}
	}
	if len(w.watchers) > 0 {
		w.push(&pb.WatchResponse{Header: w.member.header(0), WatchId: noWatch})
	}
}

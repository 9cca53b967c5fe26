package cluster

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
)

// follower keeps a copy of a range of keys. One goroutine reads etcd into the copy, another one shows it to the caller. So a caller that
// takes its time does not hold up the watch, and sees the newest state next.
type follower[T any] struct {
	store  *Store
	span   keyRange
	decode func(*mvccpb.KeyValue) (T, error)

	mu       sync.Mutex           // read holds it while it writes the fields below, snapshot while it reads them
	records  map[string]record[T] // by key; nil before the first list
	keys     []string             // of records, sorted
	revision int64                // of etcd, at which the copy stands

	changed chan struct{} // capacity 1: holds a token when there is something new to show
}

// record is the value of one key in a follower's copy: as etcd gave it, and decoded.
type record[T any] struct {
	kv    *mvccpb.KeyValue
	value T
}

// is reports whether this record was made from kv, a key and value of etcd. It compares the value, too: an etcd that was restored from a
// backup uses the same revisions for other values.
func (r record[T]) is(kv *mvccpb.KeyValue) bool {
	return r.kv.ModRevision == kv.ModRevision && r.kv.CreateRevision == kv.CreateRevision && bytes.Equal(r.kv.Value, kv.Value)
}

// follow reads a range of keys, then watches it, and calls show with all records that can be decoded, sorted by key: when they are read,
// and after each change. Calls of show never overlap. follow blocks, also while etcd is out of reach, until the context ends or the Store
// is closed. It returns which of the two.
func follow[T any](ctx context.Context, s *Store, span keyRange, decode func(*mvccpb.KeyValue) (T, error), show func(revision int64, values []T)) error {
	f := &follower[T]{store: s, span: span, decode: decode, changed: make(chan struct{}, 1)}
	reading, stop := context.WithCancel(ctx)
	defer context.AfterFunc(s.client.Ctx(), stop)()
	var reader sync.WaitGroup
	reader.Go(func() { f.read(reading) })
	defer reader.Wait()
	defer stop()
	for {
		select {
		case <-f.changed:
			if reading.Err() == nil {
				show(f.snapshot())
			}
		case <-reading.Done():
			return s.explain(ctx, "following "+span.from, reading.Err())
		}
	}
}

// snapshot returns the values of the follower's copy, sorted by key, and the revision of etcd at which they stand.
func (f *follower[T]) snapshot() (int64, []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	values := make([]T, 0, len(f.records))
	for _, key := range f.keys {
		values = append(values, f.records[key].value)
	}
	return f.revision, values
}

// read keeps the follower's copy up to date until the context ends: it lists the range, watches it, and lists it again when the watch ends.
func (f *follower[T]) read(ctx context.Context) {
	tries := retry{outage: &f.store.outage}
	defer tries.giveUp()
	for ctx.Err() == nil {
		kvs, revision, err := f.store.list(ctx, f.span)
		if err != nil {
			tries.failed(ctx, err)
			continue
		}
		f.replace(kvs, revision)
		if err := f.watch(ctx, revision+1, tries.succeeded); err != nil {
			tries.failed(ctx, err)
		}
	}
}

// watch applies all changes from a revision of etcd on. It calls begun when etcd has accepted the watch. It returns nil when ctx has ended,
// and when the range must be listed again: because etcd has compacted the revision, or because the stream of the watch broke, since another
// etcd, or one with an older state, may answer after that.
func (f *follower[T]) watch(ctx context.Context, from int64, begun func()) error {
	watching, stop := context.WithCancelCause(f.store.onOwnStream(clientv3.WithRequireLeader(ctx)))
	watching = context.WithValue(watching, streamEnded{}, stop)
	var connection sync.WaitGroup
	connection.Go(func() {
		// A watch whose stream can't be opened has no stream that could end.
		if f.store.client.ActiveConnection().WaitForStateChange(watching, connectivity.Ready) {
			stop(errConnectionBroke)
		}
	})
	defer connection.Wait()
	defer stop(nil)
	created := false
	for answer := range f.store.client.Watch(watching, f.span.from, clientv3.WithRange(f.span.to), clientv3.WithRev(from), clientv3.WithCreatedNotify()) {
		err := answer.Err()
		if watching.Err() != nil {
			break
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			pointListedAgain.Hit()
			return nil
		}
		if err != nil {
			return f.store.explain(ctx, "watching "+f.span.from, err)
		}
		f.store.calls.hear()
		if answer.Created {
			if answer.Header.Revision < from-1 {
				pointWentBack.Hit()
				// This etcd has not reached the revision that was listed. Either it lost data, and a watch would miss changes until it has
				// caught up; or it is a member that lags behind.
				return f.store.explain(ctx, "watching "+f.span.from, errWentBack)
			}
			created = true
			begun()
		}
		f.apply(answer.Events)
	}
	switch {
	case ctx.Err() != nil:
	case created:
		pointListedAgain.Hit()
	default:
		return f.store.explain(ctx, "watching "+f.span.from, context.Cause(watching))
	}
	return nil
}

// onOwnStream gives a watch a stream of its own, instead of one that it shares with the other watches of the client. A stream keeps the
// token with which it was opened, and etcd looks at that whenever a watch begins: on an old stream it refuses every new watch, once the
// token has expired.
func (s *Store) onOwnStream(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "kisgrid-watch", strconv.FormatInt(s.watches.Add(1), 10))
}

// errConnectionBroke is the error of a watch that etcd had not accepted yet when the connection broke.
var errConnectionBroke = errors.New("the connection broke")

// errWentBack is the error of a watch if etcd stands at an older revision than when the range was listed.
var errWentBack = errors.New("etcd is at an older revision than when it was read last: it is read again")

// replace replaces the follower's copy with the records that were just listed. It signals a change, unless the copy was the same before.
func (f *follower[T]) replace(kvs []*mvccpb.KeyValue, revision int64) {
	records := make(map[string]record[T], len(kvs))
	for _, kv := range kvs {
		if r, ok := f.record(kv); ok {
			records[string(kv.Key)] = r
		}
	}
	// Only this goroutine writes the copy, so it may read it without the lock, here and in record.
	same := f.records != nil && maps.EqualFunc(f.records, records, func(a, b record[T]) bool { return a.is(b.kv) })
	f.mu.Lock()
	f.records, f.keys, f.revision = records, slices.Sorted(maps.Keys(records)), revision
	f.mu.Unlock()
	if !same {
		f.signal()
	}
}

// apply applies the events of a watch to the follower's copy. They are those of one or more whole revisions, since etcd never splits a
// revision over two answers.
func (f *follower[T]) apply(events []*clientv3.Event) {
	if f.span.except != "" {
		events = slices.DeleteFunc(events, func(e *clientv3.Event) bool { return strings.HasPrefix(string(e.Kv.Key), f.span.except) })
	}
	if len(events) == 0 {
		return
	}
	written := map[string]record[T]{}
	for _, e := range events {
		key := string(e.Kv.Key)
		delete(written, key)
		if e.Type == clientv3.EventTypePut {
			if r, ok := f.record(e.Kv); ok {
				written[key] = r
			}
		}
	}
	f.mu.Lock()
	for _, e := range events {
		key := string(e.Kv.Key)
		i, known := slices.BinarySearch(f.keys, key)
		switch value, is := written[key]; {
		case is && !known:
			f.keys = slices.Insert(f.keys, i, key)
			fallthrough
		case is:
			f.records[key] = value
		case known:
			f.keys = slices.Delete(f.keys, i, i+1)
			delete(f.records, key)
		}
		f.revision = e.Kv.ModRevision
	}
	f.mu.Unlock()
	f.signal()
}

// record decodes the value of a key for the follower's copy. If the copy has this version of the value already, it returns that record. It
// returns false for a value that can't be decoded, and logs that.
func (f *follower[T]) record(kv *mvccpb.KeyValue) (record[T], bool) {
	if r, known := f.records[string(kv.Key)]; known && r.is(kv) {
		return r, true
	}
	value, err := f.decode(kv)
	if err != nil {
		f.store.unreadable.report(kv, err)
		return record[T]{}, false
	}
	return record[T]{kv: kv, value: value}, true
}

// signal wakes the goroutine that shows the follower's copy to the caller, because the copy has changed. It never blocks.
func (f *follower[T]) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

package cluster

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// follower keeps a copy of a range of keys. One goroutine reads etcd into the copy, another shows it, so that whoever is shown
// it may take its time: it holds up no watch, and sees the newest state next.
type follower[T any] struct {
	store  *Store
	span   keyRange
	decode func(*mvccpb.KeyValue) (T, error)

	mu       sync.Mutex           // held by read while it writes what follows, and by snapshot
	records  map[string]record[T] // by key; nil before the first list
	keys     []string             // of records, sorted
	revision int64

	changed chan struct{} // holds a token when there is something new to show
}

// record is what stands at a key, as etcd gave it and decoded.
type record[T any] struct {
	kv    *mvccpb.KeyValue
	value T
}

// is tells whether this is the record of kv. Revisions alone don't tell: an etcd restored from a backup gives them again.
func (r record[T]) is(kv *mvccpb.KeyValue) bool {
	return r.kv.ModRevision == kv.ModRevision && r.kv.CreateRevision == kv.CreateRevision && bytes.Equal(r.kv.Value, kv.Value)
}

// follow lists a range, then watches it, and calls show with all that is readable in it, sorted by key: when it is listed, and
// after each change. Calls never overlap. It returns when the context ends or the Store is closed, and says which.
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

// snapshot is the copy as it stands, sorted by key.
func (f *follower[T]) snapshot() (int64, []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	values := make([]T, 0, len(f.records))
	for _, key := range f.keys {
		values = append(values, f.records[key].value)
	}
	return f.revision, values
}

// read lists and watches, again and again until the context ends.
func (f *follower[T]) read(ctx context.Context) {
	p := patience{outage: &f.store.outage}
	defer p.giveUp()
	for ctx.Err() == nil {
		kvs, revision, err := f.store.list(ctx, f.span)
		if err != nil {
			p.failed(ctx, err)
			continue
		}
		f.replace(kvs, revision)
		if err := f.watch(ctx, revision+1, p.succeeded); err != nil {
			p.failed(ctx, err)
		}
	}
}

// watch applies what is written from a revision on. It returns nil when what it missed must be listed: because it was
// compacted, or because the connection broke, since etcd may come back as another one, or with an older state. It calls begun
// when etcd has accepted the watch.
func (f *follower[T]) watch(ctx context.Context, from int64, begun func()) error {
	watching, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
	var connection sync.WaitGroup
	connection.Go(func() {
		f.store.client.ActiveConnection().WaitForStateChange(watching, connectivity.Ready)
		stop()
	})
	defer connection.Wait()
	defer stop()
	for answer := range f.store.client.Watch(watching, f.span.from, clientv3.WithRange(f.span.to), clientv3.WithRev(from), clientv3.WithCreatedNotify()) {
		err := answer.Err()
		if errors.Is(err, rpctypes.ErrCompacted) || watching.Err() != nil {
			return nil
		}
		if err != nil {
			return f.store.explain(ctx, "watching "+f.span.from, err)
		}
		f.store.calls.hear()
		if answer.Created {
			if answer.Header.Revision < from-1 {
				// This etcd is not as far as the one that was listed: it lost data, and would be watched only from when it has caught
				// up; or it is a member that lags.
				return f.store.explain(ctx, "watching "+f.span.from, errWentBack)
			}
			begun()
		}
		f.apply(answer.Events)
	}
	return nil
}

var errWentBack = errors.New("etcd is not as far as it was when it was read: it is read again")

// replace makes the copy what was listed.
func (f *follower[T]) replace(kvs []*mvccpb.KeyValue, revision int64) {
	records := make(map[string]record[T], len(kvs))
	for _, kv := range kvs {
		if r, ok := f.record(kv); ok {
			records[string(kv.Key)] = r
		}
	}
	// Only this goroutine writes the copy, so it reads it without the lock, here and in record.
	same := f.records != nil && maps.EqualFunc(f.records, records, func(a, b record[T]) bool { return a.is(b.kv) })
	f.mu.Lock()
	f.records, f.keys, f.revision = records, slices.Sorted(maps.Keys(records)), revision
	f.mu.Unlock()
	if !same {
		f.tell()
	}
}

// apply makes the changes of one or more whole revisions: etcd never splits those of one over two answers.
func (f *follower[T]) apply(events []*clientv3.Event) {
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
	f.tell()
}

// record decodes what was written to a key, unless the copy has it already; false when it can't be read, which is told.
func (f *follower[T]) record(kv *mvccpb.KeyValue) (record[T], bool) {
	if r, known := f.records[string(kv.Key)]; known && r.is(kv) {
		return r, true
	}
	value, err := f.decode(kv)
	if err != nil {
		f.store.skipped.tell(kv, err)
		return record[T]{}, false
	}
	return record[T]{kv: kv, value: value}, true
}

func (f *follower[T]) tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

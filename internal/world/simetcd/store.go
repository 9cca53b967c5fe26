package simetcd

import (
	"maps"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// store holds keys with all their versions since the last compaction, and the changes in their order. The state that it belongs to guards
// it. Keys and values that it has given out are never changed.
type store struct {
	revision  int64                // of the last change; a new store begins at 1
	compacted int64                // versions before this revision are gone; -1 means that there was no compaction
	keys      []string             // all keys that have a version, sorted
	versions  map[string][]version // by key, oldest first
	log       []change             // all changes from the compacted revision on, in their order
}

// version is the value that a key got at a revision.
type version struct {
	revision int64
	kv       *mvccpb.KeyValue // nil means that the key was deleted
}

// change is one event, as watchers see it.
type change struct {
	revision int64
	event    *mvccpb.Event
}

// newStore makes an empty store.
func newStore() *store {
	return &store{revision: 1, compacted: -1, versions: map[string][]version{}}
}

// clone copies the store. Keys and values are shared, since they never change.
func (s *store) clone() *store {
	c := &store{revision: s.revision, compacted: s.compacted, keys: slices.Clone(s.keys), log: slices.Clone(s.log)}
	c.versions = make(map[string][]version, len(s.versions))
	for key, versions := range s.versions {
		c.versions[key] = slices.Clone(versions)
	}
	return c
}

// get returns the value of a key at a revision, and nil if the key did not exist then.
func (s *store) get(key string, revision int64) *mvccpb.KeyValue {
	versions := s.versions[key]
	for _, version := range slices.Backward(versions) {
		if version.revision <= revision {
			return version.kv
		}
	}
	return nil
}

// each calls f with every key of a range that exists at a revision, in the order of the keys, until f returns false.
func (s *store) each(span span, revision int64, f func(*mvccpb.KeyValue) bool) {
	if span.one {
		if kv := s.get(span.from, revision); kv != nil {
			f(kv)
		}
		return
	}
	for i := sort.SearchStrings(s.keys, span.from); i < len(s.keys); i++ {
		if span.to != "" && s.keys[i] >= span.to {
			return
		}
		if kv := s.get(s.keys[i], revision); kv != nil && !f(kv) {
			return
		}
	}
}

// check returns an error if nobody can read at a revision: it was compacted, or is after now, the newest one. 0 means the newest one.
func (s *store) check(revision, now int64) error {
	switch {
	case revision > now:
		return rpctypes.ErrGRPCFutureRev
	case revision > 0 && revision < s.compacted:
		return rpctypes.ErrGRPCCompacted
	}
	return nil
}

// since returns the index in log of the first change at a revision or after it.
func (s *store) since(revision int64) int {
	return sort.Search(len(s.log), func(i int) bool { return s.log[i].revision >= revision })
}

// compact forgets all versions that nobody sees at a revision or later.
func (s *store) compact(revision int64) error {
	switch {
	case revision <= s.compacted:
		return rpctypes.ErrGRPCCompacted
	case revision > s.revision:
		return rpctypes.ErrGRPCFutureRev
	}
	s.compacted = revision
	s.log = slices.Clone(s.log[s.since(revision):])
	for key, versions := range s.versions {
		first := 0 // the version that stands at the revision, or the first one after it
		for first+1 < len(versions) && versions[first+1].revision <= revision {
			first++
		}
		if versions[first].kv == nil && versions[first].revision <= revision {
			first++
		}
		if versions = versions[first:]; len(versions) == 0 {
			delete(s.versions, key)
			continue
		}
		s.versions[key] = slices.Clone(versions)
	}
	s.keys = slices.Sorted(maps.Keys(s.versions))
	return nil
}

// writer makes the changes of one transaction, all at one revision. end makes them count.
type writer struct {
	state   *state
	changes []*mvccpb.Event
}

// revision is the revision at which the transaction reads: it sees its own changes.
func (w *writer) revision() int64 {
	if len(w.changes) > 0 {
		return w.state.store.revision + 1
	}
	return w.state.store.revision
}

// put writes a key under a lease; lease 0 means none.
func (w *writer) put(key, value []byte, lease int64) {
	s, next, name := w.state.store, w.state.store.revision+1, string(key)
	kv := &mvccpb.KeyValue{Key: key, Value: value, CreateRevision: next, ModRevision: next, Version: 1, Lease: lease}
	if before := s.get(name, next); before != nil {
		kv.CreateRevision, kv.Version = before.GetCreateRevision(), before.GetVersion()+1
		w.state.detach(name)
	}
	w.add(name, kv, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
	w.state.attach(name, lease)
}

// delete deletes the keys of a range, and returns those that existed.
func (w *writer) delete(span span) []*mvccpb.KeyValue {
	var gone []*mvccpb.KeyValue
	w.state.store.each(span, w.revision(), func(kv *mvccpb.KeyValue) bool {
		gone = append(gone, kv)
		return true
	})
	for _, kv := range gone {
		name := string(kv.GetKey())
		deleted := &mvccpb.KeyValue{Key: kv.GetKey(), ModRevision: w.state.store.revision + 1}
		w.add(name, nil, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: deleted})
		w.state.detach(name)
	}
	return gone
}

// add notes a version of a key and its event.
func (w *writer) add(name string, kv *mvccpb.KeyValue, event *mvccpb.Event) {
	s := w.state.store
	if _, known := s.versions[name]; !known {
		i, _ := slices.BinarySearch(s.keys, name)
		s.keys = slices.Insert(s.keys, i, name)
	}
	s.versions[name] = append(s.versions[name], version{s.revision + 1, kv})
	s.log = append(s.log, change{s.revision + 1, event})
	w.changes = append(w.changes, event)
}

// end lets the store stand at the new revision, if the transaction has changed anything.
func (w *writer) end() {
	if len(w.changes) > 0 {
		w.state.store.revision++
	}
}

// span is a range of keys: from is included, to is not.
type span struct {
	from, to string // an empty to means that the range has no end
	one      bool   // the range is the one key from
}

// newSpan makes a range from a key and a range end as requests have them: no end means one key, and a zero byte all keys from key on.
func newSpan(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{from: string(key), one: true}
	case len(end) == 1 && end[0] == 0:
		return span{from: string(key)}
	}
	return span{from: string(key), to: string(end)}
}

// contains reports whether a key is in the range.
func (s span) contains(key string) bool {
	if s.one {
		return key == s.from
	}
	return key >= s.from && (s.to == "" || key < s.to)
}

// covers reports whether all keys of another range are in this one.
func (s span) covers(other span) bool {
	switch {
	case other.one:
		return s.contains(other.from)
	case s.one:
		return false
	}
	return s.from <= other.from && (s.to == "" || (other.to != "" && other.to <= s.to))
}

// prefixed makes the range of all keys that begin with a prefix.
func prefixed(prefix string) span {
	return newSpan([]byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix)))
}

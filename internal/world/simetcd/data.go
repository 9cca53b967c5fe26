package simetcd

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Change is one write of a key, as the journal keeps it.
type Change struct {
	At time.Time
	// Life counts how often etcd was restored before this change: the same revision may come again in another life.
	Life     int
	Revision int64
	Key      string
	Value    []byte // nil for a deletion; must not be changed
	Deleted  bool
}

// record notes changes in the journal. e.mu is held.
func (e *Etcd) record(events []*mvccpb.Event) {
	now := time.Now()
	for _, event := range events {
		e.journal = append(e.journal, Change{
			At: now, Life: e.lives, Revision: event.GetKv().GetModRevision(), Key: string(event.GetKv().GetKey()), Value: event.GetKv().GetValue(), Deleted: event.GetType() == mvccpb.Event_DELETE,
		})
	}
}

// Journal returns all changes since the start, in their order, with those that a restore has undone.
func (e *Etcd) Journal() []Change {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.journal)
}

// Life returns how often etcd was restored, and the revision at which it stands.
func (e *Etcd) Life() (lives int, revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lives, e.state.store.revision
}

// List returns all keys that begin with a prefix, sorted. They must not be changed.
func (e *Etcd) List(prefix string) []*mvccpb.KeyValue {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kvs []*mvccpb.KeyValue
	e.state.store.each(prefixed(prefix), e.state.store.revision, func(kv *mvccpb.KeyValue) bool {
		kvs = append(kvs, kv)
		return true
	})
	return kvs
}

// Leases returns the length of each lease, by its id.
func (e *Etcd) Leases() map[int64]time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	leases := map[int64]time.Duration{}
	for id, l := range e.state.leases {
		leases[id] = time.Duration(l.ttl) * time.Second
	}
	return leases
}

// Watchers returns the number of watches that clients have open.
func (e *Etcd) Watchers() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.members {
		for s := range m.streams {
			n += len(s.watchers)
		}
	}
	return n
}

// Write puts and deletes keys in one transaction, as another client would, whether or not etcd has a leader. A nil value deletes the key.
// It returns the revision.
func (e *Etcd) Write(values map[string][]byte) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &writer{state: e.state}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] == nil {
			w.delete(span{from: key, one: true})
		} else {
			w.put([]byte(key), values[key], 0)
		}
	}
	w.end()
	e.publish(w)
	return e.state.store.revision
}

// AddUser adds a user, or gives one another password, and lets it read and write all keys that begin with one of the prefixes. With no
// prefix it is an administrator. Etcd asks for a sign-in from then on.
func (e *Etcd) AddUser(name, password string, prefixes ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.state.auth
	role := root
	if len(prefixes) > 0 {
		role = name
		a.roles[role] = nil
		for _, p := range prefixes {
			a.roles[role] = append(a.roles[role], &authpb.Permission{
				PermType: authpb.Permission_READWRITE, Key: []byte(p), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(p)),
			})
		}
	}
	a.users[name] = &user{password: password, roles: []string{role}}
	a.enabled = true
	a.revision++
	e.invalidate(name)
}

package simetcd

import (
	"maps"
	"slices"
	"time"
)

// state is everything that etcd keeps on its disk: keys, leases, users, and the alarm. All members share it. Etcd.mu guards it.
type state struct {
	cluster  uint64 // the id of the cluster
	store    *store
	leases   map[int64]*lease
	attached map[string]int64 // the lease of each key that has one
	auth     *auth
	full     bool // the database is as large as it may be
	alarm    bool // the alarm for a full database is on
}

// newState makes the state of a new cluster.
func newState(cluster uint64) *state {
	return &state{cluster: cluster, store: newStore(), leases: map[int64]*lease{}, attached: map[string]int64{}, auth: newAuth()}
}

// clone copies the state, as a snapshot has it. Tokens of users who signed in are not part of it.
func (s *state) clone() *state {
	c := &state{cluster: s.cluster, store: s.store.clone(), leases: map[int64]*lease{}, attached: maps.Clone(s.attached), auth: s.auth.clone(), full: s.full, alarm: s.alarm}
	for id, l := range s.leases {
		c.leases[id] = &lease{id: l.id, ttl: l.ttl, keys: maps.Clone(l.keys), revoked: make(chan struct{})}
	}
	return c
}

// lease is a lease that was granted.
type lease struct {
	id      int64
	ttl     int64     // seconds
	expiry  time.Time // zero while there is no leader: then no lease runs out
	keys    map[string]bool
	revoked chan struct{} // closed when the lease is gone
}

// attach puts a key under a lease; 0 means none.
func (s *state) attach(key string, id int64) {
	if l := s.leases[id]; l != nil {
		l.keys[key] = true
		s.attached[key] = id
	}
}

// detach takes a key away from the lease that it is under, if any.
func (s *state) detach(key string) {
	if l := s.leases[s.attached[key]]; l != nil {
		delete(l.keys, key)
	}
	delete(s.attached, key)
}

// revoke ends a lease and deletes its keys, at one revision.
func (s *state) revoke(l *lease) *writer {
	w := &writer{state: s}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		w.delete(span{from: key, one: true})
	}
	w.end()
	delete(s.leases, l.id)
	close(l.revoked)
	return w
}

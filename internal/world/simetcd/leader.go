package simetcd

import (
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// reconsider lets the cluster lose its leader, or begin an election, if members that came or went make that necessary. e.mu is held.
func (e *Etcd) reconsider() {
	var alive []*member
	for _, m := range e.members {
		if m.up && !m.cut {
			alive = append(alive, m)
		}
	}
	majority := 2*len(alive) > len(e.members)
	if e.leader != nil && (!majority || !e.leader.up || e.leader.cut) {
		e.lose()
	}
	if e.leader == nil && majority && e.held == 0 && e.election == nil && !e.closed {
		wait := e.config.Election + time.Duration(e.rand.Int64N(int64(e.config.Election)))
		e.election = time.AfterFunc(wait, e.elect)
	}
	if e.election != nil && (!majority || e.held > 0) {
		e.election.Stop()
		e.election = nil
	}
	e.broadcast()
}

// lose leaves the cluster without a leader: leases don't run out until there is one again, and streams that require a leader end after
// some time. e.mu is held.
func (e *Etcd) lose() {
	e.leader = nil
	for _, l := range e.state.leases {
		l.expiry = time.Time{}
	}
	e.expiry.Stop()
	for _, m := range e.members {
		e.abandon(m)
	}
}

// elect ends an election.
func (e *Etcd) elect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.election = nil
	if e.closed || e.leader != nil || e.held > 0 {
		return
	}
	var alive []*member
	for _, m := range e.members {
		if m.up && !m.cut {
			alive = append(alive, m)
		}
	}
	if 2*len(alive) > len(e.members) {
		e.term++
		e.lead(alive[e.rand.IntN(len(alive))])
	}
}

// lead makes a member the leader. It starts every lease anew, and adds an election timeout, as etcd does. e.mu is held.
func (e *Etcd) lead(m *member) {
	e.leader = m
	now := time.Now()
	for _, l := range e.state.leases {
		l.expiry = now.Add(time.Duration(l.ttl)*time.Second + e.config.Election)
	}
	e.rearm()
	e.broadcast()
}

// reaches reports whether a member has a leader and a majority. Etcd.mu is held.
func (m *member) reaches() bool { return m.up && !m.cut && m.etcd.leader != nil }

// abandon ends the streams of a member that require a leader, if it still has none after three election timeouts: as etcd does, which
// counts. e.mu is held.
func (e *Etcd) abandon(m *member) {
	stopped := m.stopped
	time.AfterFunc(3*e.config.Election, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if m.stopped != stopped || m.reaches() {
			return
		}
		for r := range m.requiring {
			r.end(rpctypes.ErrGRPCNoLeader)
		}
	})
}

package simetcd

import (
	"context"
	"errors"
	"slices"
	"time"
)

// SetDelay makes each answer take that long, half of it before the call takes effect.
func (e *Etcd) SetDelay(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delay = d
}

// OnCall gives each call of a client, except streams, to a function, which says what goes wrong with it. The function may be called from
// several goroutines at once. If several functions are given, their faults add up. The returned function ends that.
func (e *Etcd) OnCall(f func(Call) Fault) (end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &rule{f}
	e.rules = append(slices.Clone(e.rules), r)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.rules = slices.DeleteFunc(slices.Clone(e.rules), func(other *rule) bool { return other == r })
	}
}

// LoseLeader leaves the cluster without a leader, and keeps it from electing another one until the returned function is called. Then it
// elects one, after an election timeout.
func (e *Etcd) LoseLeader() (allow func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held++
	e.lose()
	e.reconsider()
	allowed := false
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !allowed {
			allowed = true
			e.held--
			e.reconsider()
		}
	}
}

// Cut cuts a member off from the other members, but not from its clients: it answers serializable reads as of now, and nothing else. Its
// watchers are shown nothing.
func (e *Etcd) Cut(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.member(name)
	m.cut = true
	e.abandon(m)
	e.reconsider()
}

// Heal lets a member reach the others again. It catches up at once.
func (e *Etcd) Heal(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.member(name)
	m.cut = false
	if m.up {
		m.apply(e.state.store.revision)
	}
	e.reconsider()
}

// SetLag lets a member fall behind the others by a time: its watchers are shown changes later, and its answers wait for it.
func (e *Etcd) SetLag(name string, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.member(name).lag = d
}

// Stop stops a member: its connections break, and it does not listen. Sign-ins are forgotten once no member runs. It does nothing if the
// member does not run. An empty name means all of them.
func (e *Etcd) Stop(name string) {
	for _, m := range e.named(name) {
		m.stop()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.members {
		if m.up {
			return
		}
	}
	clear(e.tokens)
}

// Start starts a member that was stopped, with all data, at its address. An empty name means all of them.
func (e *Etcd) Start(ctx context.Context, name string) error {
	var errs []error
	for _, m := range e.named(name) {
		errs = append(errs, m.start(ctx))
	}
	return errors.Join(errs...)
}

// named returns the member with a name; an empty name means all of them.
func (e *Etcd) named(name string) []*member {
	if name == "" {
		return e.members
	}
	return []*member{e.member(name)}
}

// Snapshot is a copy of all that etcd had at a moment.
type Snapshot struct{ state *state }

// Snapshot copies all that etcd has now.
func (e *Etcd) Snapshot() *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &Snapshot{e.state.clone()}
}

// Restore sets etcd back to a snapshot, as an operator does with etcdutl snapshot restore: a new cluster of the same members, at the same
// addresses, with the old data; revisions after the snapshot are used again. A nil snapshot is one of an empty etcd. Members that run are
// stopped before, and started again after.
func (e *Etcd) Restore(ctx context.Context, snapshot *Snapshot) error {
	var running []*member
	for _, m := range e.members {
		e.mu.Lock()
		if m.up {
			running = append(running, m)
		}
		e.mu.Unlock()
		m.stop()
	}
	e.mu.Lock()
	cluster := e.rand.Uint64()
	if snapshot == nil {
		e.state = newState(cluster)
	} else {
		e.state = snapshot.state.clone()
		e.state.cluster = cluster
	}
	e.lives++
	clear(e.tokens)
	for _, m := range e.members {
		m.id, m.applied = e.rand.Uint64(), e.state.store.revision
	}
	e.mu.Unlock()
	var errs []error
	for _, m := range running {
		errs = append(errs, m.start(ctx))
	}
	return errors.Join(errs...)
}

// Fill fills the database: writes that need room fail, with "database space exceeded", until Drain or Defragment, and until the alarm is
// disarmed after that.
func (e *Etcd) Fill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.full, e.state.alarm = true, true
}

// Drain makes room in the database, and disarms the alarm.
func (e *Etcd) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.full, e.state.alarm = false, false
}

// Compact compacts the history up to a revision; 0 means the newest one. It does nothing if that revision is compacted already.
func (e *Etcd) Compact(revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if revision <= 0 {
		revision = e.state.store.revision
	}
	// The error says that it is compacted, or to come.
	_ = e.state.store.compact(revision)
}

// ForgetTokens makes all sign-ins invalid.
func (e *Etcd) ForgetTokens() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.tokens)
}

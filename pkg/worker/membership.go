package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

const (
	registerPause = time.Second     // after a failed attempt
	leaveTimeout  = 2 * time.Second // to take the record back at the end
)

// member keeps the worker's record in etcd. Each time it registers, it does so under an id that nothing ever had.
type membership struct {
	worker          *Worker
	server          *server
	store           *cluster.Store
	name            string
	address         string
	log             hclog.Logger
	setReady        func(bool)
	sessionsChanged chan struct{} // holds a token while sessions may have begun or ended

	mu      sync.Mutex
	waiting error // why the worker is not registered; nil while it is; guarded by mu
}

func newMembership(w *Worker, store *cluster.Store, name, address string, setReady func(bool)) *membership {
	m := &membership{
		worker: w, server: w.server, store: store, name: name, address: address, log: w.log.Named("membership"), setReady: setReady,
		sessionsChanged: make(chan struct{}, 1), waiting: batch.Errorf(batch.CodeUnavailable, "the worker has just started"),
	}
	m.server.readiness = m.publishReadiness
	return m
}

// run registers, again whenever the record is lost, until ctx is done; then it takes the record back. Once drain is closed
// the record says so. It returns an error where the worker's name is another one's.
func (m *membership) run(ctx context.Context, drain <-chan struct{}) error {
	short := 0 // registrations in a row that did not last
	for first := true; ctx.Err() == nil; first = false {
		registration, record, err := m.register(ctx, first)
		if registration == nil {
			return err
		}
		began := time.Now()
		registration, lost := m.keepRegistered(ctx, registration, record, drain)
		if lost != nil {
			m.setWaiting(lost)
			m.server.reset(batch.Errorf(batch.CodeShutdown, "worker %s takes another id: %w", record.ID, lost))
		}
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		if err := registration.Close(leaving); err != nil {
			m.log.Warn("could not take the record back; it goes when its lease runs out", "id", record.ID, "error", err)
		}
		cancel()
		if short++; time.Since(began) > m.worker.config.Lease {
			short = 0
		}
		if short > 1 && ctx.Err() == nil {
			wait := min(registerPause<<min(short-2, 8), m.worker.config.Lease)
			m.log.Warn("the record does not last: somebody removes it, such as a coordinator of an earlier build that can't reach this worker", "registers_after", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
	return nil
}

// register puts a record with a new id into etcd, however long that takes; nil when ctx is done first, or, with an error, when
// the worker's name is another one's.
func (m *membership) register(ctx context.Context, first bool) (*cluster.Registration[cluster.Worker], cluster.Worker, error) {
	for {
		if err := m.store.Wait(ctx, m.setWaiting); err != nil {
			return nil, cluster.Worker{}, nil
		}
		record := m.worker.record(newID(m.name), m.name, m.address)
		record.Draining = m.server.draining.Load()
		m.server.setID(record.ID) // before anybody can know it
		registration, holder, err := m.store.RegisterNamed(ctx, record, m.worker.config.Lease, m.judge(first))
		switch {
		case err == nil && holder != nil:
			m.server.setID("")
			if err := m.awaitName(ctx, first, *holder); err != nil {
				return nil, cluster.Worker{}, err
			}
			continue
		case err == nil:
			m.setWaiting(nil)
			m.server.metrics.registrations.Inc()
			m.log.Info("registered", "id", record.ID, "address", record.Address)
			return registration, record, nil
		case ctx.Err() != nil:
			return nil, cluster.Worker{}, nil
		}
		m.setWaiting(err)
		// The record may have been seen all the same.
		m.server.reset(batch.Errorf(batch.CodeShutdown, "worker %s takes another id: %w", record.ID, err))
		select {
		case <-ctx.Done():
		case <-time.After(registerPause):
		}
	}
}

// judge says what becomes of another worker that is registered under this one's name. first: this process was not registered
// before; else it does not take the place of the one that may have taken its own.
func (m *membership) judge(first bool) func(cluster.Worker) cluster.NamesakeVerdict {
	return func(w cluster.Worker) cluster.NamesakeVerdict {
		switch {
		case w.Draining:
			return cluster.NamesakeShares // it has no slots any more
		case w.Session == "":
			m.log.Warn("a worker of an earlier build has this one's name, which is let be: each gets its share of the rows", "name", m.name, "other", w.ID, "at", w.Address)
			return cluster.NamesakeShares
		case w.Session == cluster.SessionNone && first:
			m.log.Info("taking the place of a worker that no coordinator has a session with", "name", m.name, "other", w.ID, "at", w.Address)
			return cluster.NamesakeYields
		}
		return cluster.NamesakeKeeps
	}
}

// nameMargin is how much longer than a lease a worker waits for its name: etcd looks for leases that have run out from time to
// time only.
const nameMargin = 2 * time.Second

// awaitName waits until nobody holds the worker's name any more, or ctx is done. One that holds it and is dead loses it when
// coordinators find that out, or when its lease is over, which may be longer than this worker's; one that lives keeps it, and that is
// an error.
func (m *membership) awaitName(ctx context.Context, first bool, holder cluster.Worker) error {
	holds := "which coordinators have sessions with"
	if holder.Session == cluster.SessionNone {
		holds = "which has registered since"
	}
	taken := batch.Errorf(batch.CodeConflict, "the name %s is that of worker %s at %s, %s: give this worker another --name, "+
		"or none where each has an address of its own to advertise; end the other one first where this one is to take its place", m.name, holder.ID, holder.Address, holds)
	m.setWaiting(taken)
	patience := m.worker.config.Lease
	// Where etcd can't say, it is out of reach, and the next try to register asks again, or it does not let this worker ask.
	if left, err := m.store.Remaining(ctx, holder.ID); err == nil {
		patience = max(patience, left)
	}
	waiting, free := context.WithTimeout(ctx, patience+nameMargin)
	defer free()
	judge := m.judge(first)
	open := false // written by the callback, read when following has ended
	_ = m.store.FollowNamed(waiting, m.name, func(others []cluster.Worker) {
		for _, w := range others {
			if judge(w) == cluster.NamesakeKeeps {
				return
			}
		}
		open = true
		free()
	}) // it ends with waiting
	if open || ctx.Err() != nil {
		return nil
	}
	return taken
}

// hold returns why the record is lost, or nil when ctx is done, with the registration to close. An outage of etcd alone does
// not lose it, however long: the sessions go on, and so does the record if it still stands afterwards.
func (m *membership) keepRegistered(
	ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker, drain <-chan struct{},
) (*cluster.Registration[cluster.Worker], error) {
	stale := false                    // etcd has another record
	var again, quiet <-chan time.Time // to write it again; to say that no session is left
	stores := time.NewTicker(connectorsEvery)
	defer stores.Stop()
	for {
		switch {
		case m.server.inSession():
			stale = stale || record.Session != cluster.SessionLiving
			record.Session, quiet = cluster.SessionLiving, nil
		case record.Session == cluster.SessionLiving && quiet == nil:
			quiet = time.After(m.worker.config.Lease)
		}
		if stale && again == nil {
			if stale = !m.update(ctx, r, record); stale {
				again = time.After(registerPause)
			}
		}
		select {
		case <-ctx.Done():
			return r, nil
		case <-m.sessionsChanged:
		case <-again:
			again = nil
		case <-quiet:
			record.Session, quiet, stale = cluster.SessionNone, nil, true
		case <-drain:
			drain = nil
			record.Draining, stale, again = true, true, nil
		case <-stores.C:
			if down := m.worker.connectors.Down(); !sameNames(down, record.Stores) {
				record.Stores, stale = down, true
			}
		case <-r.Lost():
			why := r.Err()
			if batch.CodeOf(why) != batch.CodeNotFound {
				m.server.metrics.registrationsLost.WithLabelValues("silent").Inc()
				m.log.Warn("etcd is away: going on with the sessions there are", "id", record.ID, "error", why)
				resumed, err := m.resume(ctx, r, why)
				if ctx.Err() != nil {
					return r, nil
				}
				if err == nil {
					r = resumed
					m.setWaiting(nil)
					m.log.Info("etcd is back, and the record still stands", "id", record.ID)
					stale, again = true, nil // the outage may have swallowed news
					continue
				}
				why = err
			}
			m.server.metrics.registrationsLost.WithLabelValues("gone").Inc()
			m.log.Warn("the cluster has given this worker up: cancelling what runs, to begin anew under another id", "id", record.ID, "error", why)
			return r, why
		}
	}
}

// update writes the record, and reports whether that was done.
func (m *membership) update(ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker) bool {
	err := r.Update(ctx, record)
	if err != nil && ctx.Err() == nil {
		m.log.Warn("could not write the worker's state to etcd; its sessions know, and it is tried again", "error", err)
	}
	return err == nil
}

// resume waits for etcd, again and again, until it says whether the record still stands, or ctx is done.
func (m *membership) resume(ctx context.Context, r *cluster.Registration[cluster.Worker], why error) (*cluster.Registration[cluster.Worker], error) {
	for m.setWaiting(why); ; {
		if err := m.store.Wait(ctx, m.setWaiting); err != nil {
			return nil, err
		}
		again, err := r.Resume(ctx)
		if err == nil || batch.CodeOf(err) == batch.CodeNotFound {
			return again, err
		}
		m.setWaiting(err)
		select {
		case <-ctx.Done():
		case <-time.After(registerPause):
		}
	}
}

// await notes why the worker is not registered, nil when it is, and tells when that changes.
func (m *membership) setWaiting(why error) {
	m.mu.Lock()
	before := m.waiting
	m.waiting = why
	m.mu.Unlock()
	m.publishReadiness()
	if why == nil {
		m.server.metrics.registered.Set(1)
		return
	}
	m.server.metrics.registered.Set(0)
	if before == nil || before.Error() != why.Error() {
		m.log.Warn("waiting for etcd", "error", why)
	}
}

// ready is why no rows come to the worker, nil if they can.
func (m *membership) ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readyLocked()
}

// unready is ready for callers that hold the lock.
func (m *membership) readyLocked() error {
	switch {
	case m.waiting != nil:
		return m.waiting
	case m.server.draining.Load():
		return errDrained
	case !m.server.inSession():
		return errNoSession
	}
	return nil
}

// refresh tells probes how things stand.
func (m *membership) publishReadiness() {
	select {
	case m.sessionsChanged <- struct{}{}:
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setReady(m.readyLocked() == nil) // with the lock held, so that the last word is the newest; it never blocks
}

// health answers that the process lives, and tells how it is.
func (m *membership) health(w http.ResponseWriter, r *http.Request) {
	report := struct {
		ID         string `json:"id,omitempty"`
		Name       string `json:"name"`
		Build      string `json:"build,omitempty"`
		Draining   bool   `json:"draining"`
		WaitingFor string `json:"waiting_for,omitempty"`
	}{ID: m.server.workerID(), Name: m.name, Build: m.worker.config.Build, Draining: m.server.draining.Load()}
	if err := m.ready(r.Context()); err != nil {
		report.WaitingFor = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(report); err != nil {
		return // who asked has gone
	}
}

// hereOnlyPause is how often a worker whose address means any machine looks whether a coordinator is on another one.
const addressCheckEvery = 2 * time.Second

// warnOfAddress warns, once, where a coordinator on another machine is registered, and the worker advertises an address that
// means that machine there. It returns then, or when ctx is done. Where etcd does not let the worker see coordinators, it
// finds none.
func (m *membership) warnOfAddress(ctx context.Context) {
	if !serve.OnlyHere(m.address) {
		return
	}
	for {
		coordinators, _ := m.store.Coordinators(ctx) // an error is told by who registers
		for _, c := range coordinators {
			looking, cancel := context.WithTimeout(ctx, addressCheckEvery)
			elsewhere := serve.Elsewhere(looking, c.Address)
			cancel()
			if elsewhere {
				m.log.Warn("the advertised address means whatever machine dials it, and a coordinator is on another one: "+
					"it can't reach this worker; give --advertise host:port, as that coordinator dials it", "advertise", m.address,
					"coordinator", c.ID, "at", c.Address)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(addressCheckEvery):
		}
	}
}

// newID draws an id.
func newID(name string) string {
	var random [5]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return name + "-" + hex.EncodeToString(random[:])
}

// storesEvery is how often the worker looks which stores are of no use, and tells when others are than before.
const connectorsEvery = time.Second

// sameNames reports that two maps have the same keys. Reasons change with every try.
func sameNames(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			return false
		}
	}
	return true
}

package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/expr"
)

// Times of registration in etcd.
const (
	registerPause = time.Second     // pause before a failed request to etcd is tried again
	leaveTimeout  = 2 * time.Second // removing the record from etcd may take at most so long
)

// membership keeps the worker's record in etcd, by which coordinators find the worker. Each registration uses a new id, so
// that a coordinator never takes a worker that began anew for the earlier one.
//
//	             name is free            lease lost,            etcd answers: record still there
//	registering ─────────────► registered ─────────► etcd away ─────────────────────────────────► registered
//	   │  ▲  │                    │                      │
//	   │  │  │ name is taken      │ ctx done             │ record is gone: cancel all runs
//	   │  │  ▼                    ▼                      ▼
//	   │ waiting for the name   record removed       registering, with a new id
//	   │     │ the other worker keeps it
//	   ▼     ▼
//	ended  ended with an error
//
// Readiness follows: the worker is ready while it is registered, does not drain, and has at least one open session.
type membership struct {
	worker          *Worker
	server          *server
	store           *cluster.Store
	name            string // the worker's name
	address         string // the address that coordinators dial
	log             hclog.Logger
	setReady        func(bool)    // sets the status of the gRPC health service
	sessionsChanged chan struct{} // holds a token when sessions may have begun or ended

	mu      sync.Mutex
	waiting error // why the worker is not registered; nil while it is registered; guarded by mu
}

// newMembership makes the membership of a worker, and lets the server report changes of its sessions to it.
func newMembership(w *Worker, store *cluster.Store, name, address string, setReady func(bool)) *membership {
	m := &membership{
		worker: w, server: w.server, store: store, name: name, address: address, log: w.log.Named("membership"), setReady: setReady,
		sessionsChanged: make(chan struct{}, 1), waiting: batch.Errorf(batch.CodeUnavailable, "the worker has just started"),
	}
	m.server.readiness = m.publishReadiness
	return m
}

// run registers the worker, and registers it again whenever the record is lost, until ctx is done. Then it removes the record.
// Once the channel drain is closed, the record says that the worker drains. run returns an error when another worker keeps the
// name.
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
			m.log.Warn("could not remove the worker's record from etcd; etcd deletes it when its lease runs out", "id", record.ID, "error", err)
		}
		cancel()
		if short++; time.Since(began) > m.worker.config.Lease {
			short = 0
		}
		if short > 1 && ctx.Err() == nil { // wait longer after each registration that did not last
			pointRegisteredOften.Hit()
			wait := min(registerPause<<min(short-2, 8), m.worker.config.Lease)
			m.log.Warn("the worker's record in etcd is deleted again and again: perhaps a coordinator of an earlier build can't reach this worker and deletes it", "registers_after", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
	return nil
}

// register writes a record with a new id to etcd, and tries without a limit of time. It returns the registration and the
// record. It returns a nil registration and no error when ctx is done first, and a nil registration and an error when another
// worker keeps the name. first says that this process has not registered before.
func (m *membership) register(ctx context.Context, first bool) (*cluster.Registration[cluster.Worker], cluster.Worker, error) {
	for {
		if err := m.store.Wait(ctx, m.setWaiting); err != nil {
			return nil, cluster.Worker{}, nil
		}
		record := m.worker.record(newID(m.name), m.name, m.address)
		record.Draining = m.server.draining.Load()
		m.server.setID(record.ID) // before the record is written, so that a coordinator that reads it can dial at once
		registration, holder, err := m.store.RegisterNamed(ctx, record, m.worker.config.Lease, m.judge(first))
		switch {
		case err == nil && holder != nil:
			pointNameTaken.Hit()
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
		pointUnregistered.Hit()
		m.setWaiting(err)
		// The attempt may have written the record all the same, and a coordinator may have opened a session by it.
		m.server.reset(batch.Errorf(batch.CodeShutdown, "worker %s takes another id: %w", record.ID, err))
		select {
		case <-ctx.Done():
		case <-time.After(registerPause):
		}
	}
}

// judge returns the function that decides about another worker with the same name. The three verdicts are: both share the
// name, the other worker yields the name to this one, or the other worker keeps the name. first says that this process has
// not registered before. A process that has lost its own record makes no other worker yield, because the other worker may be
// its successor.
func (m *membership) judge(first bool) func(cluster.Worker) cluster.NamesakeVerdict {
	return func(w cluster.Worker) cluster.NamesakeVerdict {
		switch {
		case w.Draining:
			return cluster.NamesakeShares // a draining worker has no slots
		case w.Session == "":
			m.log.Warn("a worker of an earlier build has the same name; both stay, and each gets a share of the rows", "name", m.name, "other", w.ID, "at", w.Address)
			return cluster.NamesakeShares
		case w.Session == cluster.SessionNone && first:
			pointNameYielded.Hit()
			m.log.Info("taking the name of another worker, with which no coordinator has a session", "name", m.name, "other", w.ID, "at", w.Address)
			return cluster.NamesakeYields
		}
		return cluster.NamesakeKeeps
	}
}

// nameMargin is how much longer than a lease a worker waits for its name, because etcd deletes the records of leases that have
// run out only from time to time.
const nameMargin = 2 * time.Second

// awaitName blocks until no other worker keeps the name, or ctx is done; both give nil. first is passed to judge. A dead
// worker loses its name when coordinators see its death, or when its lease runs out, which may take longer than this worker's
// own lease. If the worker holder or another one still keeps the name after that time, the result is an error.
func (m *membership) awaitName(ctx context.Context, first bool, holder cluster.Worker) error {
	holds := "with which coordinators have sessions"
	if holder.Session == cluster.SessionNone {
		holds = "which has registered since then"
	}
	taken := batch.Errorf(batch.CodeConflict, "register the worker: the name %s belongs to worker %s at %s, %s: give this worker another --name, "+
		"or no name when each worker advertises its own address; to replace the other worker, end it first", m.name, holder.ID, holder.Address, holds)
	m.setWaiting(taken)
	patience := m.worker.config.Lease
	// An error means that etcd can't be reached, or does not allow the question. Then the worker's own lease is the limit.
	if left, err := m.store.Remaining(ctx, holder.ID); err == nil {
		patience = max(patience, left)
	}
	waiting, free := context.WithTimeout(ctx, patience+nameMargin)
	defer free()
	judge := m.judge(first)
	open := false // whether the name is free; written by the callback, read when FollowNamed has returned
	_ = m.store.FollowNamed(waiting, m.name, func(others []cluster.Worker) {
		for _, w := range others {
			if judge(w) == cluster.NamesakeKeeps {
				return
			}
		}
		open = true
		free()
	}) // its error says only that waiting has ended
	if open || ctx.Err() != nil {
		return nil
	}
	pointNameKept.Hit()
	return taken
}

// keepRegistered keeps the record current until it is lost or ctx is done. It returns the registration, which the caller
// closes, and the reason when the record is lost. When etcd can't be reached, the record counts as kept: sessions go on,
// however long that takes, and keepRegistered asks etcd afterwards whether the record is still there.
func (m *membership) keepRegistered(
	ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker, drain <-chan struct{},
) (*cluster.Registration[cluster.Worker], error) {
	stale := false                    // the record in etcd differs from record
	var again, quiet <-chan time.Time // again: time to retry the write; quiet: a lease time without a session is over
	stores := time.NewTicker(connectorsEvery)
	defer stores.Stop()
	for {
		// The record says whether a coordinator has a session, for other workers of the same name. The end of the last session is
		// written only after a lease time, because coordinators come back.
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
			if batch.CodeOf(why) != batch.CodeNotFound { // etcd did not answer, so the record may still be there
				pointEtcdSilent.Hit()
				m.server.metrics.registrationsLost.WithLabelValues("silent").Inc()
				m.log.Warn("etcd can't be reached: the worker goes on with its open sessions", "id", record.ID, "error", why)
				resumed, err := m.resume(ctx, r, why)
				if ctx.Err() != nil {
					return r, nil
				}
				if err == nil {
					pointRecordThere.Hit()
					r = resumed
					m.setWaiting(nil)
					m.log.Info("etcd can be reached again, and the worker's record is still there", "id", record.ID)
					stale, again = true, nil // a write may have been lost in the outage
					continue
				}
				why = err
			}
			pointRecordGone.Hit()
			m.server.metrics.registrationsLost.WithLabelValues("gone").Inc()
			m.log.Warn("the cluster has counted this worker as dead: cancelling all running rows and registering again under a new id", "id", record.ID, "error", why)
			return r, why
		}
	}
}

// update writes the record to etcd and reports whether that succeeded. It logs a failure.
func (m *membership) update(ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker) bool {
	err := r.Update(ctx, record)
	if err != nil && ctx.Err() == nil {
		m.log.Warn("could not write the worker's state to etcd; it is tried again, and open sessions know the state", "error", err)
	}
	return err == nil
}

// resume asks etcd, again and again, whether the record is still there. It returns the resumed registration, or the error that
// says that the record is gone, or ctx's error.
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

// setWaiting stores why the worker is not registered in etcd; nil means that it is registered. It logs a reason that differs
// from the last.
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

// ready implements the check of /readyz: the error says why no rows can come to the worker, nil means ready.
func (m *membership) ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readyLocked()
}

// readyLocked returns why no rows can come to the worker, or nil when rows can come. The caller holds m.mu.
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

// publishReadiness wakes keepRegistered and sets the status of the health service. The server calls it when a session begins
// or ends.
func (m *membership) publishReadiness() {
	select {
	case m.sessionsChanged <- struct{}{}:
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setReady(m.readyLocked() == nil) // under the lock, so that the newest state is set last; it never blocks
}

// health implements the page /healthz: it answers 200 as long as the process lives, with the worker's state as JSON.
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
		return // the client has closed the connection
	}
}

// addressCheckEvery is how often a worker with an address such as localhost checks whether a coordinator runs on another
// machine.
const addressCheckEvery = 2 * time.Second

// warnOfAddress logs one warning when the worker advertises an address such as localhost and a coordinator runs on another
// machine, which can't reach the worker by that address. It returns after the warning, or when ctx is done. It finds no
// coordinators where etcd does not let the worker read them.
func (m *membership) warnOfAddress(ctx context.Context) {
	if !serve.OnlyHere(m.address) {
		return
	}
	for {
		coordinators, _ := m.store.Coordinators(ctx) // register logs the errors of etcd
		for _, c := range coordinators {
			looking, cancel := context.WithTimeout(ctx, addressCheckEvery)
			elsewhere := serve.Elsewhere(looking, m.worker.config.Network, c.Address)
			cancel()
			if elsewhere {
				m.log.Warn("the advertised address is valid on this machine only, and a coordinator runs on another machine: "+
					"it can't reach this worker; give --advertise host:port with an address that the coordinator can dial", "advertise", m.address,
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

// newID returns a new worker id: the name and ten random hexadecimal digits.
func newID(name string) string {
	var random [5]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return name + "-" + hex.EncodeToString(random[:])
}

// connectorsEvery is how often the worker checks which of its connectors work.
const connectorsEvery = time.Second

// sameNames reports whether two maps have the same keys. The values, which are reasons, are not compared: they change with
// every attempt.
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

// record returns the record that the worker writes to etcd, with this id, name and address.
func (w *Worker) record(id, name, address string) cluster.Worker {
	r := cluster.Worker{
		ID: id, Name: name, Address: address, Lanes: runtime.GOMAXPROCS(0), Build: w.config.Build, Started: time.Now(), Session: cluster.SessionNone,
		Expressions: expr.Version, Guarded: w.config.AccessFile != "", HTTP: w.pages, Limits: cluster.LimitsOf(w.config.Limits),
	}
	for _, f := range w.config.Registry.Functions() {
		r.Functions = append(r.Functions, cluster.Function{Name: f.Name, Mode: f.Mode, In: f.In, Out: f.Out})
	}
	return r
}

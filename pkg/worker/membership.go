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

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

const (
	registerPause = time.Second     // after a failed attempt
	leaveTimeout  = 2 * time.Second // to take the record back at the end
)

// member keeps the worker's record in etcd. Each time it registers, it does so under an id that nothing ever had.
type member struct {
	worker   *Worker
	server   *server
	store    *cluster.Store
	address  string
	log      hclog.Logger
	setReady func(bool)

	mu      sync.Mutex
	waiting error // why the worker is not registered; nil while it is; guarded by mu
}

func newMember(w *Worker, store *cluster.Store, address string, setReady func(bool)) *member {
	m := &member{
		worker: w, server: w.server, store: store, address: address, log: w.log.Named("membership"), setReady: setReady,
		waiting: batch.Errorf(batch.CodeUnavailable, "the worker has just started"),
	}
	m.server.readiness = m.refresh
	return m
}

// run registers, again whenever the record is lost, until ctx is done; then it takes the record back. Once drain is closed
// the record says so.
func (m *member) run(ctx context.Context, drain <-chan struct{}) {
	for ctx.Err() == nil {
		registration, record := m.register(ctx)
		if registration == nil {
			return
		}
		registration, lost := m.hold(ctx, registration, record, drain)
		if lost != nil {
			m.await(lost)
			m.server.reset(batch.Errorf(batch.CodeShutdown, "worker %s takes another id: %w", record.ID, lost))
		}
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		if err := registration.Close(leaving); err != nil {
			m.log.Warn("could not take the record back; it goes when its lease runs out", "id", record.ID, "error", err)
		}
		cancel()
	}
}

// register puts a record with a new id into etcd, however long that takes; nil when ctx is done first.
func (m *member) register(ctx context.Context) (*cluster.Registration[cluster.Worker], cluster.Worker) {
	for {
		if err := m.store.Wait(ctx, m.await); err != nil {
			return nil, cluster.Worker{}
		}
		record := m.worker.record(newID(m.worker.config.Name), m.address)
		record.Draining = m.server.draining.Load()
		m.server.answerTo(record.ID) // before anybody can know it
		registration, err := m.store.RegisterWorker(ctx, record, m.worker.config.Lease)
		if err == nil {
			m.await(nil)
			m.server.metrics.registrations.Inc()
			m.log.Info("registered", "id", record.ID, "address", record.Address)
			return registration, record
		}
		if ctx.Err() != nil {
			return nil, cluster.Worker{}
		}
		m.await(err)
		m.server.reset(err) // the record may have been seen all the same
		select {
		case <-ctx.Done():
		case <-time.After(registerPause):
		}
	}
}

// hold returns why the record is lost, or nil when ctx is done, with the registration to close. An outage of etcd alone does
// not lose it, however long: the sessions go on, and so does the record if it still stands afterwards.
func (m *member) hold(
	ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker, drain <-chan struct{},
) (*cluster.Registration[cluster.Worker], error) {
	for {
		select {
		case <-ctx.Done():
			return r, nil
		case <-drain:
			drain = nil
			record.Draining = true
			m.update(ctx, r, record)
		case <-r.Lost():
			why := r.Err()
			if batch.CodeOf(why) != batch.CodeNotFound {
				m.server.metrics.registrationsEx.WithLabelValues("silent").Inc()
				m.log.Warn("etcd is away: going on with the sessions there are", "id", record.ID, "error", why)
				again, err := m.resume(ctx, r, why)
				if ctx.Err() != nil {
					return r, nil
				}
				if err == nil {
					r = again
					m.await(nil)
					m.log.Info("etcd is back, and the record still stands", "id", record.ID)
					if record.Draining {
						m.update(ctx, r, record) // the outage may have swallowed it
					}
					continue
				}
				why = err
			}
			m.server.metrics.registrationsEx.WithLabelValues("gone").Inc()
			m.log.Warn("the cluster has given this worker up: cancelling what runs, to begin anew under another id", "id", record.ID, "error", why)
			return r, why
		}
	}
}

func (m *member) update(ctx context.Context, r *cluster.Registration[cluster.Worker], record cluster.Worker) {
	if err := r.Update(ctx, record); err != nil && ctx.Err() == nil {
		m.log.Warn("could not write to etcd that the worker drains; its sessions know", "error", err)
	}
}

// resume waits for etcd, again and again, until it says whether the record still stands, or ctx is done.
func (m *member) resume(ctx context.Context, r *cluster.Registration[cluster.Worker], why error) (*cluster.Registration[cluster.Worker], error) {
	for m.await(why); ; {
		if err := m.store.Wait(ctx, m.await); err != nil {
			return nil, err
		}
		again, err := r.Resume(ctx)
		if err == nil || batch.CodeOf(err) == batch.CodeNotFound {
			return again, err
		}
		m.await(err)
		select {
		case <-ctx.Done():
		case <-time.After(registerPause):
		}
	}
}

// await notes why the worker is not registered, nil when it is, and tells when that changes.
func (m *member) await(why error) {
	m.mu.Lock()
	before := m.waiting
	m.waiting = why
	m.mu.Unlock()
	m.refresh()
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
func (m *member) ready(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unready()
}

// unready is ready for callers that hold the lock.
func (m *member) unready() error {
	switch {
	case m.waiting != nil:
		return m.waiting
	case m.server.draining.Load():
		return errDrained
	case !m.server.inSession():
		return errAlone
	}
	return nil
}

// refresh tells probes how things stand.
func (m *member) refresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setReady(m.unready() == nil) // with the lock held, so that the last word is the newest; it never blocks
}

// health answers that the process lives, and tells how it is.
func (m *member) health(w http.ResponseWriter, r *http.Request) {
	report := struct {
		ID         string `json:"id,omitempty"`
		Name       string `json:"name"`
		Build      string `json:"build,omitempty"`
		Draining   bool   `json:"draining"`
		WaitingFor string `json:"waiting_for,omitempty"`
	}{ID: m.server.identity(), Name: m.worker.config.Name, Build: m.worker.config.Build, Draining: m.server.draining.Load()}
	if err := m.ready(r.Context()); err != nil {
		report.WaitingFor = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(report); err != nil {
		return // who asked has gone
	}
}

// newID draws an id.
func newID(name string) string {
	var random [5]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return name + "-" + hex.EncodeToString(random[:])
}

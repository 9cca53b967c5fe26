package coordinator

import (
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// Slots of shard keys are shared out by workers' names, so no two workers may have the same name. A worker that registers makes sure of
// that. Workers of earlier builds did not: two of them on one machine both have the machine's name, and a worker that is restarted may
// find the key of the process that it follows. Coordinators therefore handle two workers of one name: each gets slots of its own, and a
// worker that no coordinator has a session with is removed.

// sameNamePatience is for how long two workers of one name are left alone before one may be removed. By then every coordinator has told, in
// etcd, with which of them it has a session.
const sameNamePatience = 3 * time.Second

// slotNameFor returns the name by which a new worker gets its share of the slots: its own name, or its id if a live worker has slots by
// that name. With equal names, one of the two would get all slots of both.
func (r *roster) slotNameFor(w cluster.Worker) string {
	for _, m := range r.members {
		if m.peer.slotName == w.Name && m.alive() {
			pointShareName.Hit()
			return w.ID
		}
	}
	return w.Name
}

// noteSameName notes, for each live member with the name of a new worker, that a worker registered later has its name.
func (r *roster) noteSameName(w cluster.Worker) {
	for _, m := range r.members {
		if m.worker.Name == w.Name && m.alive() && m.worker.Created < w.Created && m.sameNameSince.IsZero() {
			m.sameNameSince = time.Now()
			r.log.Warn("two workers have one name: start one of them with another --name, unless the second one takes the first one's place",
				"name", w.Name, "first", m.worker.ID, "second", w.ID)
		}
	}
}

// removeSuperseded removes workers that no coordinator has a session with while another worker, registered later, has their name.
func (r *roster) removeSuperseded(ctx context.Context) {
	for id, m := range r.members {
		if m.sameNameSince.IsZero() || !m.alive() || m.peer.connected.Load() || time.Since(m.sameNameSince) < sameNamePatience || r.mayHaveSessionElsewhere(id) {
			continue
		}
		for _, o := range r.members {
			if o.worker.Name == m.worker.Name && o.worker.Created > m.worker.Created && o.alive() {
				r.log.Info("worker is removed: another worker has its name, and no coordinator has a session with it", "worker", id, "successor", o.worker.ID)
				pointSuperseded.Hit()
				r.closePeer(m)
				r.removals.Go(func() { r.removeWorkerKey(ctx, id) })
				break
			}
		}
	}
}

// mayHaveSessionElsewhere reports whether another coordinator may have a session with a worker whose name a newer worker has, too. worker
// is its id.
func (r *roster) mayHaveSessionElsewhere(worker string) bool {
	all := r.coordinators()
	if _, known := all[r.id]; !known {
		return true // this coordinator is not listed itself, so the list may be old
	}
	for id, c := range all {
		if id != r.id && (c.Sessions == nil || slices.Contains(c.Namesakes, worker)) {
			return true
		}
	}
	return false
}

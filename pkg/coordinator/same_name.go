package coordinator

import (
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// A worker that registers sees to it that nobody else has its name. Builds before that did not: two of them on one machine both
// have the machine's, and one that is started anew may find the record of the one that it follows. So coordinators count with
// namesakes: each gets its share of the slots, and one that no coordinator has a session with is removed.

// rivalPatience is how long two workers of one name are left alone: until every coordinator has told of its sessions with them.
const sameNamePatience = 3 * time.Second

// nameOf is the name by which slots are shared out to a worker that has come. While another one has its name, that is its id:
// else one of the two would have all slots.
func (f *fleet) slotNameFor(w cluster.Worker) string {
	for _, m := range f.members {
		if m.peer.slotName == w.Name && m.present() {
			return w.ID
		}
	}
	return w.Name
}

// present reports whether a member lives, and does not drain, as far as is known here.
func (m *member) present() bool { return !m.dead && !m.worker.Draining && !m.peer.draining.Load() }

// rival notes that members have a successor under their name.
func (f *fleet) noteSameName(w cluster.Worker) {
	for _, m := range f.members {
		if m.worker.Name == w.Name && m.present() && m.worker.Created < w.Created && m.sameNameSince.IsZero() {
			m.sameNameSince = time.Now()
			f.log.Warn("two workers have one name: start one of them with another --name, unless it takes the other's place", "name", w.Name,
				"first", m.worker.ID, "second", w.ID)
		}
	}
}

// supersede buries processes that another one has followed under their name, where no coordinator has a session with them.
func (f *fleet) removeSuperseded(ctx context.Context) {
	for id, m := range f.members {
		if m.sameNameSince.IsZero() || !m.present() || m.peer.connected.Load() || time.Since(m.sameNameSince) < sameNamePatience || f.mayHaveSessionElsewhere(id) {
			continue
		}
		for _, o := range f.members {
			if o.worker.Name == m.worker.Name && o.worker.Created > m.worker.Created && o.present() {
				f.log.Info("worker is followed by another one of its name, and no coordinator has a session with it", "worker", id, "successor", o.worker.ID)
				f.closePeer(m)
				f.removals.Go(func() { f.removeWorkerKey(ctx, id) })
				break
			}
		}
	}
}

// heldElsewhere reports whether another coordinator may have a session with a worker that has a namesake.
func (f *fleet) mayHaveSessionElsewhere(worker string) bool {
	all := f.Coordinators()
	if _, known := all[f.id]; !known {
		return true // who the others are is not known for sure either
	}
	for id, c := range all {
		if id != f.id && (c.Sessions == nil || slices.Contains(c.Namesakes, worker)) {
			return true
		}
	}
	return false
}

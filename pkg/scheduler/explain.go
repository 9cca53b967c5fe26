package scheduler

import "github.com/kisgrid/kisgrid/internal/keyslot"

// Explanation says where a new row with some shard key would go: its slot, the worker that owns the slot, and why.
type Explanation struct {
	Slot uint16 // the slot of the key
	// Revision is the number of the flow's active revision; 0 means none.
	Revision int64
	// Worker is the id of the worker that would get the row; "" means none.
	Worker string
	// Reason says in words why that worker gets the row, or why no worker does.
	Reason string
}

// Unanswered returns how many rows a worker was sent and has neither answered nor lost, and how many are queued for it; 0 for an unknown
// worker.
func (s *Scheduler) Unanswered(worker string) (rows int64) {
	if w := s.workers[worker]; w != nil {
		for _, wf := range w.workerFlows {
			rows += wf.unanswered
			wf.queue.each(func(g *segment) { rows += int64(len(g.list())) })
		}
	}
	return rows
}

// Explain says where a new row of the flow would go now, and why. key is the hash of the row's shard key. To find rows that
// were submitted already, use a Search.
func (s *Scheduler) Explain(flow string, key uint64) Explanation {
	e := Explanation{Slot: keyslot.Of(key)}
	f := s.byName[flow]
	switch {
	case f == nil || f.revision.IsZero():
		e.Reason = "no revision of the flow is active"
	case f.readyCount() == 0:
		e.Revision = f.revision.Number
		e.Reason = "no worker is ready for the active revision"
		for wf := range f.each {
			w := wf.worker
			switch {
			case w.draining:
				e.Reason += "; " + w.id + " drains"
			case w.cordoned:
				e.Reason += "; " + w.id + " is cordoned"
			case wf.acknowledged != f.revision:
				e.Reason += "; " + w.id + " has not acknowledged it"
			}
		}
	default:
		e.Revision = f.revision.Number
		w := f.owner(e.Slot).worker
		e.Worker = w.id
		e.Reason = "it weighs most for the slot among the workers that are ready"
		switch {
		case f.held.slots[e.Slot] != nil:
			e.Reason += "; rows wait until the slot's old owner, " + f.held.slots[e.Slot].oldOwner.worker.id + ", is done"
		case !w.connected:
			e.Reason += "; rows wait until its session is back"
		}
	}
	return e
}

package scheduler

import "github.com/kisgrid/kisgrid/pkg/batch"

// workerFlow is one worker's side of one flow.
type workerFlow struct {
	flow   *flow
	worker *worker
	ready  bool // its worker is in flow.table
	// acknowledged is the last active revision that the worker said it is ready for.
	acknowledged            batch.Revision
	creditRows, creditBytes int64 // credit left; below zero when overdrawn
	first, last             *Part // those with rows that the worker has not answered, in order
	queue                   queue
	mayMixRevisions         bool     // something in queue may be of another revision than the active one
	shares                  *shares  // nil before the first row with a key
	unanswered              int64    // rows sent
	handingOver             int      // slots that are held until it has no rows of them
	keeping                 int      // those of them that stay
	guardedSlots            []uint16 // held slots that are not let go before all of requeues is through
	requeuing               int      // how many sources are on their way back into queue
	returning               bool     // it hands back rows of its own accord: it gets none before all are back
	newestAnswered          uint64   // the number of the newest part of which a row has ended
	nextExpiring            *Part    // the next one to look at for slots that were held for too long
	nextSearched            *Part    // the next one that a search looks at; nil: none is left
	membershipDue, sendDue  bool     // it is in flow.moves, flow.pumps
}

// mayServe reports whether the workerFlow's worker may own slots of its flow.
func (wf *workerFlow) mayServe() bool {
	return !wf.flow.revision.IsZero() && wf.acknowledged == wf.flow.revision && !wf.isLeaving()
}

// isLeaving reports whether the workerFlow's worker keeps nothing that it has not begun.
func (wf *workerFlow) isLeaving() bool { return wf.worker.draining || wf.worker.gone || wf.returning }

func (wf *workerFlow) hasCredit() bool {
	return wf.worker.connected && !wf.worker.resending && wf.creditRows > 0 && wf.creditBytes > 0
}

// mayRun reports whether the worker may be sent rows of this workerFlow now. One that hands slots over may have kept some.
func (wf *workerFlow) maySend() bool {
	return wf.hasCredit() && (wf.mayServe() || wf.handingOver > 0 && !wf.isLeaving())
}

// push queues rows for the workerFlow's worker.
func (wf *workerFlow) push(g segment) {
	wf.mayMixRevisions = wf.mayMixRevisions || g.batch.revision() != wf.flow.revision
	wf.queue.push(g)
}

// append puts a new part behind the workerFlow's others.
func (wf *workerFlow) append(p *Part) {
	if p.prev = wf.last; p.prev != nil {
		p.prev.next = p
	} else {
		wf.first = p
	}
	wf.last = p
}

// load counts rows that were sent, or, below zero, that are the worker's no more.
func (wf *workerFlow) addUnanswered(rows int) {
	wf.unanswered += int64(rows)
	wf.flow.unanswered += int64(rows)
	if wf.ready {
		wf.flow.loads[wf.worker.seat] = wf.unanswered
	}
}

// pay takes a part from the workerFlow's credit.
func (wf *workerFlow) takeCredit(p *Part) {
	wf.creditRows -= int64(p.Len())
	if p.Rows == nil {
		wf.creditBytes -= int64(p.Batch.Ends[p.Batch.Rows()-1])
		return
	}
	for _, r := range p.Rows {
		wf.creditBytes -= p.Batch.size(r)
	}
}

func (s *Scheduler) workerFlow(f *flow, w *worker) *workerFlow {
	for len(f.workerFlows) <= int(w.seat) {
		f.workerFlows, f.loads = append(f.workerFlows, nil), append(f.loads, notReady)
	}
	wf := f.workerFlows[w.seat]
	if wf == nil {
		wf = &workerFlow{flow: f, worker: w}
		f.workerFlows[w.seat] = wf
		w.workerFlows = append(w.workerFlows, wf)
	}
	return wf
}

// owns reports whether new rows of a slot go to the workerFlow.
func (f *flow) owns(wf *workerFlow, slot uint16) bool {
	return wf.ready && f.table.owner[slot] == wf.worker.seat
}

// owner is the workerFlow that a slot's new rows go to. Somebody is ready.
func (f *flow) owner(slot uint16) *workerFlow { return f.workerFlows[f.table.owner[slot]] }

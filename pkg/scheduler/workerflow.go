package scheduler

import "github.com/kisgrid/kisgrid/pkg/batch"

// workerFlow is one flow on one worker: the parts that the worker was sent of the flow, its queue, and its credit.
type workerFlow struct {
	flow                    *flow
	worker                  *worker
	ready                   bool           // the worker owns slots of the flow: it is a member of flow.table
	acknowledged            batch.Revision // the revision that the worker last said it can run; zero means none
	creditRows, creditBytes int64          // credit that is left; below zero when overdrawn
	// first and last are the ends of a linked list of the parts that have open rows, in the order of their numbers.
	first, last     *Part
	queue           queue   // rows that wait for credit
	mayMixRevisions bool    // the queue may have rows of another revision than the active one
	shares          *shares // rows by bucket of keys, for a key's share of the credit (skew.go); nil before the first row with a key
	unanswered      int64   // number of rows that the worker was sent and has neither answered nor lost
	handingOver     int     // number of held slots of which this is the old owner
	keeping         int     // number of the slots in handingOver with heldSlot.keepsRows
	// guardedSlots are held slots that must not be let go before all rows of the queue have been routed anew. For each of
	// them heldSlot.open is one too high.
	guardedSlots []uint16
	requeuing    int // number of sources in the flow's inbox that are the requeuedRows of this worker flow
	// returning says that the worker gives back rows without having been asked. It gets no new ones before all are back.
	returning              bool
	newestAnswered         uint64 // number of the newest part of which a row has ended
	nextExpiring           *Part  // the next part that takeBackExpired looks at; nil means none
	nextSearched           *Part  // the next part that a search looks at; nil means none
	membershipDue, sendDue bool   // this worker flow is in the flow's list of the same name
}

// mayServe reports whether the worker may own slots: it can run the flow's active revision, is not cordoned, and isLeaving is
// false.
func (wf *workerFlow) mayServe() bool {
	return !wf.flow.revision.IsZero() && wf.acknowledged == wf.flow.revision && !wf.worker.cordoned && !wf.isLeaving()
}

// isLeaving reports whether the worker drains, is gone, or is giving back rows without having been asked. It gets no new rows
// of the flow then.
func (wf *workerFlow) isLeaving() bool { return wf.worker.draining || wf.worker.gone || wf.returning }

// hasCredit reports whether new parts can be sent to the worker now: it is connected, all parts that did not reach it were
// sent again, and it has credit left for rows and for bytes.
func (wf *workerFlow) hasCredit() bool {
	return wf.worker.connected && !wf.worker.resending && wf.creditRows > 0 && wf.creditBytes > 0
}

// maySend reports whether queued rows may be sent to the worker now: it has credit, and may own slots or still has rows of
// slots that it hands over.
func (wf *workerFlow) maySend() bool {
	return wf.hasCredit() && (wf.mayServe() || wf.handingOver > 0 && !wf.isLeaving())
}

// push puts a segment into the worker flow's queue, and notes if its revision is not the active one.
func (wf *workerFlow) push(g segment) {
	wf.mayMixRevisions = wf.mayMixRevisions || g.batch.revision() != wf.flow.revision
	wf.queue.push(g)
}

// append adds a new part at the end of the worker flow's list of parts.
func (wf *workerFlow) append(p *Part) {
	if p.prev = wf.last; p.prev != nil {
		p.prev.next = p
	} else {
		wf.first = p
	}
	wf.last = p
}

// addUnanswered adds rows to the number of rows that the worker has not answered. rows is negative for rows that it answered
// or lost.
func (wf *workerFlow) addUnanswered(rows int) {
	wf.unanswered += int64(rows)
	wf.flow.unanswered += int64(rows)
	if wf.ready {
		wf.flow.loads[wf.worker.seat] = wf.unanswered
	}
}

// takeCredit takes the part's rows and bytes off the worker flow's credit, which may fall below zero.
func (wf *workerFlow) takeCredit(p *Part) {
	if wf.creditRows < int64(p.Len()) {
		pointOverdrawn.Hit()
	}
	wf.creditRows -= int64(p.Len())
	if p.Rows == nil {
		wf.creditBytes -= int64(p.Batch.Ends[p.Batch.Rows()-1])
		return
	}
	for _, r := range p.Rows {
		wf.creditBytes -= p.Batch.size(r)
	}
}

// workerFlow returns the workerFlow of a flow and a worker, and makes it if there is none yet.
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

// owns reports whether the worker flow is ready and owns the slot, so that new rows of the slot go to it.
func (f *flow) owns(wf *workerFlow, slot uint16) bool {
	return wf.ready && f.table.owner[slot] == wf.worker.seat
}

// owner returns the worker flow that owns a slot, to which new rows of the slot go. At least one worker must be ready for the
// flow.
func (f *flow) owner(slot uint16) *workerFlow { return f.workerFlows[f.table.owner[slot]] }

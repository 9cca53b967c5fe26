package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// flow is the state of one flow.
type flow struct {
	name     string
	revision batch.Revision // the active one; zero: none
	epoch    uint32         // counts the revisions that were active
	ledger   Ledger

	workerFlows     []*workerFlow // by seat; nil where the flow had nothing to do with the worker
	table           *table        // who owns which slot, of the workers that may get new rows; nil while there is none
	loads           []int64       // by seat, of the ready ones: their unanswered rows, side by side, as leastLoaded reads all
	unanswered      int64         // rows of all workerFlows, those of workers that are gone included
	counts          *slotCounts
	held            map[uint16]*heldSlot
	heldCount       int       // that wait in held
	expiry          time.Time // no slot's hold ends before; meaningless while none is held
	handedOverSlots []uint16  // held slots of which no row is unanswered any more

	inbox        []source     // where rows come from before fresh, the last one first
	submitted    queue        // submitted meanwhile
	waiting      queue        // rows that found no ready worker, in order
	wholeLines   []*wholeLine // batches that go to one worker whole
	waitingSince time.Time    // when waiting, or wholes without a ready worker, began

	// What is to be done for the flow (work.go).
	awake         bool          // it is in Scheduler.awake
	handOver      *handOver     // the hand-over under way; nil: none
	membershipDue []*workerFlow // those whose place is to be looked at
	expiring      []*workerFlow // those that still have rows of slots that were held for too long
	sendDue       []*workerFlow // those that may be able to send
	wholeDue      bool          // a whole batch may be able to go
	expiryDue     bool          // a slot may be held for too long
	starvationDue bool          // what waits for a worker is to be failed
	sweepDue      bool          // rows of batches that are over are to be dropped
	sweep         sweep
}

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

// worker is one worker process.
type worker struct {
	id, name    string
	hash        uint64 // of the name
	seat        uint16
	connected   bool
	draining    bool
	gone        bool
	died        bool          // and so it is gone
	diedAlone   bool          // and something ran with nothing beside it
	left        int           // workerFlows of one that is gone
	workerFlows []*workerFlow // one per flow that the worker had to do with
	// The most that a part may measure.
	partRows, partBytes int64

	sent       sentParts
	suspects   []*Part // those sent after so many deaths that they run alone
	resending  bool    // parts are being sent again from number resume on; new ones must wait
	resendNext uint64
}

func (s *Scheduler) flow(name string) *flow {
	f := s.byName[name]
	if f == nil {
		f = &flow{name: name}
		s.byName[name] = f
		s.flows = append(s.flows, f)
	}
	return f
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

// each yields the workerFlows of the flow.
func (f *flow) each(yield func(*workerFlow) bool) {
	for _, wf := range f.workerFlows {
		if wf != nil && !yield(wf) {
			return
		}
	}
}

// owns reports whether new rows of a slot go to the workerFlow.
func (f *flow) owns(wf *workerFlow, slot uint16) bool {
	return wf.ready && f.table.owner[slot] == wf.worker.seat
}

// isLeaving reports whether the workerFlow's worker keeps nothing that it has not begun.
func (wf *workerFlow) isLeaving() bool { return wf.worker.draining || wf.worker.gone || wf.returning }

// push queues rows for the workerFlow's worker.
func (wf *workerFlow) push(g segment) {
	wf.mayMixRevisions = wf.mayMixRevisions || g.batch.revision() != wf.flow.revision
	wf.queue.push(g)
}

// move has the workerFlow's place looked at: it may have become ready, or be no more.
func (s *Scheduler) updateMembershipSoon(wf *workerFlow) {
	if !wf.membershipDue {
		wf.membershipDue = true
		wf.flow.membershipDue = append(wf.flow.membershipDue, wf)
		s.wake(wf.flow)
	}
}

// pumpSoon has the workerFlow send what it can when it is its turn.
func (s *Scheduler) sendQueuedSoon(wf *workerFlow) {
	if !wf.sendDue {
		wf.sendDue = true
		wf.flow.sendDue = append(wf.flow.sendDue, wf)
		s.wake(wf.flow)
	}
}

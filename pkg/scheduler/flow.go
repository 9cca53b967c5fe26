package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// flow is the state of one flow.
type flow struct {
	name     string
	revision batch.Revision // the active one; zero means none
	epoch    uint32         // counts the changes of revision
	ledger   Ledger

	workerFlows []*workerFlow // by seat of the worker; nil where the flow had nothing to do with the worker
	table       *table        // owners of the slots, among the workers that are ready; nil while no worker is
	// loads has, by seat, the unanswered rows of a ready worker, else notReady; side by side, since leastLoaded reads them all
	loads      []int64
	unanswered int64       // rows at all workers, including those that are gone and whose rows are in the inbox
	counts     *slotCounts // nil while the flow has few unanswered rows (counts.go)
	held       heldSlots

	inbox        []source     // sources of rows that go before submitted, the last one first
	submitted    queue        // rows submitted while others had to go first
	waiting      queue        // rows with keys that found no ready worker, in order
	wholeLines   []*wholeLine // batches without keys
	waitingSince time.Time    // when the oldest row began to wait for a ready worker

	// Pending work (work.go). awake says that the flow is in Scheduler.awake.
	awake         bool
	handOver      *handOver     // the hand-over under way; nil means none
	membershipDue []*workerFlow // worker flows that may have become ready, or not ready
	expiring      []*workerFlow // worker flows that have rows of slots which are held for too long
	sendDue       []*workerFlow // worker flows that may be able to send
	wholeDue      bool          // a batch without keys may be able to go
	expiryDue     bool          // a slot may be held for too long
	starvationDue bool          // rows that wait for a ready worker have to fail
	sweepDue      bool          // a sweep has begun, or should
	sweep         sweep
}

// worker is one worker process, as the scheduler sees it.
type worker struct {
	id, name            string // name stays when the process starts again; id does not
	hash                uint64 // of the name
	seat                uint16 // the number that stands for the worker in tables
	connected           bool
	draining            bool
	gone                bool
	died                bool          // gone, and its process died
	diedAlone           bool          // died, and ran a row that must have nothing beside it
	left                int           // worker flows that are still to be removed, once it is gone
	workerFlows         []*workerFlow // one for each flow that the worker had to do with
	partRows, partBytes int64         // The most rows, and the most bytes, of one part.

	sent       sentParts // parts with open rows
	suspects   []*Part   // parts against which two deaths count; each runs alone
	resending  bool      // parts from number resendNext on are being sent again; new ones must wait
	resendNext uint64
}

// flow returns the flow of a name, and makes it where there is none yet.
func (s *Scheduler) flow(name string) *flow {
	f := s.byName[name]
	if f == nil {
		f = &flow{name: name}
		s.byName[name] = f
		s.flows = append(s.flows, f)
	}
	return f
}

// each yields the worker flows of the flow.
func (f *flow) each(yield func(*workerFlow) bool) {
	for _, wf := range f.workerFlows {
		if wf != nil && !yield(wf) {
			return
		}
	}
}

// noteWaiting is called before a row is queued. It notes the time where the row is the first one to wait for a worker to
// become ready.
func (s *Scheduler) noteWaiting(f *flow) {
	if f.readyCount() == 0 && f.waiting.empty() && len(f.wholeLines) == 0 {
		f.waitingSince = s.now
	}
}

// readyCount returns how many workers may get new rows of the flow.
func (f *flow) readyCount() int {
	if f.table == nil {
		return 0
	}
	return f.table.count
}

// settled reports whether rows with keys may be routed at once: no older rows are on their way, and no slot is about to
// move.
func (f *flow) settled() bool {
	return f.handOver == nil && len(f.membershipDue) == 0 && len(f.held.handedOver) == 0 && f.inboxEmpty()
}

// inboxEmpty reports whether no rows of the flow have to be routed.
func (f *flow) inboxEmpty() bool { return len(f.inbox) == 0 && f.submitted.empty() }

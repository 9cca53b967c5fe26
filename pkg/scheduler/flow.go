package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// flow is what the scheduler knows of one flow.
type flow struct {
	name     string
	revision batch.Revision // the active revision; zero means none
	epoch    uint32         // number of changes of the active revision so far
	ledger   Ledger
	open     openBatches

	workerFlows []*workerFlow // by the worker's seat; nil for a worker with which the flow had nothing to do yet
	table       *table        // which ready worker owns which slot; nil while no worker is ready
	// loads has, by seat, how many rows a ready worker has not answered, and notReady for other seats. It is a slice of its
	// own because leastLoaded reads all of it.
	loads      []int64
	unanswered int64       // rows at all workers, including those that are gone and whose rows are in the inbox
	counts     *slotCounts // nil while the flow has few unanswered rows (counts.go)
	held       heldSlots

	inbox        []source     // sources of rows that go before those in submitted; the last source goes first
	submitted    queue        // rows submitted while others had to go first
	waiting      queue        // rows with keys that wait for a ready worker, in order
	wholeLines   []*wholeLine // queues of batches without keys that wait for a worker
	waitingSince time.Time    // when rows began to wait for a ready worker; meaningless while none wait

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

// worker is what the scheduler knows of one worker process.
type worker struct {
	id, name            string // the name stays the same when the process starts again, and the id does not
	hash                uint64 // hash of the name
	seat                uint16 // the small number that stands for the worker in tables of slot owners
	connected           bool
	draining            bool
	cordoned            bool // the worker may own no slots, until WorkerCordoned says otherwise
	gone                bool
	died                bool          // the worker is gone, and its process died without having been asked to end
	diedAlone           bool          // when the worker was gone, a row was running in it that must have nothing beside it
	left                int           // number of worker flows still to be removed after the worker is gone
	workerFlows         []*workerFlow // one for each flow that the worker had to do with
	partRows, partBytes int64         // the most rows and the most bytes that one part may have

	sent       sentParts // parts that the worker was sent and that have open rows
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

// each yields the worker flows of the flow, in the order of their seats.
func (f *flow) each(yield func(*workerFlow) bool) {
	for _, wf := range f.workerFlows {
		if wf != nil && !yield(wf) {
			return
		}
	}
}

// noteWaiting is called before rows are queued. If no worker is ready and nothing waits yet, it notes the time as the
// beginning of the wait.
func (s *Scheduler) noteWaiting(f *flow) {
	if f.readyCount() == 0 && f.waiting.empty() && len(f.wholeLines) == 0 {
		f.waitingSince = s.now
	}
}

// readyCount returns how many workers are ready for the flow, which means that they own slots and may get new rows.
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

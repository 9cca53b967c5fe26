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

	workerFlows []*workerFlow // by seat; nil where the flow had nothing to do with the worker
	table       *table        // who owns which slot, of the workers that may get new rows; nil while there is none
	loads       []int64       // by seat, of the ready ones: their unanswered rows, side by side, as leastLoaded reads all
	unanswered  int64         // rows of all workerFlows, those of workers that are gone included
	counts      *slotCounts
	held        heldSlots

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

// each yields the workerFlows of the flow.
func (f *flow) each(yield func(*workerFlow) bool) {
	for _, wf := range f.workerFlows {
		if wf != nil && !yield(wf) {
			return
		}
	}
}

// starve notes since when rows wait for a worker to become ready.
func (s *Scheduler) noteWaiting(f *flow) {
	if f.readyCount() == 0 && f.waiting.empty() && len(f.wholeLines) == 0 {
		f.waitingSince = s.now
	}
}

// ready counts the workers that may get new rows of the flow.
func (f *flow) readyCount() int {
	if f.table == nil {
		return 0
	}
	return f.table.count
}

package scheduler

import (
	"math"
	"time"
)

// Config holds the times and limits of a Scheduler. A field that is not above zero means its default.
type Config struct {
	// HandOver bounds how long newer rows of a slot that moves to another worker wait for the slot's old owner to answer or
	// give back its rows. After that the new owner gets them. Default 5 s.
	HandOver time.Duration
	// NoWorker bounds how long rows wait while no worker is ready for their flow. The time counts from the moment when the
	// first of these rows began to wait without a ready worker. When it has passed, all rows of the flow that wait fail with
	// CodeNoCapableWorker. Default 10 s.
	NoWorker time.Duration
	// Slice bounds the work of one Step, in units of about 10 ns. Work that is left over is done in further Steps: see Behind.
	// Default 100,000, which is about 1 ms.
	Slice int
}

// Scheduler is the state of all flows, workers and batches. It is not safe for concurrent use: one goroutine owns it and
// all that it leads to.
type Scheduler struct {
	config    Config             // the configuration, with defaults filled in
	flows     []*flow            // in the order in which events first named them
	byName    map[string]*flow   // the same flows by name
	workers   map[string]*worker // by id; a worker that is gone is not in it
	placement placement          // which worker owns which slot
	deadlines deadlines          // batches that have a deadline and are not over
	arrivals  uint64             // number of batches submitted so far, and the arrival of the newest one
	handOvers uint64             // number of the newest hand-over; hand-overs are numbered from 1
	// turn is the state of the Step that is under way.
	turn
	splitBuffers splitBuffers  // memory that Scheduler.split uses again in each call
	spareCounts  []*slotCounts // slotCounts that no flow uses, to be used again
	// leastRows and leastBytes are the smallest limits that any worker so far has put on one part. A batch that is within both
	// fits every worker.
	leastRows, leastBytes int64

	awake     []*flow   // flows that have pending work, in the order in which Step comes to them
	resending []*worker // workers whose lost parts are being sent again; the first one is next
	searches  []*Search // searches that have not ended; the first one is under way
	ticked    time.Time // time of the last Tick
}

// New makes a scheduler without flows and workers.
func New(c Config) *Scheduler {
	if c.HandOver <= 0 {
		c.HandOver = 5 * time.Second
	}
	if c.NoWorker <= 0 {
		c.NoWorker = 10 * time.Second
	}
	if c.Slice <= 0 {
		c.Slice = slice
	}
	return &Scheduler{config: c, byName: map[string]*flow{}, workers: map[string]*worker{}, leastRows: math.MaxInt64, leastBytes: math.MaxInt64}
}

// Step handles one event and returns the actions that the caller has to carry out, in this order. The slice is valid until the
// next Step. now is the time, and must not be earlier than in the Step before. If an event causes much work, some of it is
// done in later Steps: see Behind.
func (s *Scheduler) Step(e Event, now time.Time) []Action {
	clear(s.actions)
	s.actions, s.now, s.budget = s.actions[:0], now, s.config.Slice
	e.step(s)
	s.doPending()
	return s.actions
}

// Ledgers calls f with the name and the ledger of each flow, in the order in which events first named the flows. A flow that
// was retired is among them, unless it was retired because it was deleted (FlowRetired.Gone).
func (s *Scheduler) Ledgers(f func(flow string, l Ledger)) {
	for _, fl := range s.flows {
		f(fl.name, fl.ledger)
	}
}

// Oldest returns the batch of a flow that was submitted first of those that are not over; nil means that there is none.
func (s *Scheduler) Oldest(flow string) *Batch {
	if f := s.byName[flow]; f != nil {
		return f.open.oldest
	}
	return nil
}

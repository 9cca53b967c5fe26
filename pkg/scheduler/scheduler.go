// Package scheduler decides which worker runs which row, and when. It is pure: the same state, event and time give the same
// actions. It has no clock, goroutine, connection, logger or random source; whoever owns it carries its actions out.
//
// However much an event concerns, its Step is short: the rest follows in further ones (work.go, inbox.go).
//
// A batch enters with Submitted. Its rows are split by slot (route.go) over the workers that are ready for the flow, wait in
// the queue of a workerFlow (one worker, one flow) for credit, and leave as parts (send.go); batches without keys go whole (whole.go). Answered counts their outcomes
// (answer.go). Slots (table.go) change their owner when workers become ready, drain or are gone (membership.go), by hand-over
// (handover.go), so that rows of one key from one stream are first executed in the order in which they were submitted. Whose
// fault the death of a worker may be is poison.go's.
//
// It is exported for the project's own programs and changes with them: see docs/stability.md.
package scheduler

import (
	"math"
	"time"
)

// Config holds the scheduler's times. Zero fields mean the defaults.
type Config struct {
	// HandOver bounds how long newer rows of a moved slot wait for its old owner. Default 5 s.
	HandOver time.Duration
	// NoWorker bounds how long rows wait while no worker is ready for their flow: so long after the first of them began to
	// wait, all that wait are failed, NO_CAPABLE_WORKER.
	// Default 10 s.
	NoWorker time.Duration
	// Slice bounds the work of one Step, in units of about 10 ns. What is left of it follows in further Steps: see Behind.
	// Default 100,000.
	Slice int
}

// Scheduler is the state. It is not safe for concurrent use: one goroutine owns it.
type Scheduler struct {
	config    Config
	flows     []*flow // in the order in which they were first named
	byName    map[string]*flow
	workers   map[string]*worker
	placement placement
	deadlines deadlines // batches that have one
	arrivals  uint64    // batches submitted so far
	handOvers uint64    // hand-overs so far
	turn
	splitBuffers splitBuffers
	spareCounts  []*slotCounts
	// The least that a worker ever took in one part.
	leastRows, leastBytes int64

	// What is to be done (work.go).
	awake     []*flow
	resending []*worker // whose parts are being sent again
	searches  []*Search // the first one is under way
	ticked    time.Time // of the last Tick
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

// Step takes one event and returns what is to be done, in order. The slice is valid until the next Step. now never falls.
// Where much follows from an event, the rest of it comes in the next Steps: see Behind.
func (s *Scheduler) Step(e Event, now time.Time) []Action {
	clear(s.actions)
	s.actions, s.now, s.budget = s.actions[:0], now, s.config.Slice
	e.step(s)
	s.doPending()
	return s.actions
}

// Ledgers gives each flow's counts to f. Counts of a flow that was removed stay.
func (s *Scheduler) Ledgers(f func(flow string, l Ledger)) {
	for _, fl := range s.flows {
		f(fl.name, fl.ledger)
	}
}

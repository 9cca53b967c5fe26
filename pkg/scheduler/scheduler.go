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

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
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
	config       Config
	flows        []*flow // in the order in which they were first named
	byName       map[string]*flow
	workers      map[string]*worker
	seats        []*worker // nil: free
	hashes       []uint64  // by seat, of the workers' names
	tables       []*table  // those in use
	deadlines    deadlines // batches that have one
	arrivals     uint64    // batches submitted so far
	handOvers    uint64    // hand-overs so far
	now          time.Time // of the step under way
	actions      []Action
	splitBuffers splitBuffers
	spareCounts  []*slotCounts
	// The least that a worker ever took in one part.
	leastRows, leastBytes int64

	// What is to be done (work.go).
	budget    int // of the step under way
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

func (s *Scheduler) act(a Action) { s.actions = append(s.actions, a) }

// Batch is one batch in the scheduler's hands, from Submitted until the action that says Last. The caller fills in the
// exported fields, and changes them no more.
type Batch struct {
	Flow string
	// Revision that the batch runs on, and the digest of its documents.
	Revision int64
	Digest   batch.Digest
	// Keys are the rows' shard key hashes; empty: the batch goes whole to one worker.
	Keys []uint64
	// Ends are the rows' end offsets.
	Ends []uint32
	// Ended lists, by row, the rows that had an outcome before they came here. They go to no worker.
	Ended []batch.RowOutcome
	// Deadline is when rows without an outcome are failed; zero for never.
	Deadline time.Time
	// Owner is the caller's own.
	Owner any

	flow        *flow
	arrival     uint64
	remaining   int        // rows without an outcome
	endedRows   bitset.Set // rows with an outcome; nil while there is none
	over        bool       // answered in full, or cancelled
	cancelled   bool       // nobody waited for it any more
	submittedAt time.Time
	heapIndex   int // place in deadlines; -1 for none
}

func (b *Batch) revision() batch.Revision {
	return batch.Revision{Number: b.Revision, Digest: b.Digest}
}

// Rows is how many rows the batch has.
func (b *Batch) Rows() int { return len(b.Ends) }

func (b *Batch) size(row uint32) int64 {
	if row == 0 {
		return int64(b.Ends[0])
	}
	return int64(b.Ends[row] - b.Ends[row-1])
}

func (b *Batch) slot(row uint32) uint16 { return keyslot.Of(b.Keys[row]) }

// end marks a row as having its outcome; false when it had one.
func (b *Batch) markEnded(row uint32) bool {
	if b.endedRows == nil {
		b.endedRows = bitset.New(b.Rows())
		for i := range b.Ended {
			b.endedRows.Add(b.Ended[i].Row)
		}
	}
	return b.endedRows.Add(row)
}

// open lists the rows without an outcome.
func (b *Batch) openRows() []uint32 {
	rows := make([]uint32, 0, b.remaining)
	ended := b.Ended
	for r := range uint32(b.Rows()) {
		switch {
		case b.endedRows != nil:
			if b.endedRows.Has(r) {
				continue
			}
		case len(ended) > 0 && ended[0].Row == r:
			ended = ended[1:]
			continue
		}
		rows = append(rows, r)
	}
	return rows
}

// Ledger counts a flow's rows: In = the outcomes + in flight, at every moment.
type Ledger struct {
	In       uint64
	Outcomes batch.Counts
	// Redispatched counts rows that a worker had when it was given up, HandedBack those that a worker gave back, each time: both
	// went to a worker again.
	Redispatched, HandedBack uint64
}

// InFlight is the rows that have no outcome yet.
func (l *Ledger) InFlight() uint64 { return l.In - l.Outcomes.Total() }

// Ledgers gives each flow's counts to f. Counts of a flow that was removed stay.
func (s *Scheduler) Ledgers(f func(flow string, l Ledger)) {
	for _, fl := range s.flows {
		f(fl.name, fl.ledger)
	}
}

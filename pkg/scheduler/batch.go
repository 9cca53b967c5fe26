package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Batch is one batch in the scheduler, from Submitted until the action that has Last set, or Finish. The caller fills in
// the exported fields, and must not change them after that.
//
// The life of a batch:
//
//	Submitted ──▶ open ──▶ over: every row has its outcome (the action with Last), or Cancelled
//	                         rows that are still at workers run to their end, and count for nothing but their key's order
type Batch struct {
	Flow string
	// Revision is the number of the revision that the batch runs on, and Digest is the digest of its documents.
	Revision int64
	Digest   batch.Digest
	// Keys are the hashes of the rows' shard keys, by row. Without keys the batch goes whole to one worker.
	Keys []uint64
	// Ends are the offsets at which the rows end, by row.
	Ends []uint32
	// Ended lists, by row, the rows that had an outcome before they came here. They go to no worker.
	Ended []batch.RowOutcome
	// Deadline is when rows without an outcome fail; zero means never.
	Deadline time.Time
	// Owner belongs to the caller.
	Owner any

	flow        *flow
	arrival     uint64     // number in the order of submission
	remaining   int        // rows without an outcome
	endedRows   bitset.Set // rows with an outcome; nil while only those of Ended have one
	over        bool       // all rows have an outcome, or the batch was cancelled
	cancelled   bool       // nobody waits for it any more
	submittedAt time.Time
	heapIndex   int // place in Scheduler.deadlines; -1 means none
}

// revision returns the revision that the batch runs on.
func (b *Batch) revision() batch.Revision {
	return batch.Revision{Number: b.Revision, Digest: b.Digest}
}

// Rows returns how many rows the batch has.
func (b *Batch) Rows() int { return len(b.Ends) }

// size returns the size of a row in bytes.
func (b *Batch) size(row uint32) int64 {
	if row == 0 {
		return int64(b.Ends[0])
	}
	return int64(b.Ends[row] - b.Ends[row-1])
}

// slot returns the slot of a row. The batch must have keys.
func (b *Batch) slot(row uint32) uint16 { return keyslot.Of(b.Keys[row]) }

// markEnded notes that a row has its outcome. It returns false when the row had one before.
func (b *Batch) markEnded(row uint32) bool {
	if b.endedRows == nil {
		b.endedRows = bitset.New(b.Rows())
		for i := range b.Ended {
			b.endedRows.Add(b.Ended[i].Row)
		}
	}
	return b.endedRows.Add(row)
}

// openRows returns the rows without an outcome.
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

// Ledger counts a flow's rows. At every moment In is the sum of all outcomes and the rows in flight.
type Ledger struct {
	In       uint64       // rows submitted
	Outcomes batch.Counts // rows by outcome
	// Redispatched counts rows that a worker had when it was given up, and HandedBack counts rows that a worker gave back.
	// All of them went to a worker again. A row counts each time that this happens.
	Redispatched, HandedBack uint64
}

// InFlight returns how many rows have no outcome yet.
func (l *Ledger) InFlight() uint64 { return l.In - l.Outcomes.Total() }

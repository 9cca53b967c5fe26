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
	// Keys are the hashes of the rows' shard keys, one for each row. An empty slice means that the batch has no keys; then its
	// rows go to one worker together.
	Keys []uint64
	// Ends are the offsets in bytes at which the rows end, one for each row. There is at least one row.
	Ends []uint32
	// Ended lists the rows that had an outcome before the batch was submitted, in the order of the rows. They go to no worker.
	Ended []batch.RowOutcome
	// Deadline is when rows without an outcome fail; zero means never.
	Deadline time.Time
	// Owner is for the caller's use; the scheduler does not look at it.
	Owner any

	flow        *flow
	arrival     uint64     // number of the batch in the order of submission, from 1
	remaining   int        // number of rows without an outcome
	endedRows   bitset.Set // rows with an outcome; nil while only those of Ended have one
	over        bool       // all rows have an outcome, or the batch was cancelled
	cancelled   bool       // the event Cancelled ended the batch
	submittedAt time.Time
	heapIndex   int // index of the batch in Scheduler.deadlines; -1 means that it is not there

	older, newer *Batch // the neighbours in flow.open; nil means none
}

// openBatches are the batches of a flow that are not over, in the order of submission.
type openBatches struct{ oldest, newest *Batch }

// add adds the newest batch.
func (o *openBatches) add(b *Batch) {
	b.older = o.newest
	if o.newest == nil {
		o.oldest = b
	} else {
		o.newest.newer = b
	}
	o.newest = b
}

// remove takes a batch out that was added.
func (o *openBatches) remove(b *Batch) {
	if b.older == nil {
		o.oldest = b.newer
	} else {
		b.older.newer = b.newer
	}
	if b.newer == nil {
		o.newest = b.older
	} else {
		b.newer.older = b.older
	}
	b.older, b.newer = nil, nil
}

// revision returns the number and digest of the revision that the batch runs on.
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

// markEnded notes that a row has its outcome now. It returns false, and changes nothing, if the row had one before.
func (b *Batch) markEnded(row uint32) bool {
	if b.endedRows == nil {
		b.endedRows = bitset.New(b.Rows())
		for i := range b.Ended {
			b.endedRows.Add(b.Ended[i].Row)
		}
	}
	return b.endedRows.Add(row)
}

// openRows returns the places of the rows that have no outcome, ascending, in a new slice.
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

// Ledger counts a flow's rows. In is always the sum of all Outcomes and of the rows in flight.
type Ledger struct {
	In       uint64       // number of rows submitted
	Outcomes batch.Counts // number of rows by outcome; those that are in flight have none
	// Redispatched counts rows that were routed again because the worker that had them was given up. HandedBack counts rows
	// that a worker gave back, which are routed again, too. A row counts each time that this happens to it.
	Redispatched, HandedBack uint64
}

// InFlight returns how many submitted rows have no outcome yet.
func (l *Ledger) InFlight() uint64 { return l.In - l.Outcomes.Total() }

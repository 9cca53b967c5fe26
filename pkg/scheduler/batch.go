package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

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

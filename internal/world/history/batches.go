package history

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Row is a row of a batch, as the client made it.
type Row struct {
	Key string // the shard key; empty means that the row has none
	N   int    // unique among the rows of one client
	Do  string // what the row tells the functions to do, in the world's language
	// Bytes is the length of the encoded row.
	Bytes int
	// Bad rows do not decode. NoKey rows have no shard key, or null.
	Bad, NoKey bool
}

// Batch is a batch of a client, with every try to submit it. A program that submits the same *batch.Batch again makes another try of the
// same Batch.
type Batch struct {
	Client  string
	Flow    string
	Number  int // which batch of the client this is, from 1
	Rows    []Row
	Results bool // the client asked for output rows
	Report  bool // the client asked that dead rows are only reported
	Tries   []*Try
	GaveUp  time.Duration // when the client gave the batch up; 0 means never
	// Older is by how much the batch is older than its first submission, by its producer's account.
	Older time.Duration
}

// Try is one call of Submit or Send with a batch.
type Try struct {
	At   time.Duration
	Call bool          // Submit; false means Send on a stream
	ID   batch.ID      // zero when the batch got no id, or lost it because nobody can have seen it
	Sent time.Duration // when Send returned; 0 for Submit, and while Send blocks
	// Ended is when the client had the answer; 0 means that it never came before the record ended, or before the client went away.
	Ended time.Duration
	// Gone says that the client's program ended, or cancelled the stream or the call, before the answer came.
	Gone bool

	// Err is the error's text, and Code its code; empty and 0 when there was none. Unanswered says that the error matches
	// batch.ErrUnanswered. An error that does not match it claims that no row of the batch ever ran, in this try or an earlier one.
	Err        string
	Code       batch.Code
	Unanswered bool

	// Answered says that the answer has an outcome for each row. A try may be answered and have an error, when the output is missing.
	Answered bool
	Revision int64
	NotDone  []batch.RowOutcome // by row; all other rows are done
	Outputs  []Output           // the output rows, when the client asked for them
	Deadline time.Duration      // of this try; 0 means none
}

// Output is an output row that a client got.
type Output struct {
	Origin uint32 // the place in the batch of the row that it comes from, or batch.WholeBatch
	Row    string // without the pad
}

// NothingRan reports whether the client was told that no row of the batch ever ran.
func (t *Try) NothingRan() bool {
	return t.Ended > 0 && !t.Gone && t.Err != "" && !t.Unanswered && !t.Answered
}

// Outcome returns how the row at a place of the batch ended. The try must be answered. A row that is done has only its place and outcome.
func (t *Try) Outcome(row int) batch.RowOutcome {
	i, found := slices.BinarySearchFunc(t.NotDone, row, func(o batch.RowOutcome, row int) int { return int(o.Row) - row })
	if found {
		return t.NotDone[i]
	}
	return batch.RowOutcome{Row: uint32(row), Outcome: batch.Done}
}

// Last returns the batch's last try, or nil.
func (b *Batch) Last() *Try {
	if len(b.Tries) == 0 {
		return nil
	}
	return b.Tries[len(b.Tries)-1]
}

package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Tap copies some rows of a flow on their way through its functions, for somebody who looks. Lanes.Watch sets the taps of a flow. A tap changes no
// outcome, no order and no output. The lanes call its functions from several goroutines at the same time, and none of them may block.
type Tap struct {
	// Function is the name of the function whose rows are copied. Empty means all functions of the flow.
	Function string
	// Key limits the tap to rows whose shard key has this hash; nil means all rows. Rows without a key have none.
	Key *uint64
	// RowBytes is how many bytes of a row are copied at most.
	RowBytes int
	// Admit is told how many rows enter a function together, of those that the tap is for. It returns how many of them may be copied.
	Admit func(rows int) (copies int)
	// Show gets a copied row when it has left the function. The row belongs to Show.
	Show func(*TappedRow)
	// Spent is told how long a lane was busy with the tap.
	Spent func(time.Duration)
}

// maxTappedRows is how many rows one tap copies at most of those that enter a function together.
const maxTappedRows = 64

// maxTappedAfter is how many of the rows that a function made of one row are copied.
const maxTappedAfter = 16

// Became says what became of a row in a function.
type Became string

// The fates of a row in one function.
const (
	// Passed means that the function has done its work with the row, and that the rows of TappedRow.After go on.
	Passed Became = "passed"
	// Ended means that the row has ended in the function: TappedRow.Outcome says how.
	Ended Became = "ended"
	// Waits means that the row was set aside, and enters the function again later.
	Waits Became = "waits"
	// Jumped means that the row goes to the function TappedRow.To.
	Jumped Became = "jumped"
)

// TappedRow is one row at one function.
type TappedRow struct {
	// Function is the function's name. Use says which of the function's places in the flow is meant, from 0.
	Function string
	Use      uint32
	// Revision is the revision of the flow that the row runs on.
	Revision int64
	// Batch is the batch of the row, and Row the place in it of the input row that the row is or comes from. It is batch.WholeBatch for a row
	// that was made of the whole batch.
	Batch batch.ID
	Row   uint32
	// Path tells the rows apart that came from one input row; 0 for the first. Visit is how often the row has jumped.
	Path  uint64
	Visit uint32
	// At is when the row entered the function.
	At time.Time
	// Before is the row as it came to the function.
	Before TappedText
	Became Became
	// After are the rows that go on to the next function, or out of the flow. It is empty if Unchanged is set: then the row goes on as it came.
	After     []TappedText
	Unchanged bool
	// More is how many further rows go on that are not in After.
	More int
	// OfBatch says that the function made its rows of all rows that entered with this one, and nobody knows which comes from which. After has
	// them in one of these rows only.
	OfBatch bool
	// To is the function that the row jumps to.
	To string
	// Outcome is how the row ended, if Became is Ended.
	Outcome batch.RowOutcome
}

// TappedText is the copy of a row as JSON.
type TappedText struct {
	// Data is the row, or its first bytes if it has more than Tap.RowBytes. It is as the row came, so it need not be JSON.
	Data []byte
	// Size is the number of bytes of the whole row.
	Size int
	// Withheld says that there is no copy: to write the row would run code of its type, or the row has an encoding that can't be read here.
	Withheld bool
}

// Watch sets the taps of a flow, in place of those that were set before. Runs that are under way keep theirs, so functions of earlier taps may
// be called until these runs have ended. The list must not change any more.
func (l *Lanes) Watch(taps []*Tap) {
	if len(taps) == 0 {
		l.taps.Store(nil)
		return
	}
	l.taps.Store(&taps)
}

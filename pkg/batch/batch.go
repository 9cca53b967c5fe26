package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Batch is a set of rows that are submitted together. It gets an id at its first submission, and keeps the id once others
// than the program may have seen it. So after an error that leaves open what became of the rows, a program can safely submit
// the same Batch again: by the id the cluster knows that the batch is the same.
//
// A Batch belongs to one goroutine at a time. From Submit or Send until the answer it belongs to the client. Even if a
// program breaks this rule, a lock keeps the fields consistent in which the client notes the state of the submission.
type Batch struct {
	columns Columns
	err     error // why the rows could not be encoded; nil where they could

	// mu guards the fields below. It is held for a few instructions only, and no other lock is taken while it is held.
	mu         sync.Mutex
	id         ID         // zero until the first submission
	revision   Revision   // the revision that the batch first ran on; zero until PinTo notes it
	firstUsed  time.Time  // when it got its id
	submitting bool       // a submission is under way: from Begin until Answered or Ended
	idSeen     bool       // somebody else than the producer may have seen the id
	rows       runState   // how much is known of its rows
	flow       string     // the flow that may have run rows of it; "" means none
	givenUp    bool       // GiveUp was called: no more submissions
	positions  *Positions // where its rows stand in a log; nil means that they are of none
}

// Rows makes a batch with one row for each value, encoded as JSON. The characters '<', '>' and '&' stay as they are, unlike
// in encoding/json. A value that is a string, a []byte or a json.RawMessage is taken as a row that is encoded already. A
// value that can't be encoded makes the batch unusable: Submit and Send return the error.
func Rows[T any](rows ...T) *Batch {
	b := &Batch{columns: Columns{Ends: make([]uint32, 0, len(rows))}}
	var text bytes.Buffer
	var encoder *json.Encoder // nil while no row needed it
	for i := range rows {
		var row []byte
		switch r := any(rows[i]).(type) {
		case string:
			row = []byte(r)
		case []byte:
			row = r
		case json.RawMessage:
			row = r
		default:
			if encoder == nil {
				encoder = json.NewEncoder(&text)
				encoder.SetEscapeHTML(false)
			}
			text.Reset()
			if err := encoder.Encode(rows[i]); err != nil {
				b.err = fmt.Errorf("encode row %d (%T) as JSON: %w", i, rows[i], err)
				return b
			}
			row = text.Bytes()[:text.Len()-1] // without the line's end
		}
		b.columns.Append(row)
	}
	return b
}

// Pack makes a batch of rows that are packed into columns already. The batch keeps the columns: the caller must not change
// them any more.
func Pack(c Columns) *Batch { return &Batch{columns: c} }

// Columns returns the rows of the batch, or the error with which they could not be encoded.
func (b *Batch) Columns() (Columns, error) { return b.columns, b.err }

// Len returns how many rows the batch has.
func (b *Batch) Len() int { return b.columns.Len() }

// ID returns the id of the batch. It is zero while the batch has no id: before the first submission, and after a
// submission that ended before anybody else could have seen the id.
func (b *Batch) ID() ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.id
}

// Revision returns the number of the flow's revision on which the batch first ran. It is 0 until PinTo or Pin notes it,
// as the client does when it learns the revision.
func (b *Batch) Revision() int64 { return b.Pinned().Number }

// Pinned returns the revision on which the batch first ran. It is zero until PinTo or Pin notes it.
func (b *Batch) Pinned() Revision {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.revision
}

// Age returns how long before now the batch got its id. It is 0 while the batch has no id.
func (b *Batch) Age(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.firstUsed.IsZero() {
		return 0
	}
	return max(0, now.Sub(b.firstUsed))
}

// Use gives the batch the id that next returns, unless the batch has an id already. It returns the id that the batch has
// then. now is the current time, from which the batch's age counts. An earlier run of the program may have sent a batch
// under that id, so the rows count as rows that may have run.
func (b *Batch) Use(now time.Time, next func() ID) ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.id.IsZero() {
		b.id, b.firstUsed, b.idSeen, b.rows = next(), now, true, mayHaveRun
	}
	return b.id
}

// Pin does what PinTo does, for callers that know only the revision's number.
func (b *Batch) Pin(revision int64) { b.PinTo(Revision{Number: revision}) }

// PinTo notes r as the revision on which the batch first ran, unless one is noted already. Later submissions run on the
// same revision.
func (b *Batch) PinTo(r Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revision.Number == 0 {
		b.revision = r
	}
}

// Package batch holds what travels: rows packed into columns, the ids of batches, how rows ended, and the codes that say
// why. It is a leaf: it imports nothing else of the project, and everything else may import it.
package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Batch is rows submitted together. It gets its id when it is first sent and keeps it, so that submitting the same Batch
// again is safe after an error that leaves its outcome unknown. A Batch belongs to one goroutine at a time, and to the client
// from Submit or Send until the answer; what the client notes in it is safe all the same when a program gets that wrong.
type Batch struct {
	columns Columns
	err     error

	mu       sync.Mutex // guards what follows; held for a few instructions only, and taken last
	id       ID
	revision Revision
	first    time.Time
	lent     bool   // somebody submits it now: from Begin to Answered or Ended
	known    bool   // the id may have been seen by others than its producer
	ran      ran    // what is known of its rows
	flow     string // the one that may have run rows of it; "" while none may
	givenUp  bool
}

// Rows packs one row per value, encoded as JSON, in which '<', '>' and '&' stay as they are; a value that is a string, a []byte or
// a json.RawMessage is taken for a row that is encoded already. A value that can't be encoded makes the batch unusable: Submit and Send return that error.
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

// Pack makes a batch of columns that are packed already. The batch keeps them: the caller must not change them any more.
func Pack(c Columns) *Batch { return &Batch{columns: c} }

// Columns are the batch's rows, or the error with which they could not be encoded.
func (b *Batch) Columns() (Columns, error) { return b.columns, b.err }

// Len is how many rows the batch has.
func (b *Batch) Len() int { return b.columns.Len() }

// ID is the batch's id, zero while it was never sent.
func (b *Batch) ID() ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.id
}

// Revision is the number of the flow's revision on which the batch first ran; 0 before its first answer.
func (b *Batch) Revision() int64 { return b.Pinned().Number }

// Pinned is the revision on which the batch first ran; zero before its first answer.
func (b *Batch) Pinned() Revision {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.revision
}

// Age is how long before now the batch was first used; 0 before that.
func (b *Batch) Age(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first.IsZero() {
		return 0
	}
	return max(0, now.Sub(b.first))
}

// Use gives the batch an id of the program's own, unless it has one, and returns the id it has from then on. As an earlier run
// of the program may have sent a batch under that id, its rows count as rows that may have run.
func (b *Batch) Use(now time.Time, next func() ID) ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.id.IsZero() {
		b.id, b.first, b.known, b.ran = next(), now, true, mayHave
	}
	return b.id
}

// Pin is PinTo for who knows the revision's number only.
func (b *Batch) Pin(revision int64) { b.PinTo(Revision{Number: revision}) }

// PinTo keeps the revision that the batch first ran on: a resend runs on it again.
func (b *Batch) PinTo(r Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revision.Number == 0 {
		b.revision = r
	}
}

package batch

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// StreamID names a stream, which is a producer's ordered sequence of batches. It has 128 random bits.
type StreamID [16]byte

// NewStreamID draws a new id at random.
func NewStreamID() StreamID {
	var id StreamID
	rand.Read(id[:]) // never fails: see crypto/rand
	return id
}

// StreamIDFrom takes the 16 bytes of an id from a message. Any other length is an error with CodeBadBatchID.
func StreamIDFrom(b []byte) (StreamID, error) {
	var id StreamID
	if len(b) != len(id) {
		return id, Errorf(CodeBadBatchID, "a stream id has %d bytes, not %d: draw 16 random bytes once per producer", len(id), len(b))
	}
	return StreamID(b), nil
}

// String returns the id in hexadecimal digits.
func (id StreamID) String() string { return hex.EncodeToString(id[:]) }

// ID names a batch forever: a batch that is sent again has the id of its first sending.
type ID struct {
	Stream StreamID
	// Sequence counts a stream's batches from 1.
	Sequence uint64
}

// IsZero reports whether the id is missing. The id of a batch has a sequence of at least 1.
func (id ID) IsZero() bool { return id.Sequence == 0 }

// String returns the stream in hexadecimal digits, a dash, and the sequence.
func (id ID) String() string { return fmt.Sprintf("%x-%d", id.Stream[:], id.Sequence) }

// RowID names a row forever, as a function sees it. Functions may use it as the idempotency key of effects outside of
// KisGrid.
type RowID struct {
	Batch ID
	// Row is the place in the batch, from 0, of the input row that this row is or comes from.
	Row uint32
	// Output tells the rows apart that came from that input row; it is 0 for the first. Visit is how often the row came to
	// the function before.
	Output uint64
	Visit  uint32
}

// String returns the batch's id, a dash and the row. Where Output is not 0, a dash and the output in hexadecimal digits
// follow; where Visit is not 0, a dot and the visit.
func (id RowID) String() string {
	text := fmt.Sprintf("%s-%d", id.Batch, id.Row)
	if id.Output != 0 {
		text += fmt.Sprintf("-%x", id.Output)
	}
	if id.Visit != 0 {
		text += fmt.Sprintf(".%d", id.Visit)
	}
	return text
}

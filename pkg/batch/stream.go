package batch

import (
	"crypto/rand"
	"encoding/hex"
)

// StreamID names a producer's ordered sequence of batches: 128 random bits.
type StreamID [16]byte

// NewStreamID draws an id.
func NewStreamID() StreamID {
	var id StreamID
	rand.Read(id[:]) // never fails: see crypto/rand
	return id
}

// StreamIDFrom takes 16 bytes from the wire; anything else is CodeBadBatchID.
func StreamIDFrom(b []byte) (StreamID, error) {
	var id StreamID
	if len(b) != len(id) {
		return id, Errorf(CodeBadBatchID, "a stream id has %d bytes, not %d: draw 16 random bytes once per producer", len(id), len(b))
	}
	return StreamID(b), nil
}

// String is the id in hex.
func (id StreamID) String() string { return hex.EncodeToString(id[:]) }

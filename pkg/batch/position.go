package batch

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
)

// LogID names a log: an ordered sequence of rows outside of the cluster, such as a partition of a topic or a file, which one flow reads.
// A log that is read anew on purpose has another id.
type LogID [16]byte

// LogIDOf makes the id of the log that parts describe, such as a broker's cluster, a topic, its id, a partition, a group of readers, a
// flow, and the generation of the reading. It is a hash: the same parts always give the same id.
func LogIDOf(parts ...string) LogID {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return LogID(h.Sum(nil)[:16])
}

// LogIDFrom takes the 16 bytes of an id from a message. Any other length is an error with CodeBadPositions.
func LogIDFrom(b []byte) (LogID, error) {
	if len(b) != len(LogID{}) {
		return LogID{}, Errorf(CodeBadPositions, "the id of a log has %d bytes, not %d: make it with LogIDOf", len(LogID{}), len(b))
	}
	return LogID(b), nil
}

// ParseLogID reads the text that String writes. The error has CodeBadPositions.
func ParseLogID(text string) (LogID, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return LogID{}, Errorf(CodeBadPositions, "%q is not the id of a log: ids have %d hexadecimal digits", text, hex.EncodedLen(len(LogID{})))
	}
	return LogIDFrom(raw)
}

// String returns the id in hexadecimal digits.
func (id LogID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id is missing.
func (id LogID) IsZero() bool { return id == LogID{} }

// Positions say where the rows of a batch stand in a log. The effects of such a row take place once for its position, however the log
// is cut into batches, and whoever reads it.
type Positions struct {
	Log LogID
	// Term counts the readers of the log: each one begins a term before its first batch. Stores refuse batches of a term once they
	// have seen a later one.
	Term uint64
	// Floor is the lowest position that is not settled. Rows below it are never sent again, unless by mistake: a store drops what it
	// remembers of them, and lets nothing of them take effect any more.
	Floor uint64
	// Rows has the position of each row, in ascending order. The largest number there is can't be a position.
	Rows []uint64
}

// Check returns an error with CodeBadPositions if the positions don't fit a batch with so many rows.
func (p *Positions) Check(rows int) error {
	switch {
	case p.Log.IsZero():
		return Errorf(CodeBadPositions, "positions without the id of a log: make it with LogIDOf")
	case p.Term == 0:
		return Errorf(CodeBadPositions, "positions in log %s without a term: begin one before the first batch", p.Log)
	case len(p.Rows) != rows:
		return Errorf(CodeBadPositions, "%d positions for %d rows: each row needs its own", len(p.Rows), rows)
	}
	for i, at := range p.Rows {
		if at == math.MaxUint64 {
			return Errorf(CodeBadPositions, "row %d: %d can't be a position: it is the largest number there is", i, at)
		}
		if i > 0 && at <= p.Rows[i-1] {
			return Errorf(CodeBadPositions, "row %d has position %d and the row before it %d: positions ascend within a batch", i, at, p.Rows[i-1])
		}
	}
	return nil
}

// RowID returns the id of the row at a position: that of a batch which has the log's id for its stream, and only this row. It is the same
// in whatever batch the row comes.
func (id LogID) RowID(position uint64) RowID {
	return RowID{Batch: ID{Stream: StreamID(id), Sequence: position + 1}}
}

// SetPositions says where the rows of the batch stand in a log. It must be called before the first submission. The batch keeps p.Rows:
// the caller must not change it any more. The error has CodeBadPositions.
func (b *Batch) SetPositions(p Positions) error {
	if b.err == nil {
		if err := p.Check(b.Len()); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.id.IsZero() {
		return Errorf(CodeBadPositions, "batch %s was submitted already: set positions before the first submission", b.id)
	}
	b.positions = &p
	return nil
}

// Positions returns where the rows of the batch stand in a log; nil means that they are of none. The caller must not change them.
func (b *Batch) Positions() *Positions {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.positions
}

package batch

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Encodings of rows.
const (
	// JSON is that of rows that name none.
	JSON = "json"
	// Protobuf rows are messages of the generated type that the flow's functions read.
	Protobuf = "protobuf"
	// MessagePack rows mean what the same rows in JSON mean: maps with the names of fields, binary data in place of base64,
	// timestamps in place of RFC 3339.
	MessagePack = "msgpack"
)

// maxEncoding bounds, in bytes, the name of an encoding: it travels with each part, and no credit counts it.
const maxEncoding = 64

// Columns are rows packed one behind the other. The zero value has no rows.
type Columns struct {
	// Data holds the rows' bytes without separators.
	Data []byte
	// Ends says where each row ends in Data; a row starts where the one before it ends.
	Ends []uint32
	// Keys holds the hash of each row's shard key, or is empty.
	Keys []uint64
	// Encoding is what the rows are encoded in; "" means JSON. A flow with a shard_key needs Keys with any other: the client
	// hashes the fields' values with KeyField.HashValue. Output is JSON, unless the rows came as protobuf and the last function
	// passes messages on.
	Encoding string
}

// Limits are what a batch may measure. Zero fields mean the defaults.
type Limits struct {
	// RowBytes bounds one row. Default 1 MiB.
	RowBytes int
	// BatchBytes bounds the rows of a batch together. Default 8 MiB.
	BatchBytes int
	// BatchRows bounds how many rows a batch has. Default 65,536.
	BatchRows int
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	if l.RowBytes <= 0 {
		l.RowBytes = 1 << 20
	}
	if l.BatchBytes <= 0 {
		l.BatchBytes = 8 << 20
	}
	if l.BatchRows <= 0 {
		l.BatchRows = 65536
	}
	return l
}

// Len is how many rows there are.
func (c *Columns) Len() int { return len(c.Ends) }

// Start is where row i starts in Data.
func (c *Columns) Start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return c.Ends[i-1]
}

// Row is row i's bytes, within Data: they must not be changed, and live as long as Data.
func (c *Columns) Row(i int) []byte {
	end := c.Ends[i]
	return c.Data[c.Start(i):end:end]
}

// Append adds a row, copying its bytes. Keys are the caller's to add.
func (c *Columns) Append(row []byte) {
	c.Data = append(c.Data, row...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

// Select copies the rows named, with their keys where there are keys.
func (c *Columns) Select(rows []uint32) Columns {
	size := 0
	for _, r := range rows {
		size += int(c.Ends[r] - c.Start(int(r)))
	}
	out := Columns{Data: make([]byte, 0, size), Ends: make([]uint32, 0, len(rows)), Encoding: c.Encoding}
	for _, r := range rows {
		out.Append(c.Row(int(r)))
	}
	if len(c.Keys) != 0 {
		out.Keys = make([]uint64, len(rows))
		for i, r := range rows {
			out.Keys[i] = c.Keys[r]
		}
	}
	return out
}

// Check says what is wrong with columns that came from outside: CodeEmptyBatch, CodeBadColumns, CodeTooManyRows or
// CodeBatchTooLarge. A row over its limit is that row's own fault and is not looked for here.
func (c *Columns) Check(l Limits) error {
	l = l.WithDefaults()
	n := len(c.Ends)
	switch {
	case n == 0:
		return Errorf(CodeEmptyBatch, "the batch has no rows: send at least one")
	case n > l.BatchRows:
		return Errorf(CodeTooManyRows, "the batch has %d rows, over the limit of %d rows: split it", n, l.BatchRows)
	case len(c.Data) > l.BatchBytes || len(c.Data) > math.MaxUint32:
		return Errorf(CodeBatchTooLarge, "the batch has %d bytes, over the limit of %d bytes: split it", len(c.Data), l.BatchBytes)
	case len(c.Encoding) > maxEncoding:
		return Errorf(CodeBadColumns, "the name of the batch's encoding has %d bytes, over the limit of %d bytes", len(c.Encoding), maxEncoding)
	case !utf8.ValidString(c.Encoding):
		return Errorf(CodeBadColumns, "the name of the batch's encoding, %q, is no UTF-8: name an encoding, such as %q", c.Encoding, JSON)
	case len(c.Keys) != 0 && len(c.Keys) != n:
		return Errorf(CodeBadColumns, "the batch has %d keys for %d rows: send one key for each row, or none", len(c.Keys), n)
	}
	last := uint32(0)
	for i, end := range c.Ends {
		if end < last {
			return Errorf(CodeBadColumns, "row %d ends at byte %d, before its start at %d", i, end, last)
		}
		last = end
	}
	if int(last) != len(c.Data) {
		return Errorf(CodeBadColumns, "the rows end at byte %d of %d bytes of data", last, len(c.Data))
	}
	return nil
}

// ID names a batch for ever: a batch sent again carries the id of its first sending.
type ID struct {
	Stream StreamID
	// Sequence counts a stream's batches from 1.
	Sequence uint64
}

// IsZero reports whether the id was never given.
func (id ID) IsZero() bool { return id.Sequence == 0 }

// String is the stream in hex, a dash, and the sequence.
func (id ID) String() string { return fmt.Sprintf("%x-%d", id.Stream[:], id.Sequence) }

// RowID names a row for ever, as a function sees it; outside effects may use it as idempotency key.
type RowID struct {
	Batch ID
	// Row is the place in the batch, from 0, of the input row behind it.
	Row uint32
	// Output tells apart what came of that row: 0 for the first. Visit is how often it has come to the function before.
	Output uint64
	Visit  uint32
}

// String is the batch's id, a dash, and the row; then a dash and the output, and a dot and the visit, where these are not 0.
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

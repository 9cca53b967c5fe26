package batch

import (
	"math"
	"unicode/utf8"
)

// Encodings of rows.
const (
	JSON     = "json"     // JSON is the encoding of rows that name none.
	Protobuf = "protobuf" // Protobuf rows are messages of the generated type that the flow's functions read.
	// MessagePack rows mean the same as rows in JSON: maps with the names of fields. Binary data stands for base64, and
	// timestamps for RFC 3339.
	MessagePack = "msgpack"
)

// maxEncoding bounds the name of an encoding, in bytes. The name goes along with each part, and no credit counts it.
const maxEncoding = 64

// Columns are rows packed one behind the other. The zero value has no rows.
type Columns struct {
	// Data has the bytes of all rows, without separators.
	Data []byte
	// Ends has the offset in Data at which each row ends. A row starts where the one before it ends.
	Ends []uint32
	// Keys has the hash of each row's shard key, or is empty.
	Keys []uint64
	// Encoding names the encoding of the rows; "" means JSON. With any other encoding a flow that has a shard_key needs
	// Keys: the client hashes the values of the field with KeyField.HashValue. The output is JSON, unless the rows came as
	// protobuf and the last function passes messages on.
	Encoding string
	// Positions has the position of each row in a log, or is empty. Batch.SetPositions sets it: a program leaves it empty.
	Positions []uint64
}

// Len returns how many rows there are.
func (c *Columns) Len() int { return len(c.Ends) }

// Start returns the offset in Data at which row i starts.
func (c *Columns) Start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return c.Ends[i-1]
}

// Row returns the bytes of row i, which are a part of Data: they must not be changed.
func (c *Columns) Row(i int) []byte {
	end := c.Ends[i]
	return c.Data[c.Start(i):end:end]
}

// Append adds a row and copies its bytes. It adds no key: the caller appends the hash to Keys where the rows have keys.
func (c *Columns) Append(row []byte) {
	c.Data = append(c.Data, row...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

// Select returns a copy of the rows with these numbers, in the order of the list, with their keys where there are keys.
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
	if len(c.Positions) != 0 {
		out.Positions = make([]uint64, len(rows))
		for i, r := range rows {
			out.Positions[i] = c.Positions[r]
		}
	}
	return out
}

// Check returns an error if the columns, which came from outside, break a rule or a limit; its code is CodeEmptyBatch,
// CodeBadColumns, CodeTooManyRows or CodeBatchTooLarge. It does not look for single rows over their limit, because then
// the row alone is at fault, not the batch.
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

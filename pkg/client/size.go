package client

import "github.com/kisgrid/kisgrid/pkg/batch"

// size measures batches in the two units in which a coordinator grants credit: rows, and bytes of their data. The ends and keys that
// are sent beside the rows are not counted.
type size struct{ rows, bytes int64 }

func sizeOf(c *batch.Columns) size { return size{int64(c.Len()), int64(len(c.Data))} }
func (s size) plus(o size) size    { return size{s.rows + o.rows, s.bytes + o.bytes} }
func (s size) minus(o size) size   { return size{s.rows - o.rows, s.bytes - o.bytes} }

// positive reports whether both the rows and the bytes are above zero.
func (s size) positive() bool { return s.rows > 0 && s.bytes > 0 }

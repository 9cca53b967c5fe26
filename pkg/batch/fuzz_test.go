package batch

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzColumns: of columns that Check accepts every row can be had and selected, together they are the data, and packed
// again they are the same.
func FuzzColumns(f *testing.F) {
	numbers := func(n ...uint32) (b []byte) {
		for _, v := range n {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	f.Add([]byte("abcde"), numbers(3, 3, 5), uint8(3), numbers(2, 0, 2))
	f.Add([]byte("ab"), numbers(2, 1), uint8(0), numbers(0))
	f.Add([]byte(""), numbers(0, 0), uint8(0), numbers(1))
	f.Add([]byte("a"), numbers(1<<32-1), uint8(1), numbers(1))
	f.Add([]byte("a"), numbers(), uint8(1), numbers())
	f.Fuzz(func(t *testing.T, data, ends []byte, keys uint8, selected []byte) {
		c := Columns{Data: data, Encoding: "x"}
		for ; len(ends) >= 4; ends = ends[4:] {
			c.Ends = append(c.Ends, binary.LittleEndian.Uint32(ends))
		}
		for k := range keys {
			c.Keys = append(c.Keys, uint64(k)*3)
		}
		limits := Limits{RowBytes: 64, BatchBytes: 256, BatchRows: 32}
		if err := c.Check(limits); err != nil {
			return
		}
		if c.Len() == 0 || c.Len() > limits.BatchRows || len(data) > limits.BatchBytes || len(c.Keys) != 0 && len(c.Keys) != c.Len() {
			t.Fatalf("Check accepts %d rows, %d bytes, %d keys", c.Len(), len(data), len(c.Keys))
		}
		again := Columns{Encoding: c.Encoding, Keys: c.Keys}
		for i := range c.Len() {
			again.Append(c.Row(i))
		}
		if !bytes.Equal(again.Data, data) || again.Len() != c.Len() {
			t.Fatalf("packed again %q %v are %q %v", data, c.Ends, again.Data, again.Ends)
		}
		var rows []uint32
		for ; len(selected) >= 4; selected = selected[4:] {
			rows = append(rows, binary.LittleEndian.Uint32(selected)%uint32(c.Len()))
		}
		part := c.Select(rows)
		if part.Len() != len(rows) || part.Encoding != c.Encoding {
			t.Fatalf("%d rows selected are %d, encoded as %q", len(rows), part.Len(), part.Encoding)
		}
		for i, r := range rows {
			if !bytes.Equal(part.Row(i), c.Row(int(r))) || len(c.Keys) > 0 && part.Keys[i] != c.Keys[r] {
				t.Fatalf("row %d selected is %q, not %q, or has another key", r, part.Row(i), c.Row(int(r)))
			}
		}
		if len(rows) > 0 {
			if err := part.Check(Limits{BatchBytes: 1 << 20, BatchRows: 1 << 16}); err != nil {
				t.Fatalf("what is selected of good columns is refused: %v", err)
			}
		}
	})
}

package batch

import (
	"slices"
	"sync"
)

// Merge puts outputs of one batch together in the batch's order: by origin, where rows of one origin keep the order of the
// pieces and of their rows. Rows are copied, once; a piece that is alone and in order is returned as it is. The encoding is
// that of the first piece. Together the pieces must be below 4 GiB.
func Merge(pieces []Output) Output {
	pieces = slices.DeleteFunc(slices.Clone(pieces), func(o Output) bool { return o.Rows.Len() == 0 })
	switch {
	case len(pieces) == 0:
		return Output{}
	case len(pieces) == 1 && slices.IsSorted(pieces[0].Origins):
		return pieces[0]
	}
	// The rows' places follow from how many rows, and bytes, the origins before theirs have.
	m := mergers.Get().(*merger)
	defer mergers.Put(m)
	out := m.begin(pieces)
	for i := range pieces {
		m.count(&pieces[i])
	}
	m.sum()
	for i := range pieces {
		m.place(&pieces[i], &out)
	}
	return out
}

// Join puts outputs of one batch one behind the other, for somebody else to Merge. Rows are copied, once; a piece that is alone is
// returned as it is. The pieces share an encoding, and have no keys; together they must be below 4 GiB.
func Join(pieces []Output) Output {
	bytes, rows, filled := 0, 0, 0
	var last *Output
	for i := range pieces {
		if o := &pieces[i]; o.Rows.Len() > 0 {
			bytes, rows, filled, last = bytes+len(o.Rows.Data), rows+o.Rows.Len(), filled+1, o
		}
	}
	switch filled {
	case 0:
		return Output{}
	case 1:
		return *last
	}
	out := Output{
		Rows:    Columns{Data: make([]byte, 0, bytes), Ends: make([]uint32, 0, rows), Encoding: last.Rows.Encoding},
		Origins: make([]uint32, 0, rows),
	}
	for i := range pieces {
		o := &pieces[i]
		before := uint32(len(out.Rows.Data))
		out.Rows.Data = append(out.Rows.Data, o.Rows.Data...)
		for _, end := range o.Rows.Ends {
			out.Rows.Ends = append(out.Rows.Ends, before+end)
		}
		out.Origins = append(out.Origins, o.Origins...)
	}
	return out
}

// mergers keeps those that were used, for their places.
var mergers = sync.Pool{New: func() any { return new(merger) }}

// merger finds each row its place among all others.
type merger struct {
	first uint32 // the lowest origin
	// places has one element for each origin from first, and behind them one for WholeBatch.
	places []place
}

// place is where the next row of an origin goes, and its bytes; before sum, how many the origin has.
type place struct{ row, byte uint32 }

// begin makes places for all origins, and an output for all rows.
func (m *merger) begin(pieces []Output) Output {
	bytes, rows, keyed := 0, 0, true
	first, last := WholeBatch, uint32(0)
	for i := range pieces {
		o := &pieces[i]
		bytes, rows, keyed = bytes+len(o.Rows.Data), rows+o.Rows.Len(), keyed && len(o.Rows.Keys) > 0
		for _, origin := range o.Origins {
			first = min(first, origin)
			if origin != WholeBatch {
				last = max(last, origin)
			}
		}
	}
	m.first = min(first, last)
	n := int(last-m.first) + 2
	m.places = slices.Grow(m.places[:0], n)[:n]
	clear(m.places)
	out := Output{
		Rows:    Columns{Data: make([]byte, bytes), Ends: make([]uint32, rows), Encoding: pieces[0].Rows.Encoding},
		Origins: make([]uint32, rows),
	}
	if keyed {
		out.Rows.Keys = make([]uint64, rows)
	}
	return out
}

func (m *merger) at(origin uint32) *place {
	return &m.places[min(int(origin-m.first), len(m.places)-1)]
}

func (m *merger) count(o *Output) {
	start := uint32(0)
	for i, end := range o.Rows.Ends {
		p := m.at(o.Origins[i])
		p.row++
		p.byte += end - start
		start = end
	}
}

func (m *merger) sum() {
	var next place
	for i, n := range m.places {
		m.places[i] = next
		next.row += n.row
		next.byte += n.byte
	}
}

func (m *merger) place(o, out *Output) {
	start := uint32(0)
	for i, end := range o.Rows.Ends {
		p := m.at(o.Origins[i])
		row, at := p.row, p.byte
		p.row++
		p.byte += end - start
		copy(out.Rows.Data[at:p.byte], o.Rows.Data[start:end])
		out.Rows.Ends[row], out.Origins[row] = p.byte, o.Origins[i]
		if out.Rows.Keys != nil {
			out.Rows.Keys[row] = o.Rows.Keys[i]
		}
		start = end
	}
}

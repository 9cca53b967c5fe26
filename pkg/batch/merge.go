package batch

import (
	"slices"
	"sync"
)

// Merge puts outputs of one batch together, in the order of the batch's input rows. Output rows of one input row keep the
// order of the pieces and of the rows in them; rows of the whole batch come last. Rows are copied once; a single piece
// that is in order already is returned as it is. The encoding is that of the first piece that has rows. All pieces
// together must be smaller than 4 GiB.
func Merge(pieces []Output) Output {
	pieces = slices.DeleteFunc(slices.Clone(pieces), func(o Output) bool { return o.Rows.Len() == 0 })
	switch {
	case len(pieces) == 0:
		return Output{}
	case len(pieces) == 1 && slices.IsSorted(pieces[0].Origins):
		return pieces[0]
	}
	// The rows' places follow from how many rows, and bytes, the origins before theirs have.
	index := mergeIndexes.Get().(*mergeIndex)
	defer mergeIndexes.Put(index)
	out := index.begin(pieces)
	for i := range pieces {
		index.countRows(&pieces[i])
	}
	index.placeAll()
	for i := range pieces {
		index.copyRows(&pieces[i], &out)
	}
	return out
}

// Join appends outputs of one batch to each other, without sorting, for a later Merge. Rows are copied once; a single
// piece with rows is returned as it is. The pieces must have the same encoding and no keys. All together must be smaller
// than 4 GiB.
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

// mergeIndexes is a pool of mergeIndex values, so that their memory is used again.
var mergeIndexes = sync.Pool{New: func() any { return new(mergeIndex) }}

// mergeIndex computes the place of each row in the output of Merge. Its methods are called in this order: begin,
// countRows for each piece, placeAll, and copyRows for each piece.
type mergeIndex struct {
	firstOrigin uint32 // the lowest origin
	// places has one element for each origin from firstOrigin on. The last element is for WholeBatch.
	places []nextPlace
}

// nextPlace is the place in the merged output of the next row of one origin: its row number, and the offset of its first
// byte. Before placeAll it is the number of rows and bytes that the origin has.
type nextPlace struct{ row, byte uint32 }

// begin makes a zero place for each origin in the pieces, and an output with room for all rows. The output has keys if
// each piece has keys.
func (index *mergeIndex) begin(pieces []Output) Output {
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
	index.firstOrigin = min(first, last)
	n := int(last-index.firstOrigin) + 2
	index.places = slices.Grow(index.places[:0], n)[:n]
	clear(index.places)
	out := Output{
		Rows:    Columns{Data: make([]byte, bytes), Ends: make([]uint32, rows), Encoding: pieces[0].Rows.Encoding},
		Origins: make([]uint32, rows),
	}
	if keyed {
		out.Rows.Keys = make([]uint64, rows)
	}
	return out
}

// placeOf returns the element of places for an origin; WholeBatch has the last one.
func (index *mergeIndex) placeOf(origin uint32) *nextPlace {
	return &index.places[min(int(origin-index.firstOrigin), len(index.places)-1)]
}

// countRows counts the rows and bytes of a piece, by the origins of its rows.
func (index *mergeIndex) countRows(o *Output) {
	start := uint32(0)
	for i, end := range o.Rows.Ends {
		p := index.placeOf(o.Origins[i])
		p.row++
		p.byte += end - start
		start = end
	}
}

// placeAll turns the counts into places: the rows of an origin go behind those of all origins before it.
func (index *mergeIndex) placeAll() {
	var next nextPlace
	for i, n := range index.places {
		index.places[i] = next
		next.row += n.row
		next.byte += n.byte
	}
}

// copyRows copies the rows of a piece to their places in the merged output.
func (index *mergeIndex) copyRows(o, out *Output) {
	start := uint32(0)
	for i, end := range o.Rows.Ends {
		p := index.placeOf(o.Origins[i])
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

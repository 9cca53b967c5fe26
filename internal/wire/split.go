package wire

import (
	"iter"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// SplitBytes is a good size for the Split functions, in bytes: far below every limit for messages, and so large that it
// costs nothing.
const SplitBytes = 1 << 20

// SplitRowOutcomes yields the outcomes in slices that take about the given number of bytes on the wire. So a batch of
// which every row has a long reason still fits into messages. It yields nothing if there are no outcomes.
func SplitRowOutcomes(in []batch.RowOutcome, bytes int) iter.Seq[[]batch.RowOutcome] {
	const fields = 24 + 18 // tags, numbers and lengths of one outcome, and the id of a letter
	return func(yield func([]batch.RowOutcome) bool) {
		first, size := 0, 0
		for i := range in {
			n := fields + min(len(in[i].Function), maxReason) + min(len(in[i].Reason), maxReason)
			if size+n > bytes && i > first {
				if !yield(in[first:i]) {
					return
				}
				first, size = i, 0
			}
			size += n
		}
		if first < len(in) {
			yield(in[first:])
		}
	}
}

// SplitOutput yields the output in pieces of about the given number of bytes, which share the memory of o. A row that is
// longer is a piece of its own. It yields nothing if there are no rows.
func SplitOutput(o batch.Output, bytes int) iter.Seq[batch.Output] {
	const column = 8 // an end and an origin
	return func(yield func(batch.Output) bool) {
		n := o.Rows.Len()
		if n > 0 && len(o.Rows.Data)+column*n <= bytes {
			yield(o)
			return
		}
		first, size := 0, 0
		for i := range n {
			row := int(o.Rows.Ends[i]-o.Rows.Start(i)) + column
			if size+row > bytes && i > first {
				if !yield(outputRows(o, first, i)) {
					return
				}
				first, size = i, 0
			}
			size += row
		}
		if first < n {
			yield(outputRows(o, first, n))
		}
	}
}

// outputRows returns the output rows from first up to, but without, end. Its ends count from the first byte of the piece.
func outputRows(o batch.Output, first, end int) batch.Output {
	start := o.Rows.Start(first)
	rows := batch.Columns{Data: o.Rows.Data[start:o.Rows.Ends[end-1]], Ends: make([]uint32, end-first), Encoding: o.Rows.Encoding}
	for i := range rows.Ends {
		rows.Ends[i] = o.Rows.Ends[first+i] - start
	}
	if len(o.Rows.Keys) != 0 {
		rows.Keys = o.Rows.Keys[first:end]
	}
	return batch.Output{Rows: rows, Origins: o.Origins[first:end]}
}

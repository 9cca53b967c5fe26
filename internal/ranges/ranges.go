// Package ranges packs ascending numbers, such as rows or slots, into ranges: consecutive numbers take a few bytes together.
package ranges

import "github.com/kisgrid/kisgrid/pkg/batch"

// Append adds a number to a list of ranges, whose slice it may change, and returns the list. The number must be greater than
// every number in the ranges.
func Append(packed []batch.Range, n uint32) []batch.Range {
	if last := len(packed) - 1; last >= 0 && packed[last].First+packed[last].Count == n {
		packed[last].Count++
		return packed
	}
	return append(packed, batch.Range{First: n, Count: 1})
}

// Of packs ascending numbers into ranges. It returns nil if there are no numbers.
func Of[N ~uint16 | ~uint32](ascending []N) []batch.Range {
	var packed []batch.Range
	for _, n := range ascending {
		packed = Append(packed, uint32(n))
	}
	return packed
}

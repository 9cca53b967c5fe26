package rows

import (
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// One row has up to four numbers at the same time. Each counts from 0 within another list of rows, so each has a type of its own, and the
// compiler refuses to mix them up. The place of a row within a Set, which changes with every step, stays a plain int or uint32.
type (
	// BatchRow is the place of a row in the batch that the client submitted.
	BatchRow uint32
	// PartRow is the place of a row in its part: those rows of the batch that one worker got.
	PartRow uint32
	// RunRow is the place of a row in its run: those rows of the part that go through the flow together in one lane. WholeBatch stands for
	// no single row: the row was made of the whole batch.
	RunRow uint32
	// ParcelRow is the place of a row in its parcel: those rows of a run that parked in it.
	ParcelRow uint32
)

// WholeBatch is the RunRow of a row that was made of the whole batch, not of one of its rows.
const WholeBatch RunRow = RunRow(batch.WholeBatch)

// As is the same list, in the same memory, with its numbers counted as another type: for the places where a list crosses into an interface
// that has plain numbers.
func As[To, From ~uint32](list []From) []To {
	if list == nil {
		return nil
	}
	return unsafe.Slice((*To)(unsafe.Pointer(unsafe.SliceData(list))), cap(list))[:len(list)]
}

// Range lists the numbers from lo to hi-1.
func Range[N ~uint32](lo, hi int) []N {
	list := make([]N, hi-lo)
	for i := range list {
		list[i] = N(lo + i)
	}
	return list
}

// Pick is the elements of a list at the given places, in new memory. Nil stays nil.
func Pick[T any, N ~uint32](list []T, places []N) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(places))
	for i, p := range places {
		out[i] = list[p]
	}
	return out
}

// At is element i of a list that is nil where all elements are 0.
func At[T uint32 | uint64](list []T, i int) T {
	if list == nil {
		return 0
	}
	return list[i]
}

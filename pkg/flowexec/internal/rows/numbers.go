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
	// RunRow is the place of a row in its run: those rows of the part that go through the flow together in one lane. The value WholeBatch is
	// no place: it stands for the whole batch.
	RunRow uint32
	// ParcelRow is the place of a row in its parcel: the memory of the rows of a run that parked together.
	ParcelRow uint32
)

// WholeBatch stands for the origin of a row that was made of the whole batch, and not of one of its rows.
const WholeBatch RunRow = RunRow(batch.WholeBatch)

// As returns the same list, in the same memory, with numbers of another of these types. It serves where a list goes to or comes from an
// interface with plain numbers.
func As[To, From ~uint32](list []From) []To {
	if list == nil {
		return nil
	}
	return unsafe.Slice((*To)(unsafe.Pointer(unsafe.SliceData(list))), cap(list))[:len(list)]
}

// Range returns the numbers from lo to hi-1 as a new list.
func Range[N ~uint32](lo, hi int) []N {
	list := make([]N, hi-lo)
	for i := range list {
		list[i] = N(lo + i)
	}
	return list
}

// Pick returns the elements of list at the given places, in newly allocated memory. For a nil list it returns nil.
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

// At returns element i of a list. A nil list stands for one whose elements are all 0.
func At[T uint32 | uint64](list []T, i int) T {
	if list == nil {
		return 0
	}
	return list[i]
}

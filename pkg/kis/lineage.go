package kis

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// traceNamed adds the origins that the function named with Call.Origins to Parents. passed is the number of rows that the
// function returned, given the number of rows that it got. It is an error if the function did not name exactly one origin for
// each row, or named one that is not among the rows given.
func (f *Frame) traceNamed(passed, given int) error {
	if len(f.named) != passed {
		return fmt.Errorf("Origins named the origins of %d rows, but %d were returned: name one for each", len(f.named), passed)
	}
	for i, g := range f.named {
		if g < 0 || g >= given {
			return fmt.Errorf("Origins named row %d as the origin of row %d: %d rows were given", g, i, given)
		}
		f.Parents = append(f.Parents, uint32(g))
	}
	return nil
}

// trace finds out which row given each row passed on comes from, and sets Parents. If one row was given, all come from it. If
// all rows passed on are pointers that were given, it goes by the pointers; otherwise, if they are as many as were given, by
// their places. In any other case it sets Lost.
func (f *Frame) trace(passed, given rowList) {
	f.Parents = f.Parents[:0]
	switch n := passed.len(); {
	case n == 0:
	case given.len() == 1:
		for range n {
			f.Parents = append(f.Parents, 0)
		}
	case f.traceInPlace(passed, given) || f.tracePointers(passed, given):
	case n == given.len():
		f.traceInOrder(n)
	default:
		f.Lost = true
	}
}

// rowList is a list of rows of any one type, so that trace can compare lists of different types.
type rowList interface {
	len() int
	at(i int) any
}

// listOf is a slice that implements rowList.
type listOf[T any] []T

func (l listOf[T]) len() int     { return len(l) }
func (l listOf[T]) at(i int) any { return l[i] }

// vectorList makes a Vector a rowList.
type vectorList struct{ Vector }

func (l vectorList) len() int     { return l.Len() }
func (l vectorList) at(i int) any { return l.At(i) }

// samePointers reports whether the rows a and b are both pointers, and of the same type. They need not be equal.
func samePointers(a, b any) bool {
	t := reflect.TypeOf(a)
	return t != nil && t.Kind() == reflect.Pointer && t == reflect.TypeOf(b)
}

// traceSame tests the most frequent case in a quick way: it reports whether each row passed on is the pointer that was given at
// the same place, and sets Parents if so.
func (f *Frame) traceSame(passed []any, given Vector) bool {
	row := given.Type()
	if row.Kind() != reflect.Pointer || len(passed) != given.Len() {
		return false
	}
	pointers := unsafe.Slice((*unsafe.Pointer)(given.Pointer()), given.Len())
	for i, p := range passed {
		if reflect.TypeOf(p) != row || reflect.ValueOf(p).UnsafePointer() != pointers[i] {
			return false
		}
	}
	f.traceInOrder(len(passed))
	return true
}

// traceInOrder sets Parents so that each row passed on comes from the row given at the same place.
func (f *Frame) traceInOrder(n int) {
	f.Parents = slices.Grow(f.Parents[:0], n)[:n]
	for i := range f.Parents {
		f.Parents[i] = uint32(i)
	}
}

// traceInPlace does the same as traceSame, more slowly, for lists of any types: it reports whether each row passed on is the
// pointer that was given at the same place, and sets Parents if so.
func (f *Frame) traceInPlace(passed, given rowList) bool {
	if passed.len() != given.len() {
		return false
	}
	for i := range passed.len() {
		row, from := passed.at(i), given.at(i)
		if !samePointers(row, from) || row != from {
			f.Parents = f.Parents[:0]
			return false
		}
		f.Parents = append(f.Parents, uint32(i))
	}
	return true
}

// tracePointers looks each row passed on up among the rows given, and sets Parents. It reports whether all are pointers that
// were given; if not, Parents is empty. It compares pointers only, since other rows may be of types that can't be compared.
func (f *Frame) tracePointers(passed, given rowList) bool {
	if given.len() == 0 || !samePointers(passed.at(0), given.at(0)) {
		return false
	}
	places := make(map[any]uint32, given.len())
	for i := range given.len() {
		if row := given.at(i); isPointer(row) {
			places[row] = uint32(i)
		}
	}
	for i := range passed.len() {
		row := passed.at(i)
		place, ok := uint32(0), false
		if isPointer(row) {
			place, ok = places[row]
		}
		if !ok {
			f.Parents = f.Parents[:0]
			return false
		}
		f.Parents = append(f.Parents, place)
	}
	return true
}

// isPointer reports whether a row is a pointer.
func isPointer(row any) bool {
	t := reflect.TypeOf(row)
	return t != nil && t.Kind() == reflect.Pointer
}

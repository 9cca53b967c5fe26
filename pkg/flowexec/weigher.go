package flowexec

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// weigher estimates how many bytes of memory rows of one type take. It looks at a few rows only, so that it costs little while functions
// make rows. It does not change once it is made.
type weigher struct {
	row reflect.Type
	// size is the size of the row itself, without the memory that it points to.
	size int64
	// lengths are the strings and slices in the row.
	lengths []length
	// fixed says that all rows take size bytes.
	fixed bool
	// deep says that rows point to memory that lengths does not cover. Then the function weightOf weighs them, with reflection.
	deep bool
}

// length says where a row has a string or a slice: offset is its offset in the row, and each is the size of one of its elements, in
// bytes.
type length struct {
	offset uintptr
	each   int64
}

// weighed is about how many rows, and how many elements of a list, a weigher looks at. There may be a few more rows.
const weighed = 3

// newWeigher makes a weigher for a row type.
func newWeigher(row reflect.Type) *weigher {
	w := &weigher{row: row, size: int64(row.Size())}
	w.add(row, 0)
	w.fixed = !w.deep && len(w.lengths) == 0
	return w
}

// add notes what the weigher has to look at for a field of the row, or for the row itself. t is the field's type, and offset its offset
// in the row.
func (w *weigher) add(t reflect.Type, offset uintptr) {
	switch t.Kind() {
	case reflect.String:
		w.lengths = append(w.lengths, length{offset, 1})
	case reflect.Slice:
		w.deep = w.deep || !isFixed(t.Elem())
		w.lengths = append(w.lengths, length{offset, int64(t.Elem().Size())})
	case reflect.Struct:
		for i := range t.NumField() {
			w.add(t.Field(i).Type, offset+t.Field(i).Offset)
		}
	case reflect.Array:
		w.deep = w.deep || !isFixed(t.Elem())
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		w.deep = true
	}
}

// isFixed reports whether all values of a type take the same number of bytes, which means that they point to no other memory.
func isFixed(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Pointer, reflect.Interface, reflect.Map, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return false
	case reflect.Array:
		return isFixed(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFixed(t.Field(i).Type) {
				return false
			}
		}
	}
	return true
}

// weigh returns about how many bytes the rows at the places from to to-1 take together. It looks at a few of them, evenly spaced.
func (w *weigher) weigh(rows kis.Vector, from, to int) int64 {
	n := to - from
	if n <= 0 {
		return 0
	}
	base, step, sum, looked := rows.Pointer(), max(1, n/weighed), int64(0), int64(0)
	for i := from; i < to; i += step {
		sum += w.weight(unsafe.Add(base, uintptr(i)*w.row.Size()))
		looked++
	}
	return sum * int64(n) / looked
}

// weight returns about how many bytes the row at p takes, with the memory that it points to.
func (w *weigher) weight(p unsafe.Pointer) int64 {
	if w.deep {
		return weightOf(reflect.NewAt(w.row, p).Elem(), 4)
	}
	bytes := w.size
	for _, l := range w.lengths {
		bytes += l.each * int64(len(*(*string)(unsafe.Add(p, l.offset)))) // a slice begins like a string: with a pointer and a length
	}
	return bytes
}

// weightOf returns about how many bytes a value takes, with the memory that it points to. It follows at most depth pointers, slices or
// nested fields, one in the other. It looks at a few elements of a list, and at no elements of a map.
func weightOf(v reflect.Value, depth int) int64 {
	bytes := int64(v.Type().Size())
	if depth == 0 {
		return bytes
	}
	switch v.Kind() {
	case reflect.String:
		bytes += int64(v.Len())
	case reflect.Slice:
		n, each := v.Len(), int64(v.Type().Elem().Size())
		if looked := min(n, weighed); looked > 0 && each > 1 {
			sum := int64(0)
			for i := range looked {
				sum += weightOf(v.Index(i*(n/looked)), depth-1)
			}
			each = sum / int64(looked)
		}
		bytes += int64(n) * each
	case reflect.Array:
		if n := v.Len(); n > 0 {
			bytes += int64(n) * (weightOf(v.Index(0), depth-1) - int64(v.Type().Elem().Size()))
		}
	case reflect.Map:
		bytes += int64(v.Len()) * int64(v.Type().Key().Size()+v.Type().Elem().Size()+16)
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			bytes += weightOf(v.Elem(), depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			bytes += weightOf(f, depth-1) - int64(f.Type().Size())
		}
	}
	return bytes
}

package decode

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// takeSame fills view with rows if these are of the same type already. They may stand in another kind of vector, or be pointers
// that a vector of any holds. It returns false if they are not.
func takeSame(view, rows kis.Vector) bool {
	if view.Type() == rows.Type() {
		reflect.Copy(view.Slice(), rows.Slice())
		return true
	}
	vec, ok := rows.(*kis.Vec[any])
	want := view.Type()
	if !ok || want.Kind() != reflect.Pointer {
		return false
	}
	pointers := unsafe.Slice((*unsafe.Pointer)(view.Pointer()), view.Len())
	for i, row := range vec.Rows {
		if reflect.TypeOf(row) != want || reflect.ValueOf(row).IsNil() {
			clear(pointers)
			return false
		}
		pointers[i] = reflect.ValueOf(row).UnsafePointer()
	}
	return true
}

// convert turns the rows of vec into rows of another type, at base, each of the given size. It calls fail for rows that can't be
// turned.
func (r *Reader) convert(vec kis.Vector, row reflect.Type, base unsafe.Pointer, size uintptr, fail func(int, batch.Code, error)) {
	from := vec.Type()
	source, step := vec.Pointer(), from.Size()
	at := func(i int) unsafe.Pointer { return unsafe.Add(source, uintptr(i)*step) }
	if from.Kind() == reflect.Pointer {
		from = from.Elem()
		at = func(i int) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Add(source, uintptr(i)*step)) }
	}
	convert := r.Types.converter(from, row).Convert
	watched := r.Host.Watched()
	for i := range vec.Len() {
		if watched && !r.Host.At(i) {
			return
		}
		if err := convert(unsafe.Add(base, uintptr(i)*size), at(i)); err != nil {
			fail(i, batch.CodeConversionFailed, err)
		}
	}
}

// slab is where the rows of a vector lie in memory, and their type. For a vector of pointers it makes new rows that these point
// to: the function may keep them.
func slab(v kis.Vector) (row reflect.Type, base unsafe.Pointer) {
	row, base = v.Type(), v.Pointer()
	if row.Kind() != reflect.Pointer {
		return row, base
	}
	row = row.Elem()
	pointers := unsafe.Slice((*unsafe.Pointer)(base), v.Len())
	base = reflect.MakeSlice(reflect.SliceOf(row), v.Len(), v.Len()).UnsafePointer()
	for i := range pointers {
		pointers[i] = unsafe.Add(base, uintptr(i)*row.Size())
	}
	return row, base
}

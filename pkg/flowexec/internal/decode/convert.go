package decode

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// takeSame fills view with rows if they have the view's type already: in another kind of vector, or as values of that pointer
// type in a vector of any. It returns false if they do not; then view is as before.
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

// convert converts the rows of vec to the type row, and writes them to memory that begins at base and has size bytes for each
// row. It calls fail for each row that can't be converted.
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

// slab returns where the rows of a vector lie in memory, and their type. For a vector of pointers it makes a new zero row for
// each, sets the pointer to it, and returns the memory and type of these rows. The memory is new each time, because the
// function may keep its rows.
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

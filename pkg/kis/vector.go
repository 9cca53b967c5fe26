package kis

import (
	"fmt"
	"reflect"
	"unsafe"
)

// Vector holds rows of one type, one behind the other in memory. It belongs to one goroutine.
type Vector interface {
	// Type returns the type of a row.
	Type() reflect.Type
	// Len returns the number of rows.
	Len() int
	// Reset leaves n zero rows. It uses the memory that the vector has, if that is enough.
	Reset(n int)
	// Pointer returns the address of the first row. The next rows follow at a distance of Type().Size(). It is valid until the
	// vector changes.
	Pointer() unsafe.Pointer
	// At returns row i.
	At(i int) any
	// Slice returns the []T that holds the rows.
	Slice() reflect.Value
	// New makes an empty vector of the same type.
	New() Vector
	// Gather replaces the vector's rows by copies of some rows of from, a vector of the same type; rows has their numbers, from 0.
	// from may be this vector itself if the numbers ascend.
	Gather(from Vector, rows []uint32)
	// Append adds the rows of another vector of the same type.
	Append(from Vector)
}

// Vec is a Vector for a row type T that is known at compile time.
type Vec[T any] struct{ Rows []T }

// Type returns the type of a row.
func (v *Vec[T]) Type() reflect.Type { return reflect.TypeFor[T]() }

// Len returns the number of rows.
func (v *Vec[T]) Len() int { return len(v.Rows) }

// Reset leaves n zero rows. It uses the memory that the vector has, if that is enough.
func (v *Vec[T]) Reset(n int) {
	if cap(v.Rows) < n {
		v.Rows = make([]T, n)
		return
	}
	clear(v.Rows[:max(n, len(v.Rows))])
	v.Rows = v.Rows[:n]
}

// Pointer returns the address of the first row. It is valid until the vector changes.
func (v *Vec[T]) Pointer() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v.Rows)) }

// At returns row i.
func (v *Vec[T]) At(i int) any { return v.Rows[i] }

// Slice returns the []T that holds the rows.
func (v *Vec[T]) Slice() reflect.Value { return reflect.ValueOf(v.Rows) }

// Append adds the rows of another Vec of the same type.
func (v *Vec[T]) Append(from Vector) { v.Rows = append(v.Rows, from.(*Vec[T]).Rows...) }

// New makes an empty vector of the same type.
func (v *Vec[T]) New() Vector { return new(Vec[T]) }

// Gather replaces the rows by copies of some rows of from, a Vec of the same type; rows has their numbers, from 0. from may be v
// itself if the numbers ascend.
func (v *Vec[T]) Gather(from Vector, rows []uint32) {
	source := from.(*Vec[T]).Rows
	if Vector(v) != from {
		if cap(v.Rows) < len(rows) {
			v.Rows = make([]T, len(rows))
		}
		v.Rows = v.Rows[:len(rows)]
	}
	for i, r := range rows {
		v.Rows[i] = source[r]
	}
	v.Rows = v.Rows[:len(rows)]
}

// NewVector makes an empty Vector for a row type that is known only at run time.
func NewVector(row reflect.Type) Vector {
	return &reflected{row: row, rows: reflect.Zero(reflect.SliceOf(row))}
}

// VectorOf makes a Vector of rows, which is a slice. It does not copy them: the slice and the Vector share their memory.
func VectorOf(rows reflect.Value) Vector { return &reflected{row: rows.Type().Elem(), rows: rows} }

// reflected is a Vector whose row type is known only at run time.
type reflected struct {
	row  reflect.Type
	rows reflect.Value // of []row
}

func (v *reflected) Type() reflect.Type { return v.row }

func (v *reflected) Len() int { return v.rows.Len() }

func (v *reflected) Pointer() unsafe.Pointer { return v.rows.UnsafePointer() }

func (v *reflected) At(i int) any { return v.rows.Index(i).Interface() }

// Reset implements Vector.
func (v *reflected) Reset(n int) {
	if v.rows.Cap() < n {
		v.rows = reflect.MakeSlice(reflect.SliceOf(v.row), n, n)
		return
	}
	v.rows.Slice(0, max(n, v.rows.Len())).Clear()
	v.rows = v.rows.Slice(0, n)
}

func (v *reflected) Slice() reflect.Value { return v.rows }

func (v *reflected) Append(from Vector) { v.rows = reflect.AppendSlice(v.rows, from.Slice()) }

func (v *reflected) New() Vector { return NewVector(v.row) }

// Gather implements Vector. It copies the rows into a new slice.
func (v *reflected) Gather(from Vector, rows []uint32) {
	source := from.Slice()
	gathered := reflect.MakeSlice(reflect.SliceOf(v.row), len(rows), len(rows))
	for i, r := range rows {
		gathered.Index(i).Set(source.Index(int(r)))
	}
	v.rows = gathered
}

// cloneOf copies the rows of a vector into a new slice. slice is the type of the slice, such as []T.
func cloneOf(v Vector, slice reflect.Type) reflect.Value {
	rows := v.Slice()
	clone := reflect.MakeSlice(slice, rows.Len(), rows.Len())
	reflect.Copy(clone, rows)
	return clone
}

// rowsOf returns the rows of a vector that is a Vec[T].
func rowsOf[T any](v Vector) []T { return v.(*Vec[T]).Rows }

// rowType returns an error if t can't be the type of a row, for example because JSON can't hold it. use is the verb for the
// error's text: the function "reads" the type or "passes on" it.
func rowType(use string, t reflect.Type) error {
	if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Pointer {
		return fmt.Errorf("it %s %s: a row is a struct, a map or a pointer to one, not a pointer to a pointer", use, t)
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("it %s %s, which JSON can't hold: a row is a struct, a map or a pointer to one", use, t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("it %s the interface %s, into which no row can be read: use a struct", use, t)
		}
	}
	return nil
}

// savedType returns an error unless t can be the type of a value that a Load reads: a struct or map[string]string.
func savedType(t reflect.Type) error {
	if t.Kind() == reflect.Struct || t == reflect.TypeFor[map[string]string]() {
		return nil
	}
	return fmt.Errorf("it loads %s: a saved value has fields, so use a struct or map[string]string", t)
}

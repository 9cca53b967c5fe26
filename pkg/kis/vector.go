package kis

import (
	"reflect"
	"unsafe"
)

// Vector holds rows of one type, one behind the other. It belongs to one goroutine.
type Vector interface {
	// Type is that of a row.
	Type() reflect.Type
	Len() int
	// Reset leaves n zero rows. Memory is used again where it suffices.
	Reset(n int)
	// Pointer is that of the first row; the rows lie Type().Size() apart. It holds until the vector changes.
	Pointer() unsafe.Pointer
	// At is row i.
	At(i int) any
	// Slice is the []T that holds the rows.
	Slice() reflect.Value
	// New makes an empty vector of the same kind.
	New() Vector
	// Gather makes the vector the rows named of another one with the same type, or of itself if the rows ascend.
	Gather(from Vector, rows []uint32)
	// Append adds the rows of another vector of the same kind.
	Append(from Vector)
}

// Vec is a Vector whose type is known where it is compiled.
type Vec[T any] struct{ Rows []T }

// Type is that of a row.
func (v *Vec[T]) Type() reflect.Type { return reflect.TypeFor[T]() }

// Len is how many rows there are.
func (v *Vec[T]) Len() int { return len(v.Rows) }

// Reset leaves n zero rows.
func (v *Vec[T]) Reset(n int) {
	if cap(v.Rows) < n {
		v.Rows = make([]T, n)
		return
	}
	clear(v.Rows[:max(n, len(v.Rows))])
	v.Rows = v.Rows[:n]
}

// Pointer is that of the first row.
func (v *Vec[T]) Pointer() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v.Rows)) }

// At is row i.
func (v *Vec[T]) At(i int) any { return v.Rows[i] }

// Slice is the []T that holds the rows.
func (v *Vec[T]) Slice() reflect.Value { return reflect.ValueOf(v.Rows) }

// Append adds the rows of from.
func (v *Vec[T]) Append(from Vector) { v.Rows = append(v.Rows, from.(*Vec[T]).Rows...) }

// New makes an empty vector of the same kind.
func (v *Vec[T]) New() Vector { return new(Vec[T]) }

// Gather makes v the rows named of from.
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

// NewVector makes a vector for a type that is known only when it runs.
func NewVector(row reflect.Type) Vector {
	return &reflected{row: row, rows: reflect.Zero(reflect.SliceOf(row))}
}

// VectorOf makes a vector of the rows of a slice.
func VectorOf(rows reflect.Value) Vector { return &reflected{row: rows.Type().Elem(), rows: rows} }

type reflected struct {
	row  reflect.Type
	rows reflect.Value // of []row
}

func (v *reflected) Type() reflect.Type { return v.row }

func (v *reflected) Len() int { return v.rows.Len() }

func (v *reflected) Pointer() unsafe.Pointer { return v.rows.UnsafePointer() }

func (v *reflected) At(i int) any { return v.rows.Index(i).Interface() }

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

func (v *reflected) Gather(from Vector, rows []uint32) {
	source := from.Slice()
	gathered := reflect.MakeSlice(reflect.SliceOf(v.row), len(rows), len(rows))
	for i, r := range rows {
		gathered.Index(i).Set(source.Index(int(r)))
	}
	v.rows = gathered
}

// cloneOf copies a vector into a slice of its own.
func cloneOf(v Vector, slice reflect.Type) reflect.Value {
	rows := v.Slice()
	clone := reflect.MakeSlice(slice, rows.Len(), rows.Len())
	reflect.Copy(clone, rows)
	return clone
}

func rowsOf[T any](v Vector) []T { return v.(*Vec[T]).Rows }

package flowexec

import (
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// structVector is a kis.Vector for a row type that is made when a flow is compiled. rows has room for more than its n rows.
type structVector struct {
	row  reflect.Type
	rows reflect.Value // of []row, with its whole capacity as its length
	n    int
}

func newStructVector(row reflect.Type) *structVector {
	return &structVector{row: row, rows: reflect.Zero(reflect.SliceOf(row))}
}

func (v *structVector) Type() reflect.Type      { return v.row }
func (v *structVector) Len() int                { return v.n }
func (v *structVector) Pointer() unsafe.Pointer { return v.rows.UnsafePointer() }
func (v *structVector) At(i int) any            { return v.rows.Index(i).Interface() }
func (v *structVector) Slice() reflect.Value    { return v.rows.Slice(0, v.n) }
func (v *structVector) New() kis.Vector         { return newStructVector(v.row) }

// room makes room for n rows, and keeps the rows that are there.
func (v *structVector) room(n int) {
	if n <= v.rows.Len() {
		return
	}
	n = max(n, 2*v.rows.Len(), 16)
	rows := reflect.MakeSlice(reflect.SliceOf(v.row), n, n)
	reflect.Copy(rows, v.Slice())
	v.rows = rows
}

// Reset implements kis.Vector.
func (v *structVector) Reset(n int) {
	if v.n > 0 || n > 0 {
		v.rows.Slice(0, min(max(n, v.n), v.rows.Len())).Clear()
	}
	v.n = 0
	v.room(n)
	v.n = n
}

// grow appends a zero row, and returns its address.
func (v *structVector) grow() unsafe.Pointer {
	v.room(v.n + 1)
	v.n++
	return unsafe.Add(v.rows.UnsafePointer(), uintptr(v.n-1)*v.row.Size())
}

// cut leaves the first n rows.
func (v *structVector) cut(n int) {
	v.rows.Slice(n, v.n).Clear()
	v.n = n
}

// Append implements kis.Vector.
func (v *structVector) Append(from kis.Vector) {
	n := v.n
	v.room(n + from.Len())
	v.n += from.Len()
	reflect.Copy(v.rows.Slice(n, v.n), from.Slice())
}

// Gather implements kis.Vector.
func (v *structVector) Gather(from kis.Vector, rows []uint32) {
	source := from.(*structVector).rows
	if kis.Vector(v) != from {
		v.room(len(rows))
	}
	for i, r := range rows {
		if int(r) != i || kis.Vector(v) != from {
			v.rows.Index(i).Set(source.Index(int(r)))
		}
	}
	if len(rows) < v.n {
		v.cut(len(rows))
	}
	v.n = len(rows)
}

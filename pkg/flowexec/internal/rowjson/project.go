package rowjson

import (
	"unsafe"
)

// Projection copies fields from a row of one struct type, the wide one, to a row of another, the narrow one, all of whose fields the
// wide one has too. It is immutable and safe for concurrent use.
type Projection struct{ fields []projectedField }

// projectedField is one field that a Projection copies: its offset in the narrow type (to) and in the wide type (from), in bytes.
type projectedField struct {
	to, from uintptr
	kind     kind
}

// Project makes the Projection from the row type of the codec wide to that of narrow. For a row that wide.Try reads, it gives the same
// values as if narrow had read the row. It returns false if the two types do not allow that.
func Project(narrow, wide *Codec) (*Projection, bool) {
	if narrow.fields == nil || wide.fields == nil {
		return nil, false
	}
	// A name that the wide type has a field for, and the narrow one a field that differs in case only, would go to two places.
	for _, f := range wide.fields {
		if _, doubt := narrow.find([]byte(f.name)); doubt {
			return nil, false
		}
	}
	p := new(Projection)
	for _, f := range narrow.fields {
		place, doubt := wide.find([]byte(f.name))
		if place < 0 || doubt || f.kind == kindOther || wide.fields[place].kind != f.kind {
			return nil, false
		}
		p.fields = append(p.fields, projectedField{f.offset, wide.fields[place].offset, f.kind})
	}
	return p, true
}

// Take sets the fields of the narrow row at to, which must be zero, from the wide row at from.
func (p *Projection) Take(to, from unsafe.Pointer) {
	for _, m := range p.fields {
		to, from := unsafe.Add(to, m.to), unsafe.Add(from, m.from)
		switch m.kind {
		case kindString:
			*(*string)(to) = *(*string)(from)
		case kindDynamic:
			*(*Dynamic)(to) = *(*Dynamic)(from)
		case kindBool, kindInt8, kindUint8:
			*(*uint8)(to) = *(*uint8)(from)
		case kindInt16, kindUint16:
			*(*uint16)(to) = *(*uint16)(from)
		case kindInt32, kindUint32, kindFloat32:
			*(*uint32)(to) = *(*uint32)(from)
		case kindInt, kindUint:
			*(*uint)(to) = *(*uint)(from)
		default:
			*(*uint64)(to) = *(*uint64)(from)
		}
	}
}

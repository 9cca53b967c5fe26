package rowjson

import (
	"encoding/json"
	"unsafe"
)

// Try is Decode for rows that leave no doubt; false: into may be filled in part. seen has a bit for each of the first 64
// fields that got a value.
func (c *Codec) Try(row []byte, into unsafe.Pointer) (seen uint64, ok bool) {
	if c.raw {
		value, ok := Value(row)
		*(*json.RawMessage)(into) = value
		return 0, ok
	}
	if c.fields == nil {
		return 0, false
	}
	return c.decode(row, into)
}

// Has reports whether seen, as Try returned it, has all fields of the set.
func (m Must) Has(seen uint64) bool { return Must(seen)&m == m }

// Projection takes the fields of a narrow struct type out of a wide one that has them all.
type Projection struct{ moves []projected }

type projected struct {
	to, from uintptr
	kind     kind
}

// Project makes a projection. Whatever row the wide codec reads without doubt, the narrow one reads as the projection gives
// it. False: the types are not so.
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
		p.moves = append(p.moves, projected{f.offset, wide.fields[place].offset, f.kind})
	}
	return p, true
}

// Take fills the zero row at to.
func (p *Projection) Take(to, from unsafe.Pointer) {
	for _, m := range p.moves {
		to, from := unsafe.Add(to, m.to), unsafe.Add(from, m.from)
		switch m.kind {
		case kindString:
			*(*string)(to) = *(*string)(from)
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

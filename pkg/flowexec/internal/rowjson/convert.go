package rowjson

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Converter converts rows of one type to another. The result is the same as if the row were written as JSON and read again. It is
// immutable and safe for concurrent use.
type Converter struct {
	write, read *Codec
	// moves has the compiled code that converts the row's fields; nil means that the row is written as JSON and read again.
	moves *moveList
	// need are the fields that the other type needs, if it is a made struct, and needNames are their names.
	need      Must
	needNames []string
}

// move converts one field of a struct to the field with the same name in the other type.
type move struct {
	// to is nil if the other type has no field of that name.
	from, to *field
	// convert is used for values that are not plain; nil means that both are plain.
	convert convertFunc
}

// moveList converts one struct type to another: it has a move for each field.
type moveList []move

// NewConverter makes the converter from one row type to another.
func NewConverter(from, to reflect.Type) *Converter {
	c := &Converter{write: For(from), read: For(to)}
	if from != to {
		c.moves = newMoveList(c.write, c.read, []typePair{{from, to}})
		if c.need, c.needNames = c.read.needs(); c.moves != nil && !c.moves.give(c.read) {
			c.moves = nil
		}
	}
	return c
}

// newMoveList makes the moveList for the struct types of two codecs. It returns nil if a codec has no compiled code, or if a field's name
// matches one of the other type only when the case of letters is ignored. within are the pairs of types that this pair is nested in, and
// the pair itself.
func newMoveList(from, to *Codec, within []typePair) *moveList {
	if from.fields == nil || to.fields == nil {
		return nil
	}
	all := make(moveList, 0, len(from.fields))
	for i := range from.fields {
		m := move{from: &from.fields[i]}
		place, doubt := to.find([]byte(m.from.name))
		if doubt {
			return nil
		}
		if place >= 0 {
			m.to = &to.fields[place]
		}
		switch {
		case m.to != nil && (m.from.kind == kindDynamic || m.to.kind == kindDynamic):
			m.convert = dynamicConverter(m.from, m.to)
		case m.to != nil && (!m.from.kind.plain() || !m.to.kind.plain()):
			m.convert = converterFor(m.from.typ, m.to.typ, within)
		case m.to == nil && m.from.kind == kindDynamic:
			continue
		case m.to == nil && !m.from.kind.plain():
			if isAlwaysEncodable(m.from.typ, nil) {
				continue
			}
			m.convert = throughJSON(typePair{from: m.from.typ})
		}
		all = append(all, m)
	}
	return &all
}

// Convert converts the row at from to the other type, and writes it to the memory at to, which must be zero. If both types are the same,
// it assigns the row, so that both rows share the memory that they point to.
func (c *Converter) Convert(to, from unsafe.Pointer) error {
	if c.write.row == c.read.row {
		reflect.NewAt(c.read.row, to).Elem().Set(reflect.NewAt(c.write.row, from).Elem())
		return nil
	}
	if c.moves != nil {
		if c.moves.move(to, from) {
			return nil
		}
		reflect.NewAt(c.read.row, to).Elem().SetZero() // move may have begun to fill it
	}
	row, err := c.write.Append(nil, from)
	if err != nil {
		return fmt.Errorf("it can't be written as JSON: %w", err)
	}
	seen, ok := c.read.Try(row, to)
	if !ok {
		if err := c.read.Slow(row, to); err != nil {
			return err
		}
	}
	if len(c.needNames) > 0 && (!ok || len(c.read.fields) > 64 || !c.need.Has(seen)) {
		return c.lacks(row)
	}
	return nil
}

// give reports whether the moves set each field that the made struct of a codec needs, or return false.
func (l moveList) give(to *Codec) bool {
	for i := range to.fields {
		f := &to.fields[i]
		if f.needed && !slices.ContainsFunc(l, func(m move) bool {
			return m.to == f && (m.from.kind.plain() && !m.from.omitEmpty || m.from.kind == kindDynamic)
		}) {
			return false
		}
	}
	return true
}

// lacks returns an error if a row lacks a field that the other type needs, or has null there.
func (c *Converter) lacks(row []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(row, &fields); err != nil {
		return err
	}
next:
	for _, name := range c.needNames {
		for has, value := range fields {
			if strings.EqualFold(has, name) && !isNull(value) {
				continue next
			}
		}
		return fmt.Errorf("the field %s is missing or null", name)
	}
	return nil
}

// move converts all fields of the struct at from to those of the struct at to, which must be zero. It returns false if it can't be sure
// of the result; the struct at to may be filled in part then.
func (l moveList) move(to, from unsafe.Pointer) bool {
	for i := range l {
		m := &l[i]
		p := unsafe.Add(from, m.from.offset)
		var q unsafe.Pointer
		if m.to != nil {
			q = unsafe.Add(to, m.to.offset)
		}
		switch {
		case m.convert == nil:
			if !m.copyPlain(q, p) {
				return false
			}
		case m.from.omitEmpty && m.from.isEmpty(p):
			if m.to != nil && m.to.needed {
				return false
			}
		case !m.convert(q, p):
			return false
		}
	}
	return true
}

// copyPlain converts a field of a plain kind: a string, bool or number. It returns false if the other field can't hold exactly this
// value, or JSON can't.
func (m *move) copyPlain(to, from unsafe.Pointer) bool {
	switch m.from.kind {
	case kindString:
		s := *(*string)(from)
		if m.to == nil {
			return true
		}
		if m.to.kind != kindString || !utf8.ValidString(s) {
			return false
		}
		*(*string)(to) = s
		return true
	case kindBool:
		if m.to == nil {
			return true
		}
		if m.to.kind != kindBool {
			return false
		}
		*(*bool)(to) = *(*bool)(from)
		return true
	case kindFloat32, kindFloat64:
		return m.copyFloat(to, from)
	}
	return m.to == nil || m.copyInteger(to, from)
}

// copyFloat does the same as copyPlain, for a field that is a float.
func (m *move) copyFloat(to, from unsafe.Pointer) bool {
	var f float64
	if m.from.kind == kindFloat64 {
		f = *(*float64)(from)
	} else if f = float64(*(*float32)(from)); m.to != nil && m.to.kind != kindFloat32 && (f != math.Trunc(f) || math.Abs(f) >= 1<<24) {
		return false // the fewest digits that mean it as a float32 mean another float64
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return false
	}
	switch {
	case m.to == nil:
		return true
	case m.to.kind == kindFloat64:
		*(*float64)(to) = f
		return true
	case m.to.kind == kindFloat32:
		*(*float32)(to) = float32(f)
		return float64(float32(f)) == f
	}
	if f != math.Trunc(f) || math.Abs(f) >= 1<<53 || math.Signbit(f) && f == 0 {
		return false
	}
	return m.to.setInteger(to, int64(f))
}

// copyInteger does the same as copyPlain, for a field that is an integer. m.to must not be nil.
func (m *move) copyInteger(to, from unsafe.Pointer) bool {
	var v int64
	switch m.from.kind {
	case kindInt:
		v = int64(*(*int)(from))
	case kindInt8:
		v = int64(*(*int8)(from))
	case kindInt16:
		v = int64(*(*int16)(from))
	case kindInt32:
		v = int64(*(*int32)(from))
	case kindInt64:
		v = *(*int64)(from)
	case kindUint8:
		v = int64(*(*uint8)(from))
	case kindUint16:
		v = int64(*(*uint16)(from))
	case kindUint32:
		v = int64(*(*uint32)(from))
	case kindUint:
		v = int64(*(*uint)(from))
		if v < 0 {
			return false // it is beyond int64
		}
	default:
		v = int64(*(*uint64)(from))
		if v < 0 {
			return false
		}
	}
	switch m.to.kind {
	case kindFloat64:
		*(*float64)(to) = float64(v)
		return !m.to.exact || exactly(v)
	case kindFloat32:
		*(*float32)(to) = float32(v)
		return true
	}
	return m.to.setInteger(to, v)
}

// setInteger stores an integer in a field of any integer kind. It returns false if the field's type can't hold it, or is no integer type.
func (f *field) setInteger(into unsafe.Pointer, v int64) bool {
	switch f.kind {
	case kindInt, kindInt8, kindInt16, kindInt32, kindInt64:
		return f.setInt(into, v)
	case kindUint, kindUint8, kindUint16, kindUint32, kindUint64:
		return v >= 0 && f.setUint(into, uint64(v))
	}
	return false
}

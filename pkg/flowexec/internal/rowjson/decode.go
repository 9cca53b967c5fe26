package rowjson

import (
	"reflect"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// decode reads a row into the struct at into, and returns the same as Try: seen has a bit for each of the first 64 fields that got a
// value other than null; false means that the result is in doubt, and the struct may be filled in part.
func (c *Codec) decode(row []byte, into unsafe.Pointer) (seen uint64, ok bool) {
	i := skipSpace(row, 0)
	if i >= len(row) || row[i] != '{' {
		return 0, false
	}
	i = skipSpace(row, i+1)
	if i < len(row) && row[i] == '}' {
		return 0, skipSpace(row, i+1) == len(row)
	}
	for next := 0; ; {
		// In most rows the fields come in the order of the struct, without spaces.
		place := next
		if next < len(c.fields) && hasPrefix(row[i:], c.fields[next].prefix[1:]) {
			i += len(c.fields[next].prefix) - 1
		} else {
			var name []byte
			if name, i, ok = scanName(row, i); !ok {
				return seen, false
			}
			var doubt bool
			if place, doubt = c.find(name); doubt {
				return seen, false
			}
		}
		i = skipSpace(row, i)
		if place < 0 {
			i, ok = skipValue(row, i, 0)
		} else {
			if i < len(row) && row[i] != 'n' {
				seen |= 1 << place
			}
			f := &c.fields[place]
			i, ok = f.decode(row, i, unsafe.Add(into, f.offset))
			next = place + 1
		}
		if !ok {
			return seen, false
		}
		if i = skipSpace(row, i); i >= len(row) {
			return seen, false
		}
		switch row[i] {
		case ',':
			i = skipSpace(row, i+1)
		case '}':
			return seen, skipSpace(row, i+1) == len(row)
		default:
			return seen, false
		}
	}
}

// hasPrefix reports whether row begins with lead.
func hasPrefix(row []byte, lead string) bool {
	return len(row) >= len(lead) && string(row[:len(lead)]) == lead
}

// scanName reads the name of a field, whose opening quote must be at row[i], and the colon behind it. end is the place behind the
// colon. It returns false if there is no name, or if the name has escapes or other bytes than printable ASCII.
func scanName(row []byte, i int) (name []byte, end int, ok bool) {
	if i >= len(row) || row[i] != '"' {
		return nil, i, false
	}
	start := i + 1
	for i = start; i < len(row) && row[i] != '"'; i++ {
		if b := row[i]; b < ' ' || b >= utf8.RuneSelf || b == '\\' {
			return nil, i, false
		}
	}
	if i >= len(row) {
		return nil, i, false
	}
	name = row[start:i]
	if i = skipSpace(row, i+1); i >= len(row) || row[i] != ':' {
		return nil, i, false
	}
	return name, i + 1, true
}

// find returns the place of the field with the given name among c.fields; -1 means none. doubt is true if a field has the name only
// when the case of letters is ignored; place is -1 then.
func (c *Codec) find(name []byte) (place int, doubt bool) {
	for i := range c.fields {
		if string(name) == c.fields[i].name {
			return i, false
		}
	}
	for i := range c.fields {
		if len(name) == len(c.fields[i].name) && sameLetters(name, c.fields[i].name) {
			return -1, true
		}
	}
	return -1, false
}

// sameLetters reports whether two names of the same length are equal when the case of ASCII letters is ignored.
func sameLetters(a []byte, b string) bool {
	for i := range a {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

// decode reads the JSON value that begins at row[i] into the field at into, and returns the place behind the value. It returns false
// if it can't be sure of the result; the field may have any value then.
func (f *field) decode(row []byte, i int, into unsafe.Pointer) (int, bool) {
	if i < len(row) && row[i] == 'n' && f.kind.plain() {
		return skipLiteral(row, i, "null") // null leaves a plain field as it is
	}
	switch f.kind {
	case kindString:
		end, ok := scanString(row, i)
		if ok {
			*(*string)(into) = string(row[i+1 : end-1])
		}
		return end, ok
	case kindBool:
		if i < len(row) && row[i] == 't' {
			*(*bool)(into) = true
			return skipLiteral(row, i, "true")
		}
		*(*bool)(into) = false
		return skipLiteral(row, i, "false")
	case kindInt:
		v, end, ok := scanInt(row, i)
		*(*int)(into) = int(v)
		return end, ok && int64(int(v)) == v
	case kindInt64, kindInt32, kindInt16, kindInt8:
		v, end, ok := scanInt(row, i)
		return end, ok && f.setInt(into, v)
	case kindUint, kindUint64, kindUint32, kindUint16, kindUint8:
		v, end, ok := scanInt(row, i)
		return end, ok && row[i] != '-' && f.setUint(into, uint64(v))
	case kindFloat64:
		v, end, ok := scanFloat(row, i)
		if f.exact {
			ok, v = ok && isExact(v, row[i:end]), v+0
		}
		*(*float64)(into) = v
		return end, ok
	case kindFloat32:
		end, ok := skipNumber(row, i)
		if !ok {
			return end, false
		}
		v, err := strconv.ParseFloat(string(row[i:end]), 32)
		*(*float32)(into) = float32(v)
		return end, err == nil
	}
	if f.kind == kindDynamic {
		end := (*Dynamic)(into).scan(row, i)
		return end, end >= 0
	}
	end, ok := skipValue(row, i, 0)
	return end, ok && unmarshal(row[i:end], reflect.NewAt(f.typ, into)) == nil
}

// setInt stores an integer in a field of a signed kind. It returns false if the field's type can't hold it.
func (f *field) setInt(into unsafe.Pointer, v int64) bool {
	switch f.kind {
	case kindInt:
		*(*int)(into) = int(v)
		return int64(int(v)) == v
	case kindInt64:
		*(*int64)(into) = v
		return true
	case kindInt32:
		*(*int32)(into) = int32(v)
		return int64(int32(v)) == v
	case kindInt16:
		*(*int16)(into) = int16(v)
		return int64(int16(v)) == v
	default:
		*(*int8)(into) = int8(v)
		return int64(int8(v)) == v
	}
}

// setUint stores an integer in a field of an unsigned kind. It returns false if the field's type can't hold it.
func (f *field) setUint(into unsafe.Pointer, v uint64) bool {
	switch f.kind {
	case kindUint:
		*(*uint)(into) = uint(v)
		return uint64(uint(v)) == v
	case kindUint64:
		*(*uint64)(into) = v
		return true
	case kindUint32:
		*(*uint32)(into) = uint32(v)
		return uint64(uint32(v)) == v
	case kindUint16:
		*(*uint16)(into) = uint16(v)
		return uint64(uint16(v)) == v
	default:
		*(*uint8)(into) = uint8(v)
		return uint64(uint8(v)) == v
	}
}

package rowjson

import (
	"math"
	"reflect"
	"strconv"
	"unsafe"
)

// encode appends the struct at from to dst, as JSON. If it returns false, encoding/json has to write the struct instead, and the bytes
// behind dst mean nothing.
func (c *Codec) encode(dst []byte, from unsafe.Pointer) ([]byte, bool) {
	dst = append(dst, '{')
	empty := true
	for i := range c.fields {
		f := &c.fields[i]
		p := unsafe.Add(from, f.offset)
		if f.omitEmpty && f.isEmpty(p) {
			continue
		}
		lead := f.prefix
		if empty {
			lead, empty = lead[1:], false
		}
		var ok bool
		if dst, ok = f.encode(append(dst, lead...), p); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

// encode appends the value of the field at p to dst, as JSON. It returns false if encoding/json has to write the struct instead.
func (f *field) encode(dst []byte, p unsafe.Pointer) ([]byte, bool) {
	switch f.kind {
	case kindString:
		return appendString(dst, *(*string)(p))
	case kindBool:
		return strconv.AppendBool(dst, *(*bool)(p)), true
	case kindInt:
		return strconv.AppendInt(dst, int64(*(*int)(p)), 10), true
	case kindInt8:
		return strconv.AppendInt(dst, int64(*(*int8)(p)), 10), true
	case kindInt16:
		return strconv.AppendInt(dst, int64(*(*int16)(p)), 10), true
	case kindInt32:
		return strconv.AppendInt(dst, int64(*(*int32)(p)), 10), true
	case kindInt64:
		return strconv.AppendInt(dst, *(*int64)(p), 10), true
	case kindUint:
		return strconv.AppendUint(dst, uint64(*(*uint)(p)), 10), true
	case kindUint8:
		return strconv.AppendUint(dst, uint64(*(*uint8)(p)), 10), true
	case kindUint16:
		return strconv.AppendUint(dst, uint64(*(*uint16)(p)), 10), true
	case kindUint32:
		return strconv.AppendUint(dst, uint64(*(*uint32)(p)), 10), true
	case kindUint64:
		return strconv.AppendUint(dst, *(*uint64)(p), 10), true
	case kindFloat32:
		return appendFloat(dst, float64(*(*float32)(p)), 32)
	case kindFloat64:
		return appendFloat(dst, *(*float64)(p), 64)
	}
	if f.kind == kindDynamic {
		return (*Dynamic)(p).AppendJSON(dst), true
	}
	// A struct's field is addressable, so encoding/json calls a MarshalJSON of its pointer, too.
	dst, err := AppendAny(dst, reflect.NewAt(f.typ, p).Interface())
	return dst, err == nil
}

// isEmpty reports whether the value of the field at p is empty in the sense of the tag omitempty.
func (f *field) isEmpty(p unsafe.Pointer) bool {
	if f.kind == kindDynamic {
		return (*Dynamic)(p).kind == DynamicAbsent
	}
	v := reflect.NewAt(f.typ, p).Elem()
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// appendString appends a string to dst, as JSON. It writes printable ASCII itself, and lets encoding/json write other strings. It returns
// false if that fails.
func appendString(dst []byte, s string) ([]byte, bool) {
	for i := range len(s) {
		if b := s[i]; b < ' ' || b >= 0x7f || b == '"' || b == '\\' {
			dst, err := AppendAny(dst, s)
			return dst, err == nil
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"'), true
}

// appendFloat appends a number to dst as encoding/json does: with the fewest digits that identify it, and with an exponent if it is very
// small or very large. bits is 32 or 64, the size of the number's type. It returns false for NaN and infinite numbers.
func appendFloat(dst []byte, f float64, bits int) ([]byte, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, false
	}
	a := math.Abs(f)
	// Multiples of 1/4 are exact with two decimals: this is faster than AppendFloat.
	if quarters := a * 4; quarters < 1<<50 && bits == 64 {
		if n := uint64(quarters); float64(n) == quarters {
			if math.Signbit(f) {
				dst = append(dst, '-')
			}
			dst = strconv.AppendUint(dst, n>>2, 10)
			return append(dst, [...]string{"", ".25", ".5", ".75"}[n&3]...), true
		}
	}
	format := byte('f')
	if a != 0 && (bits == 64 && (a < 1e-6 || a >= 1e21) || bits == 32 && (float32(a) < 1e-6 || float32(a) >= 1e21)) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, bits)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // encoding/json writes e-9, not e-09
		dst = dst[:n-1]
	}
	return dst, true
}

package rowjson

import (
	"encoding/binary"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// decode reads a row into the struct at into. seen has a bit for each of the first 64 fields that got a value. False: the row
// is in doubt, and into may be filled in part.
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
		// Mostly the fields come in the struct's order, without a space.
		place := next
		if next < len(c.fields) && startsWith(row[i:], c.fields[next].lead[1:]) {
			i += len(c.fields[next].lead) - 1
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

func startsWith(row []byte, lead string) bool {
	return len(row) >= len(lead) && string(row[:len(lead)]) == lead
}

// scanName reads a name of printable ASCII without escapes, and the colon behind it; any other is in doubt.
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

// find is the place of the field of that name; -1: none. A name that differs from a field's in case only is in doubt.
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

func sameLetters(a []byte, b string) bool {
	for i := range a {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

// decode reads the value at i, and returns where it ends.
func (f *field) decode(row []byte, i int, into unsafe.Pointer) (int, bool) {
	if i < len(row) && row[i] == 'n' && f.kind != kindOther {
		return skipLiteral(row, i, "null") // which leaves a plain field as it is
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
	end, ok := skipValue(row, i, 0)
	return end, ok && unmarshal(row[i:end], reflect.NewAt(f.typ, into)) == nil
}

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

func skipSpace(row []byte, i int) int {
	for i < len(row) && row[i] <= ' ' && (row[i] == ' ' || row[i] == '\n' || row[i] == '\t' || row[i] == '\r') {
		i++
	}
	return i
}

func skipLiteral(row []byte, i int, literal string) (int, bool) {
	end := i + len(literal)
	return end, end <= len(row) && string(row[i:end]) == literal
}

// scanString finds the end of a string without escapes whose bytes stand for themselves.
func scanString(row []byte, i int) (end int, ok bool) {
	if i >= len(row) || row[i] != '"' {
		return i, false
	}
	ascii := true
	for end = i + 1; end < len(row); end++ {
		switch b := row[end]; {
		case b == '"':
			return end + 1, ascii || utf8.Valid(row[i+1:end])
		case b < ' ' || b == '\\':
			return end, false
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	return end, false
}

// scanInt reads a whole number of at most 18 digits, without fraction and exponent.
func scanInt(row []byte, i int) (v int64, end int, ok bool) {
	negative := i < len(row) && row[i] == '-'
	if negative {
		i++
	}
	start := i
	for i < len(row) && row[i]-'0' <= 9 {
		v = v*10 + int64(row[i]-'0')
		i++
	}
	digits := i - start
	if digits == 0 || digits > 18 || digits > 1 && row[start] == '0' {
		return 0, i, false
	}
	if i < len(row) && (row[i] == '.' || row[i]|0x20 == 'e') {
		return 0, i, false
	}
	if negative {
		v = -v
	}
	return v, i, true
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// scanFloat reads a number. One of few digits is a quotient of two numbers that a float64 holds exactly, and so is rounded
// once, as it must be.
func scanFloat(row []byte, start int) (v float64, end int, ok bool) {
	i := start
	negative := i < len(row) && row[i] == '-'
	if negative {
		i++
	}
	first := i
	var digits uint64
	for i < len(row) && row[i]-'0' <= 9 {
		digits = digits*10 + uint64(row[i]-'0')
		i++
	}
	count, fraction := i-first, 0
	if count == 0 || count > 1 && row[first] == '0' {
		return 0, i, false
	}
	if i < len(row) && row[i] == '.' {
		i++
		point := i
		for i < len(row) && row[i]-'0' <= 9 {
			digits = digits*10 + uint64(row[i]-'0')
			i++
		}
		if fraction = i - point; fraction == 0 {
			return 0, i, false
		}
	}
	if count+fraction <= 15 && (i >= len(row) || row[i]|0x20 != 'e') {
		v = float64(digits) / powers[fraction]
		if negative {
			v = -v
		}
		return v, i, true
	}
	if end, ok = skipNumber(row, start); !ok {
		return 0, end, false
	}
	v, err := strconv.ParseFloat(string(row[start:end]), 64)
	return v, end, err == nil && !math.IsInf(v, 0)
}

// skipNumber finds the end of a number.
func skipNumber(row []byte, i int) (end int, ok bool) {
	if i < len(row) && row[i] == '-' {
		i++
	}
	start := i
	if i = skipDigits(row, i); i == start || i-start > 1 && row[start] == '0' {
		return i, false
	}
	if i < len(row) && row[i] == '.' {
		start = i + 1
		if i = skipDigits(row, start); i == start {
			return i, false
		}
	}
	if i < len(row) && row[i]|0x20 == 'e' {
		i++
		if i < len(row) && (row[i] == '+' || row[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(row, i); i == start {
			return i, false
		}
	}
	return i, true
}

func skipDigits(row []byte, i int) int {
	for i < len(row) && row[i]-'0' <= 9 {
		i++
	}
	return i
}

// Value is the JSON in row without the space around it. False: it is none, or is in doubt.
func Value(row []byte) ([]byte, bool) {
	if isObject(row) {
		return slices.Clip(row), true
	}
	start := skipSpace(row, 0)
	end, ok := skipValue(row, start, 0)
	if !ok || skipSpace(row, end) != len(row) {
		return nil, false
	}
	return row[start:end:end], true
}

// isObject reports whether row is an object without space around its tokens, as most rows are. False: skipValue decides.
func isObject(row []byte) bool {
	last := len(row) - 1
	if last < 0 || row[0] != '{' || row[last] != '}' {
		return false
	}
	// Before last, each byte has one behind it: the closing brace at the latest, at which every loop here stops.
	for i := 1; row[i] == '"'; i++ {
		if i = closing(row, i+1); i >= last || row[i+1] != ':' {
			return false
		}
		i += 2
		if start := i; row[i]-'0' <= 9 {
			for i++; row[i]-'0' <= 9; i++ {
			}
			if row[i] == '.' || row[i]|0x20 == 'e' || row[start] == '0' && i-start > 1 {
				var ok bool
				if i, ok = skipNumber(row, start); !ok {
					return false
				}
			}
		} else {
			var ok bool
			if i, ok = skipValue(row, i, 1); !ok || i > last {
				return false
			}
		}
		if row[i] != ',' {
			return i == last
		}
	}
	return false
}

// closing is the quote that ends a string without escapes whose text begins at i; len(row): there is none.
func closing(row []byte, i int) int {
	for i+8 <= len(row) {
		n := special(row[i:])
		if i += n; n < 8 {
			break
		}
	}
	for ; i < len(row); i++ {
		if b := row[i]; b == '"' {
			return i
		} else if b < ' ' || b == '\\' {
			break
		}
	}
	return len(row)
}

// skipValue finds the end of any value that is not nested too deeply.
func skipValue(row []byte, i, depth int) (end int, ok bool) {
	if i >= len(row) || depth > 64 {
		return i, false
	}
	switch row[i] {
	case '"':
		return skipString(row, i)
	case 't':
		return skipLiteral(row, i, "true")
	case 'f':
		return skipLiteral(row, i, "false")
	case 'n':
		return skipLiteral(row, i, "null")
	case '{', '[':
		return skipNested(row, i, depth)
	}
	return skipNumber(row, i)
}

// skipString finds the end of a string, whatever its bytes and escapes stand for.
func skipString(row []byte, i int) (end int, ok bool) {
	if i++; i+8 <= len(row) {
		if end := special(row[i:]); end < 8 && row[i+end] == '"' {
			return i + end + 1, true
		}
	}
	for i < len(row) {
		switch b := row[i]; {
		case b == '"':
			return i + 1, true
		case b < ' ':
			return i, false
		case b == '\\':
			if i++; i >= len(row) {
				return i, false
			}
			if row[i] == 'u' {
				for range 4 {
					if i++; i >= len(row) || !isHex(row[i]) {
						return i, false
					}
				}
			} else if strings.IndexByte(`"\/bfnrt`, row[i]) < 0 {
				return i, false
			}
			i++
		case i+8 <= len(row):
			i += max(1, special(row[i:]))
		default:
			i++
		}
	}
	return i, false
}

// special is the place of the first quote, backslash or control character among the first 8 bytes, or 8.
func special(row []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(row)
	quotes, slashes, controls := w^('"'*ones)-ones, w^('\\'*ones)-ones, w-' '*ones
	return bits.TrailingZeros64((quotes|slashes|controls)&^w&highs) / 8
}

func isHex(b byte) bool { return b-'0' <= 9 || b|0x20-'a' <= 5 }

// skipNested finds the end of an object or array.
func skipNested(row []byte, i, depth int) (end int, ok bool) {
	object, closing := row[i] == '{', row[i]+2 // '}' and ']' stand two behind '{' and '['
	if i = skipSpace(row, i+1); i < len(row) && row[i] == closing {
		return i + 1, true
	}
	for {
		if object {
			if i >= len(row) || row[i] != '"' {
				return i, false
			}
			if i, ok = skipString(row, i); !ok {
				return i, false
			}
			if i = skipSpace(row, i); i >= len(row) || row[i] != ':' {
				return i, false
			}
			i = skipSpace(row, i+1)
		}
		if i, ok = skipValue(row, i, depth+1); !ok {
			return i, false
		}
		if i = skipSpace(row, i); i >= len(row) {
			return i, false
		}
		switch row[i] {
		case ',':
			i = skipSpace(row, i+1)
		case closing:
			return i + 1, true
		default:
			return i, false
		}
	}
}

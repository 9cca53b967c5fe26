package rowjson

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// skipSpace returns the place of the first byte, from i on, that is not JSON space; len(row) if there is none.
func skipSpace(row []byte, i int) int {
	for i < len(row) && row[i] <= ' ' && (row[i] == ' ' || row[i] == '\n' || row[i] == '\t' || row[i] == '\r') {
		i++
	}
	return i
}

// skipLiteral returns the place behind a literal such as "true" that begins at row[i]. It returns false if row does not have the literal
// there.
func skipLiteral(row []byte, i int, literal string) (int, bool) {
	end := i + len(literal)
	return end, end <= len(row) && string(row[i:end]) == literal
}

// scanString returns the place behind a string whose opening quote is at row[i]. It returns false if there is no string, or if it has
// escapes or is not valid UTF-8.
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

// scanInt reads an integer of at most 18 digits that begins at row[i]; end is the place behind it. It returns false if there is none, and
// for numbers with more digits, a fraction or an exponent.
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

// powers has the powers of ten that a float64 holds exactly.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// scanFloat reads a number that begins at row[start]; end is the place behind it. It returns false if there is no valid number, or if a
// float64 can't hold it. A number of at most 15 digits is computed as the quotient of two numbers that a float64 holds exactly, so that
// it is rounded only once, as encoding/json rounds it.
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

// skipNumber returns the place behind a number that begins at row[i]. It returns false if row has no valid JSON number there.
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

// skipDigits returns the place of the first byte, from i on, that is not a digit.
func skipDigits(row []byte, i int) int {
	for i < len(row) && row[i]-'0' <= 9 {
		i++
	}
	return i
}

// Value returns the JSON value in row, without the space around it; the slice shares row's memory. It returns false if row is not one
// JSON value, and also for some values that are valid, such as those nested more than 64 deep: then encoding/json has to decide.
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

// isObject reports whether row is a JSON object without space between its tokens, as most rows are. It is faster than skipValue. If it
// returns false, row may still be valid JSON: skipValue has to decide.
func isObject(row []byte) bool {
	last := len(row) - 1
	if last < 0 || row[0] != '{' || row[last] != '}' {
		return false
	}
	// No loop has to check for the end of row: each stops at the closing brace at the latest.
	for i := 1; row[i] == '"'; i++ {
		if i = closingQuote(row, i+1); i >= last || row[i+1] != ':' {
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

// closingQuote returns the place of the closing quote of a string whose text begins at row[i]. It returns len(row) if there is none, or
// if a backslash or control character comes before it.
func closingQuote(row []byte, i int) int {
	for i+8 <= len(row) {
		n := firstSpecial(row[i:])
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

// skipValue returns the place behind a JSON value that begins at row[i]. It returns false if there is no valid value. depth is the number
// of objects and arrays around the value; beyond 64 it returns false too.
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

// skipString returns the place behind a string whose opening quote is at row[i]. The string may have escapes. It returns false if the
// string is not valid or does not end.
func skipString(row []byte, i int) (end int, ok bool) {
	if i++; i+8 <= len(row) {
		if end := firstSpecial(row[i:]); end < 8 && row[i+end] == '"' {
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
			i += max(1, firstSpecial(row[i:]))
		default:
			i++
		}
	}
	return i, false
}

// firstSpecial returns the place of the first quote, backslash or control character among the first 8 bytes of row; 8 means that there is
// none. row must have 8 bytes or more. It looks at all 8 bytes at once.
func firstSpecial(row []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(row)
	quotes, slashes, controls := w^('"'*ones)-ones, w^('\\'*ones)-ones, w-' '*ones
	return bits.TrailingZeros64((quotes|slashes|controls)&^w&highs) / 8
}

// isHex reports whether a byte is a hexadecimal digit.
func isHex(b byte) bool { return b-'0' <= 9 || b|0x20-'a' <= 5 }

// skipNested returns the place behind an object or array that begins at row[i]. It returns false if that is not valid. depth is the
// number of objects and arrays around it.
func skipNested(row []byte, i, depth int) (end int, ok bool) {
	object, closing := row[i] == '{', row[i]+2 // in ASCII '}' is '{' + 2, and ']' is '[' + 2
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

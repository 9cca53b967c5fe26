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

// skipSpace returns the place of the first byte from i on that is no space.
func skipSpace(row []byte, i int) int {
	for i < len(row) && row[i] <= ' ' && (row[i] == ' ' || row[i] == '\n' || row[i] == '\t' || row[i] == '\r') {
		i++
	}
	return i
}

// skipLiteral returns where a literal ends that begins at i. It returns false if it does not stand there.
func skipLiteral(row []byte, i int, literal string) (int, bool) {
	end := i + len(literal)
	return end, end <= len(row) && string(row[i:end]) == literal
}

// scanString returns where a string ends that begins at i. A string with escapes, or that is no valid UTF-8, is in doubt.
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

// scanInt reads an integer of at most 18 digits. Numbers with more digits, a fraction or an exponent are in doubt.
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

// scanFloat reads a number. A number of at most 15 digits is the quotient of two numbers that a float64 holds exactly, so that it is
// rounded only once, as it has to be.
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

// skipNumber returns where a number ends that begins at i.
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

// skipDigits returns the place of the first byte from i on that is no digit.
func skipDigits(row []byte, i int) int {
	for i < len(row) && row[i]-'0' <= 9 {
		i++
	}
	return i
}

// Value returns the JSON value in row, without the space around it. It returns false if row is no JSON value, or is in doubt.
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

// isObject reports whether row is a JSON object without space around its tokens, as most rows are. It is faster than skipValue. If it
// returns false, skipValue decides.
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

// closingQuote returns the place of the quote that ends a string without escapes, whose text begins at i. It returns len(row) if there is
// none.
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

// skipValue returns where a value ends that begins at i. A value that is nested more than 64 deep is in doubt.
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

// skipString returns where a string ends that begins at i, with or without escapes.
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
// none. It looks at all 8 bytes at once.
func firstSpecial(row []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(row)
	quotes, slashes, controls := w^('"'*ones)-ones, w^('\\'*ones)-ones, w-' '*ones
	return bits.TrailingZeros64((quotes|slashes|controls)&^w&highs) / 8
}

// isHex reports whether a byte is a hexadecimal digit.
func isHex(b byte) bool { return b-'0' <= 9 || b|0x20-'a' <= 5 }

// skipNested returns where an object or an array ends that begins at i.
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

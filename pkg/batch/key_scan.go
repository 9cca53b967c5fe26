package batch

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// These functions find where a value ends and check no more than that, since a row passes through here on its way to a function that
// decodes it and finds every fault. The scanner of pkg/flowexec/internal/rowjson checks rows exactly. To use it here would take 5 to
// 13 % more instructions for each row, and rows with a fault behind their key would be refused before a function has seen them.

// skipSpace returns the index of the first byte from index i on that is not space, or the row's length.
func skipSpace(row []byte, i int) int {
	for i < len(row) && row[i] <= ' ' && isSpace(row[i]) {
		i++
	}
	return i
}

// isSpace reports whether a character is space between the values of JSON.
func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// skipString returns the index behind the closing quote of the string that begins at index i. It is negative if the
// string has no closing quote.
func skipString(row []byte, i int) int {
	i++
	for i += countPlain(row, i); i < len(row); i++ {
		switch row[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// countPlain counts the bytes from i on that are ASCII and neither a quote nor a backslash. It looks at eight bytes at a
// time, and leaves up to seven bytes at the row's end uncounted.
func countPlain(row []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	start := i
	for ; i+8 <= len(row); i += 8 {
		w := binary.LittleEndian.Uint64(row[i:])
		// A byte of the difference has its high bit set, and one of w not, where the byte is zero; wrongly so only above such a
		// byte.
		quotes, slashes := w^('"'*ones), w^('\\'*ones)
		if found := ((quotes-ones)&^quotes | (slashes-ones)&^slashes | w) & highs; found != 0 {
			return i - start + bits.TrailingZeros64(found)/8
		}
	}
	return i - start
}

// skipValue returns the index behind the value that begins at index i. It is negative if there is no value. It accepts
// any text up to the next comma, closing brace or space as a number or literal, since the caller looks closer at the one
// value that it needs.
func skipValue(row []byte, i int) int {
	if i == len(row) {
		return -1
	}
	switch row[i] {
	case '"':
		return skipString(row, i)
	case '{', '[':
		return skipNested(row, i)
	}
	start := i
	for i < len(row) && row[i] != ',' && row[i] != '}' && row[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipNested returns the index behind the object or array that begins at index i. It is negative if the object or array
// does not end. It does not check that an opening brace is closed by a brace and not by a bracket.
func skipNested(row []byte, i int) int {
	for depth := 0; i >= 0 && i < len(row); {
		switch row[i] {
		case '"':
			i = skipString(row, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// isPlainASCII reports whether each character of the text is ASCII and stands for itself in a JSON string.
func isPlainASCII(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '\\' || c == '"' {
			return false
		}
	}
	return true
}

// isASCII reports whether all characters of the text are ASCII.
func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

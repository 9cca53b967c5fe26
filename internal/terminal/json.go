package terminal

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// JSON returns a JSON text in which the control characters that JSON allows in strings, and that Text shows, are written as \u escapes. The
// values stay the same.
func JSON(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r != '\n' && r != '\t' && hidden(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, text[i:i+size]...)
		}
		i += size
	}
	return out
}

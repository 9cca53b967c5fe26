package expr

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// writer counts the JSON that is written against the budget of a frame.
type writer struct {
	fr *Frame
	at *site
}

// count takes the bytes that were written behind from, and a step, from the budget.
func (w *writer) count(bytes int) bool {
	return w == nil || w.fr.spend(w.at, 1+int64(bytes/16)) && w.fr.grow(w.at, int64(bytes))
}

// AppendJSON appends a value as JSON, as encoding/json writes it without escapes for HTML, like all rows. A missing value is written as null; fields that are missing are not written. It
// takes what it writes from the frame's budget, because a small list may contain another one many times. The error is a *Failure.
func (fr *Frame) AppendJSON(b []byte, v Value) ([]byte, error) {
	b, ok := appendJSON(b, v, &writer{fr, rowSite})
	if !ok {
		return b, fr.failed()
	}
	return b, nil
}

// appendJSON appends a value as JSON. The writer may be nil; then the result is always true.
func appendJSON(b []byte, v Value, w *writer) ([]byte, bool) { return appendNested(b, v, w, 0) }

// appendNested appends a value that stands within depth lists and objects.
func appendNested(b []byte, v Value, w *writer, depth int) ([]byte, bool) {
	if w != nil && depth > maxNesting {
		return b, w.fr.fail(w.at, ReasonBudget, "writes JSON that is nested too deep")
	}
	from := len(b)
	switch v.kind {
	case KindBool:
		b = strconv.AppendBool(b, v.bits != 0)
	case KindInt:
		b = strconv.AppendInt(b, int64(v.bits), 10)
	case KindFloat:
		b = appendFloat(b, math.Float64frombits(v.bits))
	case KindString:
		if !w.count(len(v.text)) {
			return b, false
		}
		return appendQuoted(b, v.text), true
	case KindNumber:
		if !validNumber(v.text) {
			if w != nil {
				return b, w.fr.fail(w.at, ReasonLossy, "JSON has no numbers that are infinite, or not a number")
			}
			return append(b, "null"...), true
		}
		b = append(b, v.text...)
	case KindTime:
		b = append(b, '"')
		b = v.Time().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
	case KindDuration:
		b = append(append(append(b, '"'), v.Duration().String()...), '"')
	case KindList:
		b = append(b, '[')
		for i, element := range v.parts.values {
			if i > 0 {
				b = append(b, ',')
			}
			var ok bool
			if b, ok = appendNested(b, element, w, depth+1); !ok {
				return b, false
			}
		}
		return append(b, ']'), w.count(2)
	case KindObject:
		b = append(b, '{')
		for i, key := range v.parts.keys {
			if i > 0 {
				b = append(b, ',')
			}
			if !w.count(len(key)) {
				return b, false
			}
			b = append(appendQuoted(b, key), ':')
			var ok bool
			if b, ok = appendNested(b, v.parts.values[i], w, depth+1); !ok {
				return b, false
			}
		}
		return append(b, '}'), w.count(2)
	default:
		b = append(b, "null"...)
	}
	return b, w.count(len(b) - from)
}

// appendFloat appends a finite float as encoding/json does.
func appendFloat(b []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1] // e-09 becomes e-9
		b = b[:n-1]
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends a text within double quotes, with the escapes of encoding/json for programs other than browsers: < > and & stay.
func appendQuoted(b []byte, text string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, text[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			b = append(b, text[from:i]...)
			if r == utf8.RuneError {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, `\u202`...)
				b = append(b, hexDigits[r&15])
			}
			from = i + size
		}
		i += size
	}
	return append(append(b, text[from:]...), '"')
}

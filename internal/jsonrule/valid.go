package jsonrule

import "encoding/json"

// Valid reports whether a text is one JSON value, as json.Valid does. It takes a third of the time for the usual texts, and asks json.Valid
// about the others: those with escapes of Unicode, those that are nested deeply, and those with a mistake.
func Valid(text []byte) bool {
	if end := value(text, space(text, 0), 0); end >= 0 && space(text, end) == len(text) {
		return true
	}
	return json.Valid(text)
}

// deep is the depth of nesting from which on Valid asks json.Valid.
const deep = 64

// unsure is what functions return instead of a place in the text, if the value there is wrong or not one of the usual ones.
const unsure = -1

// space returns the place of the first byte at i or behind it that is no space.
func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// value returns the place behind the value that begins at i.
func value(text []byte, i, depth int) int {
	if i >= len(text) || depth > deep {
		return unsure
	}
	switch c := text[i]; {
	case c == '"':
		return quoted(text, i+1)
	case c == '-' || '0' <= c && c <= '9':
		return number(text, i)
	case c == '{':
		return members(text, space(text, i+1), depth+1)
	case c == '[':
		return elements(text, space(text, i+1), depth+1)
	case c == 't':
		return word(text, i, "true")
	case c == 'f':
		return word(text, i, "false")
	case c == 'n':
		return word(text, i, "null")
	}
	return unsure
}

// members returns the place behind an object. i is the place of its first member or of its end.
func members(text []byte, i, depth int) int {
	if i < len(text) && text[i] == '}' {
		return i + 1
	}
	for i < len(text) && text[i] == '"' {
		if i = quoted(text, i+1); i < 0 {
			return unsure
		}
		if i = space(text, i); i >= len(text) || text[i] != ':' {
			return unsure
		}
		if i = value(text, space(text, i+1), depth); i < 0 {
			return unsure
		}
		if i = space(text, i); i >= len(text) {
			return unsure
		}
		switch text[i] {
		case '}':
			return i + 1
		case ',':
			i = space(text, i+1)
		default:
			return unsure
		}
	}
	return unsure
}

// elements returns the place behind an array. i is the place of its first element or of its end.
func elements(text []byte, i, depth int) int {
	if i < len(text) && text[i] == ']' {
		return i + 1
	}
	for {
		if i = value(text, i, depth); i < 0 {
			return unsure
		}
		if i = space(text, i); i >= len(text) {
			return unsure
		}
		switch text[i] {
		case ']':
			return i + 1
		case ',':
			i = space(text, i+1)
		default:
			return unsure
		}
	}
}

// quoted returns the place behind a string. i is the place behind its first quote.
func quoted(text []byte, i int) int {
	for i < len(text) {
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return unsure
		case c == '\\':
			if i++; i >= len(text) {
				return unsure
			}
			switch text[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			default:
				return unsure
			}
		}
		i++
	}
	return unsure
}

// number returns the place behind a number.
func number(text []byte, i int) int {
	if text[i] == '-' {
		i++
	}
	switch {
	case i >= len(text):
		return unsure
	case text[i] == '0':
		i++
	default:
		if i = digits(text, i); i < 0 {
			return unsure
		}
	}
	if i < len(text) && text[i] == '.' {
		if i = digits(text, i+1); i < 0 {
			return unsure
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		return digits(text, i)
	}
	return i
}

// digits returns the place behind digits, of which there must be one at least.
func digits(text []byte, i int) int {
	begin := i
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	if i == begin {
		return unsure
	}
	return i
}

// word returns the place behind a word.
func word(text []byte, i int, w string) int {
	if len(text)-i < len(w) || string(text[i:i+len(w)]) != w {
		return unsure
	}
	return i + len(w)
}

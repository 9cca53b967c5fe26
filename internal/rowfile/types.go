package rowfile

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the kind of values of a field.
type Kind uint8

// The kinds. Any takes every value. JSON is a list or an object.
const (
	Any Kind = iota
	Int
	Float
	Bool
	String
	JSON
)

// Type is the type of a field.
type Type struct {
	Kind Kind
	// Optional says that the field may be null.
	Optional bool
}

// Types are the types of the fields of rows, by name.
type Types map[string]Type

// ParseTypes reads the types of the fields from the text of a row type. The text is that of a Go type, as workers describe their functions
// ("students.Avg{stu_id int, avg_score float64}"), or that of a type in a document ("{stu_id: int, name: string?}"). The result is nil if the
// text tells no fields.
func ParseTypes(text string) (Types, error) {
	open := strings.IndexByte(text, '{')
	if open < 0 {
		return nil, nil
	}
	fields, rest, err := splitFields(text[open+1:])
	if err != nil {
		return nil, fmt.Errorf("read the row type %s: %w", quoted(text), err)
	}
	if strings.TrimSpace(rest) != "" { // several types: each tells its part
		return nil, nil
	}
	types := Types{}
	for _, field := range fields {
		field = strings.TrimSpace(field)
		name, of, ok := strings.Cut(field, ":")
		if !ok || strings.ContainsAny(name, " ") {
			name, of, ok = strings.Cut(field, " ")
		}
		if !ok {
			if field == "" {
				continue
			}
			return nil, fmt.Errorf("read the row type %s: field %s has no type", quoted(text), quoted(field))
		}
		types[strings.Trim(strings.TrimSpace(name), `"'`)] = ParseType(strings.TrimSpace(of))
	}
	return types, nil
}

// splitFields cuts a text at its commas, up to the brace that closes it. Commas within brackets don't count. rest is the text behind the brace.
func splitFields(text string) (fields []string, rest string, err error) {
	depth, begin := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '{', '[', '(':
			depth++
		case ']', ')':
			depth--
		case '}':
			if depth == 0 {
				return append(fields, text[begin:i]), text[i+1:], nil
			}
			depth--
		case ',':
			if depth == 0 {
				fields = append(fields, text[begin:i])
				begin = i + 1
			}
		}
	}
	return nil, "", errors.New("a } is missing")
}

// ParseType returns the type of a field that a text names, in Go's words ("*int") or in those of documents ("int?"). A name that it does not
// know is Any.
func ParseType(text string) Type {
	t := Type{}
	if of, ok := strings.CutPrefix(text, "*"); ok {
		t.Optional, text = true, of
	}
	if of, ok := strings.CutSuffix(text, "?"); ok {
		t.Optional, text = true, of
	}
	switch text {
	case "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64":
		t.Kind = Int
	case "float", "float32", "float64":
		t.Kind = Float
	case "bool":
		t.Kind = Bool
	case "string", "time", "time.Time", "[]uint8", "[]byte":
		t.Kind = String
	default:
		if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "map[") || strings.HasPrefix(text, "{") || strings.HasPrefix(text, "struct") {
			t.Kind = JSON
		}
	}
	return t
}

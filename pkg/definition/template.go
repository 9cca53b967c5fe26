package definition

import (
	"errors"
	"fmt"
	"strings"
)

// Template is a key with row fields in it: "{stu_id}" or "{school}/{stu_id}". A literal brace is written twice.
type Template struct {
	// Text is the template as the document has it.
	Text string
	// Parts are the literals and fields that make up the key, in order.
	Parts []TemplatePart
}

// TemplatePart is a literal, or a row's field: one of the two is set.
type TemplatePart struct{ Literal, Field string }

// ParseTemplate reads a template. The error says what is wrong, not where.
func ParseTemplate(text string) (Template, error) {
	if text == "" {
		return Template{}, errors.New("is empty: write a key such as {stu_id}")
	}
	t := Template{Text: text}
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.Parts = append(t.Parts, TemplatePart{Literal: literal.String()})
			literal.Reset()
		}
	}
	for rest := text; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			literal.WriteByte(rest[0])
			rest = rest[2:]
		case rest[0] == '}':
			return Template{}, errors.New("has a } without its {: a literal brace is written twice")
		case rest[0] == '{':
			field, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return Template{}, errors.New("has a { without its }: a literal brace is written twice")
			}
			if !validFieldName(field) {
				return Template{}, fmt.Errorf("names the field %q, which is no name of a JSON field", field)
			}
			flush()
			t.Parts = append(t.Parts, TemplatePart{Field: field})
			rest = after
		default:
			literal.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	flush()
	return t, nil
}

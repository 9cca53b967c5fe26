package definition

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Template is a key with row fields in it: "{stu_id}" or "{school}/{stu_id}". A field stands in the key as it is spelled in the row;
// with "{stu_id:value}" it goes by value, as shard keys do: 7, 7.0 and 70e-1 are one key. A literal brace is written twice.
type Template struct {
	// Text is the template as the document has it.
	Text string
	// Parts are the literals and fields that make up the key, in order.
	Parts []TemplatePart
}

// TemplatePart is a literal, or a row's field: one of the two is set.
type TemplatePart struct {
	Literal, Field string
	// ByValue: the field goes by its value, and not by its spelling.
	ByValue bool
}

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
			if !jsonrule.ValidName(field) {
				return Template{}, fmt.Errorf("names the field %q, which is no name of a JSON field", field)
			}
			flush()
			part := TemplatePart{Field: field}
			if name, ok := strings.CutSuffix(field, ":value"); ok && name != "" {
				part = TemplatePart{Field: name, ByValue: true}
			}
			t.Parts = append(t.Parts, part)
			rest = after
		default:
			literal.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	flush()
	return t, nil
}

// doubt says which field of a template may be meant as a form that there is not, and why; empty: none. Names of JSON fields may have
// colons, so that documents with such names run.
func (t Template) doubt() string {
	for _, part := range t.Parts {
		if name, form, found := cutLast(part.Field, ":"); found && !part.ByValue {
			return fmt.Sprintf("has {%s}, whose form %s is not known: write {%s}, or {%s:value} for a key that goes by value; a field with a colon in its name is written {%s:value}",
				part.Field, quote(form), name, name, part.Field)
		}
	}
	return ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

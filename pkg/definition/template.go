package definition

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Template is the key of a declared Save or Load, made of literal text and fields of the row, such as "{stu_id}" or
// "{school}/{stu_id}". A field stands in the key as it is spelled in the row. With "{stu_id:value}" it stands there by its
// value, as in shard keys: the spellings 7, 7.0 and 70e-1 give the same key. A literal brace is written twice.
type Template struct {
	// Text is the template as it is written in the document.
	Text string
	// Parts are the literals and fields of the key, in order.
	Parts []TemplatePart
}

// TemplatePart is one piece of a Template: a literal, if Literal is set, or else the row's field with the name Field.
type TemplatePart struct {
	Literal, Field string
	// ByValue means that the field goes by its value, and not by its spelling.
	ByValue bool
}

// ParseTemplate reads a template. The error does not say in which document the template stands.
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
				return Template{}, fmt.Errorf("names the field %q, which can't be the name of a JSON field", field)
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

// doubt returns a message if a field of the template has a form that does not exist, such as {stu_id:number}; otherwise "".
// ParseTemplate takes that for a name with a colon, because names of JSON fields may have colons.
func (t Template) doubt() string {
	for _, part := range t.Parts {
		if name, form, found := cutLast(part.Field, ":"); found && !part.ByValue {
			return fmt.Sprintf("has {%s}, whose form %s is not known: write {%s}, or {%s:value} for a key that goes by value; a field with a colon in its name is written {%s:value}",
				part.Field, quote(form), name, name, part.Field)
		}
	}
	return ""
}

// cutLast splits a text around the last occurrence of sep, as strings.Cut does around the first. found is false if sep does
// not occur.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// templates yields the templates of the function's declared Save and Load, each with the path of its key in the document,
// such as option.save.key.
func (f *Function) templates() iter.Seq2[string, Template] {
	return func(yield func(string, Template) bool) {
		if f.Save != nil && !yield("option.save.key", f.Save.Key) {
			return
		}
		if f.Load != nil {
			yield("option.load.key", f.Load.Key)
		}
	}
}

package admin

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// letterContent is the part of a filter for dead letters that looks at the contents of rows. The zero value lets all letters pass.
type letterContent struct {
	key    []byte // the JSON of the value of the shard key; nil means any
	fields []wantedField
	text   string
}

// wantedField is a field of a row, by the names on the way to it, and the values that it may have.
type wantedField struct {
	path   []string
	values []any // as encoding/json decodes them, with numbers as json.Number
}

// contentOf checks the part of a filter that looks at contents.
func contentOf(f *pb.DeadFilter) (c letterContent, err error) {
	if f.GetKey() != "" {
		field := batch.NewKeyField("key")
		if _, err := field.HashValue([]byte(f.GetKey())); err != nil {
			return c, err
		}
		c.key = []byte(f.GetKey())
	}
	c.text = f.GetText()
	for _, w := range f.GetFields() {
		path := strings.Split(w.GetField(), ".")
		if w.GetField() == "" {
			return c, batch.Errorf(batch.CodeBadMessage, "a field that is searched for has no name: give the names on the way to it, with dots between them")
		}
		field := wantedField{path: path, values: []any{w.GetValue()}} // the text itself
		if v, err := decodeJSON([]byte(w.GetValue())); err == nil {
			field.values = []any{v}
			if _, isText := v.(string); !isText {
				field.values = append(field.values, w.GetValue()) // 007 is looked for as a number and as a text
			}
		}
		c.fields = append(c.fields, field)
	}
	return c, nil
}

// empty reports whether every letter passes.
func (c *letterContent) empty() bool { return c.key == nil && len(c.fields) == 0 && c.text == "" }

// in reports whether a letter has the contents.
func (c *letterContent) in(l *pb.DeadLetter) bool {
	if c.text != "" && !bytes.Contains(l.GetRow(), []byte(c.text)) && !strings.Contains(l.GetReason(), c.text) {
		return false
	}
	if c.key != nil && !c.hasKey(l) {
		return false
	}
	if len(c.fields) == 0 {
		return true
	}
	row, err := decodeJSON(l.GetRow())
	if err != nil {
		return false
	}
	for i := range c.fields {
		if !c.fields[i].in(row, c.fields[i].path) {
			return false
		}
	}
	return true
}

// hasKey reports whether a letter's row has the shard key that is looked for.
func (c *letterContent) hasKey(l *pb.DeadLetter) bool {
	if l.GetShardKey() == "" || l.GetKey() == 0 { // the flow has none, or it is hidden from the caller
		return false
	}
	field := batch.NewKeyField(l.GetShardKey())
	hash, err := field.HashValue(c.key)
	return err == nil && hash == l.GetKey()
}

// in reports whether a value has the field behind path, with one of the values. An array on the way has it if an element has it.
func (w *wantedField) in(value any, path []string) bool {
	if all, ok := value.([]any); ok {
		for _, element := range all {
			if w.in(element, path) {
				return true
			}
		}
		return false
	}
	if len(path) > 0 {
		object, ok := value.(map[string]any)
		if !ok {
			return false
		}
		field, ok := object[path[0]]
		return ok && w.in(field, path[1:])
	}
	for _, want := range w.values {
		if sameScalar(value, want) {
			return true
		}
	}
	return false
}

// sameScalar reports whether two values of JSON are the same text, number, truth value or null. 5 and 5.0 are the same number.
func sameScalar(a, b any) bool {
	x, isNumber := a.(json.Number)
	y, areNumbers := b.(json.Number)
	if isNumber && areNumbers {
		if x == y {
			return true
		}
		f, err := strconv.ParseFloat(string(x), 64)
		g, other := strconv.ParseFloat(string(y), 64)
		return err == nil && other == nil && f == g && strings.ContainsAny(string(x)+string(y), ".eE") // whole numbers differ where their digits do
	}
	switch a.(type) {
	case string, bool, nil:
		return a == b
	}
	return false
}

// decodeJSON decodes a value of JSON; numbers keep their digits.
func decodeJSON(text []byte) (v any, err error) {
	if !json.Valid(text) {
		return nil, batch.Errorf(batch.CodeRowUndecodable, "the text is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

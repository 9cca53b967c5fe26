package casefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// jsonNumber matches a number as JSON writes it.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// json returns a YAML value as JSON, with the fields of objects in their order. A value that JSON does not have is a mistake.
func (r *reader) json(n *yaml.Node, path string) []byte { return r.appendJSON(nil, n, path) }

// appendJSON does the work of json.
func (r *reader) appendJSON(b []byte, n *yaml.Node, path string) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i, e := range r.entries(n, path) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, e.name), ':')
			b = r.appendJSON(b, e.value, e.path)
		}
		return append(b, '}')
	case yaml.SequenceNode:
		b = append(b, '[')
		for i, item := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			b = r.appendJSON(b, r.follow(item), path+"["+strconv.Itoa(i)+"]")
		}
		return append(b, ']')
	}
	text, ok := scalarJSON(n)
	if !ok {
		r.mistake(n.Line, path, "is %s, which JSON can't have: write a text in quotes, or a number in decimal digits", n.Value)
		return append(b, "null"...)
	}
	return append(b, text...)
}

// scalarJSON returns a scalar as JSON. ok is false for a number that JSON does not have, and for a value of another tag, such as binary data.
func scalarJSON(n *yaml.Node) (text []byte, ok bool) {
	switch n.ShortTag() {
	case "!!null":
		return []byte("null"), true
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return strconv.AppendBool(nil, b), err == nil
	case "!!int", "!!float":
		if jsonNumber.MatchString(n.Value) {
			return []byte(n.Value), true
		}
		var number any // such as 0x1F, 1_000 or .5
		if n.Decode(&number) != nil {
			return nil, false
		}
		text, err := json.Marshal(number)
		return text, err == nil && jsonNumber.Match(text)
	case "!!str", "!!timestamp": // JSON has no times: a date is the text that stands there
		return appendText(nil, n.Value), true
	}
	return nil, false
}

// appendText appends a JSON string, without escapes for HTML, as rows have it.
func appendText(b []byte, text string) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic("casefile: encoding a string failed: " + err.Error())
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// decode reads a JSON value; numbers keep all their digits.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more behind the value")
	}
	return v, nil
}

// equal reports whether two JSON values are equal. Numbers are, if they have the same value, however they are written: 87.5 and 87.50.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && sameNumber(a.String(), b.String())
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			if other, ok := b[name]; !ok || !equal(value, other) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any: // of which == is not defined
		return false
	}
	return a == b
}

// sameNumber reports whether two texts are JSON numbers of the same value.
func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	if !jsonNumber.MatchString(a) || !jsonNumber.MatchString(b) {
		return false
	}
	x, errX := batch.KeyText([]byte(a))
	y, errY := batch.KeyText([]byte(b))
	return errX == nil && errY == nil && x == y
}

package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// MaskJSON returns a row of JSON in which the value of each masked field is null. A field is named by the names on the way to it, with dots
// between them; arrays on the way count as their elements. Names match as Go's encoding/json matches them, without regard to case, since a
// function would read the field. A field that is there twice is masked twice. An error says that the row is not JSON; then all of it must
// be hidden.
func MaskJSON(row []byte, fields []string) ([]byte, error) {
	in := json.NewDecoder(bytes.NewReader(row))
	in.UseNumber()
	m := &masker{in: in}
	if err := m.value(paths(fields)); err != nil {
		return nil, err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one value in the row")
	}
	return m.out.Bytes(), nil
}

// paths splits the names of fields at their dots.
func paths(fields []string) [][]string {
	all := make([][]string, len(fields))
	for i, field := range fields {
		all[i] = strings.Split(field, ".")
	}
	return all
}

// maxDepth is how deeply the values of a row may stand within each other, as for encoding/json. Somebody who may submit rows could otherwise
// make those who read them use much memory, since value calls itself for each level.
const maxDepth = 10_000

// masker copies JSON from in to out, token by token.
type masker struct {
	in    *json.Decoder
	out   bytes.Buffer
	depth int // how many arrays and objects are open
}

// value copies one value. masked has the masked fields, by their names from here on.
func (m *masker) value(masked [][]string) error {
	t, err := m.in.Token()
	if err != nil {
		return err
	}
	delim, nested := t.(json.Delim)
	if !nested {
		return m.write(t)
	}
	if m.depth++; m.depth > maxDepth {
		return errors.New("values stand within each other more deeply than any function could read them")
	}
	m.out.WriteRune(rune(delim))
	for n := 0; m.in.More(); n++ {
		if n > 0 {
			m.out.WriteByte(',')
		}
		if delim == '[' {
			if err := m.value(masked); err != nil {
				return err
			}
			continue
		}
		if err := m.field(masked); err != nil {
			return err
		}
	}
	end, err := m.in.Token()
	if err != nil {
		return err
	}
	m.depth--
	m.out.WriteRune(rune(end.(json.Delim))) //nolint:forcetypeassert // More is false only before the end of an object or array
	return nil
}

// field copies one field of an object, or writes null in place of its value if the field is masked.
func (m *masker) field(masked [][]string) error {
	t, err := m.in.Token()
	if err != nil {
		return err
	}
	if err := m.write(t); err != nil {
		return err
	}
	m.out.WriteByte(':')
	var below [][]string
	for _, path := range masked {
		if name, ok := t.(string); !ok || !strings.EqualFold(name, path[0]) {
			continue
		}
		if len(path) == 1 {
			m.out.WriteString("null")
			var skipped json.RawMessage
			return m.in.Decode(&skipped)
		}
		below = append(below, path[1:])
	}
	return m.value(below)
}

// write writes a token that is neither an object nor an array.
func (m *masker) write(t json.Token) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	m.out.Write(text)
	return nil
}

// MasksField reports whether a field of a row is masked, or a part of it, or something that has it.
func MasksField(masks []string, field string) bool {
	given := strings.Split(field, ".")
	return slices.ContainsFunc(paths(masks), func(path []string) bool {
		n := min(len(path), len(given))
		return slices.EqualFunc(path[:n], given[:n], strings.EqualFold)
	})
}

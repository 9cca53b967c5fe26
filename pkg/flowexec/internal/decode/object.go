package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// Object is the list of the fields of a JSON object, in their order in the text. A name may occur twice. A nil Object stands for
// null.
type Object []member

// member is one field of an Object.
type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler. A JSON value that is neither an object nor null is an error.
func (o *Object) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		return fmt.Errorf("it begins with %q", raw[0])
	}
	*o = Object{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		*o = append(*o, member{name.(string), value}) //nolint:forcetypeassert // a key is a string
	}
	return nil
}

// Field returns the value that encoding/json reads into a struct field of the name: the last one of that name that is not null,
// where names that differ only in the case of letters count as equal. It returns false if there is none.
func (o Object) Field(name string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if strings.EqualFold(m.name, name) && string(m.value) != "null" {
			return m.value, true
		}
	}
	return nil, false
}

// byName returns the fields as a map. If a name occurs twice, the last value counts.
func (o Object) byName() map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage, len(o))
	for _, m := range o {
		fields[m.name] = m.value
	}
	return fields
}

// replace prepares fields, which byName returned, for a new value of name. If name is not in it, it deletes the names that
// differ from name only in the case of letters: encoding/json would read them into the same struct field.
func (o Object) replace(fields map[string]json.RawMessage, name string) {
	if _, ok := fields[name]; ok {
		return
	}
	for _, m := range o {
		if strings.EqualFold(m.name, name) {
			delete(fields, m.name)
		}
	}
}

// JSON returns row i as JSON. The bytes must not be changed. It may run code of the row's type.
func (r *Reader) JSON(rs *rows.Set, i int) ([]byte, error) {
	if rs.Vec == nil {
		return r.source(rs, i), nil
	}
	if m, ok := rs.Vec.At(i).(proto.Message); ok {
		return jsonOfMessage(m)
	}
	return r.Types.appendJSON(nil, rs.Vec.At(i))
}

// Object returns the fields of row i's JSON. It is an error if the row is no JSON object; for null the Object is nil. It may run
// code of the row's type.
func (r *Reader) Object(rs *rows.Set, i int) (Object, error) {
	raw, err := r.JSON(rs, i)
	if err != nil {
		return nil, err
	}
	var fields Object
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

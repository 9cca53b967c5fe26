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

// Object is the fields of a row's JSON object, in their order. A name may come twice. Nil stands for null.
type Object []member

// member is one field of an Object.
type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
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

// Field is the value that encoding/json reads into a struct field of that name: the last one that is not null, whatever the case
// of its letters. It returns false if there is none.
func (o Object) Field(name string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if strings.EqualFold(m.name, name) && string(m.value) != "null" {
			return m.value, true
		}
	}
	return nil, false
}

// byName is the fields by their names. Of several values of a name the last one counts.
func (o Object) byName() map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage, len(o))
	for _, m := range o {
		fields[m.name] = m.value
	}
	return fields
}

// replace deletes from fields, which are the Object's by name, those that a function would read as name: if name itself is not
// there, these are the names that differ from it only in case.
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

// Object reads the fields of row i. It may run code of the row's type.
func (r *Reader) Object(rs *rows.Set, i int) (Object, error) {
	var raw []byte
	if rs.Vec == nil {
		raw = r.source(rs, i)
	} else {
		var err error
		if m, ok := rs.Vec.At(i).(proto.Message); ok {
			raw, err = jsonOfMessage(m)
		} else {
			raw, err = r.Types.appendJSON(nil, rs.Vec.At(i))
		}
		if err != nil {
			return nil, err
		}
	}
	var fields Object
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

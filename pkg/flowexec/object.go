package flowexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// object is a row's fields as they stand in its JSON, in order: a name may come twice. nil is null.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *object) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		return fmt.Errorf("it begins with %q", raw[0])
	}
	*o = object{}
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

// field is what encoding/json reads into a field of that name: the last value of the name, whatever the case of its letters,
// that is not null. false: there is none.
func (o object) field(name string) (json.RawMessage, bool) {
	for _, m := range slices.Backward(o) {
		if strings.EqualFold(m.name, name) && string(m.value) != "null" {
			return m.value, true
		}
	}
	return nil, false
}

// byName is the object as a map: the last of several values counts.
func (o object) byName() map[string]json.RawMessage {
	fields := make(map[string]json.RawMessage, len(o))
	for _, m := range o {
		fields[m.name] = m.value
	}
	return fields
}

// replace takes what a name stands for out of fields, which are the object's by name: where the name itself is not there, those that
// differ in case only. A function that reads the name would read them.
func (o object) replace(fields map[string]json.RawMessage, name string) {
	if _, ok := fields[name]; ok {
		return
	}
	for _, m := range o {
		if strings.EqualFold(m.name, name) {
			delete(fields, m.name)
		}
	}
}

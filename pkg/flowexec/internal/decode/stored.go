package decode

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/internal/storetext"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
)

// StoredReader reads the fields that a connector stores under a key into a Go value: a map[string]string, or a struct whose fields have these names
// in JSON. It belongs to one goroutine.
type StoredReader struct {
	// Row is the type of the values.
	Row   reflect.Type
	Types *Types
	known map[string]storedField // a cache for the method field, by name
	raw   []byte                 // a buffer of readWhole
}

// storedField is a field of the type Row, and the function that reads a stored text into it. read is nil if Row has no field of the name.
type storedField struct {
	rowjson.Field
	read func(string, reflect.Value) error
}

// Read reads stored fields into the value at into, which must be a zero value of type Row. Fields that the type does not have are ignored. It may
// run code of the type. After an error the value may be filled in part.
func (r *StoredReader) Read(into unsafe.Pointer, fields []connector.Field) error {
	if r.Row.Kind() == reflect.Map {
		all := make(map[string]string, len(fields))
		for _, f := range fields {
			all[f.Name] = f.Value
		}
		reflect.NewAt(r.Row, into).Elem().Set(reflect.ValueOf(all))
		return nil
	}
	// Names that differ in case only may mean one field: which of them counts must not depend on the store.
	byName := func(a, b connector.Field) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(fields, byName) {
		fields = slices.SortedFunc(slices.Values(fields), byName)
	}
	if _, ok := FieldsOf(r.Row); !ok {
		return r.readWhole(into, fields)
	}
	for _, f := range fields {
		field := r.field(f.Name)
		if field.read == nil {
			continue
		}
		place, err := placeOf(r.Row, into, field.Field)
		if err == nil {
			place.SetZero()
			err = field.read(f.Value, place)
		}
		if err != nil {
			return rowjson.Explain(f.Name, guessedJSON(f.Value), field.Type, err)
		}
	}
	return nil
}

// field returns the field of Row that encoding/json would read a name into. Its read is nil if there is none.
func (r *StoredReader) field(name string) storedField {
	field, ok := r.known[name]
	if !ok {
		fields, _ := FieldsOf(r.Row)
		if found, ok := rowjson.Find(fields, name); ok {
			field = storedField{found, r.Types.TextReader(found.Type)}
		}
		if r.known == nil {
			r.known = make(map[string]storedField)
		}
		r.known[name] = field
	}
	return field
}

// placeOf returns the field f of the struct of type row at base, as a Value that can be set. If f lies in embedded structs behind nil pointers, it
// allocates these. It is an error if a pointer can't be set because its type is not exported.
func placeOf(row reflect.Type, base unsafe.Pointer, f rowjson.Field) (reflect.Value, error) {
	if !f.ThroughPointer {
		return reflect.NewAt(f.Type, unsafe.Add(base, f.Offset)).Elem(), nil
	}
	v := reflect.NewAt(row, base).Elem()
	for _, i := range f.Index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() && !v.CanSet() {
				return v, fmt.Errorf("it is in the embedded pointer to %v, which is not exported and so can't be set: embed the struct, or export its type", v.Type().Elem())
			}
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return reflect.NewAt(f.Type, v.Addr().UnsafePointer()).Elem(), nil
}

// readWhole writes all fields as one JSON object, and reads that with the type's own code, such as UnmarshalJSON.
func (r *StoredReader) readWhole(into unsafe.Pointer, fields []connector.Field) error {
	r.raw = append(r.raw[:0], '{')
	for i, f := range fields {
		if i > 0 {
			r.raw = append(r.raw, ',')
		}
		r.raw = append(append(append(r.raw, quotedJSON(f.Name)...), ':'), guessedJSON(f.Value)...)
	}
	r.raw = append(r.raw, '}')
	return r.Types.codec(r.Row).Decode(r.raw, into)
}

// TextReader returns a function that reads a stored text into a Value of the type of.
func (t *Types) TextReader(of reflect.Type) func(string, reflect.Value) error {
	if read, ok := t.saved.Load(of); ok {
		return read.(func(string, reflect.Value) error)
	}
	read, _ := t.saved.LoadOrStore(of, storetext.Reader(of))
	return read.(func(string, reflect.Value) error)
}

// quotedJSON writes a text as a JSON string.
func quotedJSON(text string) json.RawMessage {
	quoted, err := rowjson.AppendAny(nil, text)
	if err != nil {
		panic(err) // a string can always be written
	}
	return quoted
}

// guessedJSON converts a stored text of unknown type to JSON: it returns the text itself if it is valid JSON, otherwise the text as a JSON string.
func guessedJSON(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return quotedJSON(text)
}

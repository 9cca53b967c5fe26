package flowexec

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/internal/storetext"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// This file is how saved texts become values again: fields of the type that a Load takes, or fields of a row's JSON, which a later
// function reads.

// savedReader reads saved fields into values of one type: map[string]string, or a struct by its fields' JSON names.
type savedReader struct {
	row   reflect.Type
	types *types
	known map[string]savedField // that came before, by name
	raw   []byte                // used again for each value
}

// savedField is how a field is read. read is nil where the type has no such field.
type savedField struct {
	rowjson.Field
	read func(string, reflect.Value) error
}

func (r *savedReader) read(into unsafe.Pointer, fields []connector.Field) error {
	if r.row.Kind() == reflect.Map {
		all := make(map[string]string, len(fields))
		for _, f := range fields {
			all[f.Name] = f.Value
		}
		reflect.NewAt(r.row, into).Elem().Set(reflect.ValueOf(all))
		return nil
	}
	// Names that differ in case only may mean one field: which of them counts must not depend on the store.
	byName := func(a, b connector.Field) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(fields, byName) {
		fields = slices.SortedFunc(slices.Values(fields), byName)
	}
	if _, ok := fieldsOf(r.row); !ok {
		return r.readWhole(into, fields)
	}
	for _, f := range fields {
		field := r.field(f.Name)
		if field.read == nil {
			continue
		}
		place, err := placeOf(r.row, into, field.Field)
		if err == nil {
			place.SetZero()
			err = field.read(f.Value, place)
		}
		if err != nil {
			return fmt.Errorf("%w (the field %s)", err, f.Name)
		}
	}
	return nil
}

// field is the one that encoding/json reads a name into.
func (r *savedReader) field(name string) savedField {
	field, ok := r.known[name]
	if !ok {
		fields, _ := fieldsOf(r.row)
		if found, ok := rowjson.Find(fields, name); ok {
			field = savedField{found, r.types.textReader(found.Type)}
		}
		if r.known == nil {
			r.known = make(map[string]savedField)
		}
		r.known[name] = field
	}
	return field
}

// placeOf is a field of the struct at base. Embedded pointers on the way to it are made.
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

// readWhole reads all fields together, as an object of JSON, with the type's own code.
func (r *savedReader) readWhole(into unsafe.Pointer, fields []connector.Field) error {
	r.raw = append(r.raw[:0], '{')
	for i, f := range fields {
		if i > 0 {
			r.raw = append(r.raw, ',')
		}
		r.raw = append(append(append(r.raw, quotedJSON(f.Name)...), ':'), guessedJSON(f.Value)...)
	}
	r.raw = append(r.raw, '}')
	return r.types.codec(r.row).Decode(r.raw, into)
}

// textReader is how texts become values of a type.
func (t *types) textReader(of reflect.Type) func(string, reflect.Value) error {
	if read, ok := t.saved.Load(of); ok {
		return read.(func(string, reflect.Value) error)
	}
	read, _ := t.saved.LoadOrStore(of, storetext.Reader(of))
	return read.(func(string, reflect.Value) error)
}

func quotedJSON(text string) json.RawMessage {
	quoted, err := rowjson.AppendAny(nil, text)
	if err != nil {
		panic(err) // a string can always be written
	}
	return quoted
}

// guessedJSON is a stored text as JSON where nobody says as what it is to be read: the JSON that it is, or a string if it is none.
func guessedJSON(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return quotedJSON(text)
}

// loadSets are the fields of a row that a declared Load sets.
type loadSets struct {
	fields  []loadSet // by name
	ownCode bool      // to set them may call methods of the user's types
}

// loadSet is one field that a declared Load sets: its name in the row and in the store, and as what it is read: the field of the first
// later function that reads it; where none does, what the document says; else a guess.
type loadSet struct {
	name, from string
	reader     *rowjson.Field
	read       func(string, reflect.Value) error // of the reader's type
	as         definition.LoadType
}

// findSets notes what the declared Loads set, and who reads it.
func (p *Plan) findSets() {
	for _, s := range p.steps {
		if s.load == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(s.load.Fields)) {
			set := loadSet{name: name, from: s.load.Fields[name], as: s.load.Types[name]}
			if reader := p.readerOf(s, name); reader != nil {
				set.reader, set.read = reader, p.types.textReader(reader.Type)
				s.sets.ownCode = s.sets.ownCode || p.types.hasOwnCode(reader.Type)
			}
			s.sets.fields = append(s.sets.fields, set)
		}
	}
}

// readerOf is the field that the first function behind a declared Load reads what it sets into. Functions that take any JSON there leave it
// to later ones, as long as the field may go on to them; jumps are not looked at. nil: none does.
func (p *Plan) readerOf(load *step, name string) *rowjson.Field {
	for _, s := range p.steps[load.index+1:] {
		drops := s.out != nil && s.form != kis.FormFaaS // which may pass on its own rows
		for _, in := range s.in {
			f, ok := fieldOf(in, name)
			if ok && f.Type.Kind() != reflect.Interface && f.Type != rawType {
				return &f
			}
			_, known := fieldsOf(in)
			drops = drops && known && !ok
		}
		if drops || s.load != nil && s.load.Fields[name] != "" {
			return nil
		}
	}
	return nil
}

// fieldOf is the field that encoding/json reads a name into; false: the type has none, or says itself how it is read.
func fieldOf(in reflect.Type, name string) (rowjson.Field, bool) {
	if t := elem(in); t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !hasOwnCode(t, nil) {
		return rowjson.Field{Name: name, Type: t.Elem()}, true
	}
	fields, _ := fieldsOf(in)
	return rowjson.Find(fields, name)
}

// unfitError says that a stored text is not of the type that a document gives it.
type unfitError struct {
	field string
	as    definition.LoadType
}

func (e *unfitError) Error() string {
	return fmt.Sprintf("what is stored for the field %s is no %s, as option.load.types says: correct the type, or what is saved", e.field, e.as)
}

// asJSON is a stored text as it stands in the row. A nil error comes with JSON.
func (set *loadSet) asJSON(text string) (json.RawMessage, error) {
	if set.reader != nil {
		value := set.forReader(text)
		if set.reader.Quoted && !bytes.Equal(value, []byte("null")) {
			return quotedJSON(string(value)), nil
		}
		return value, nil
	}
	raw := []byte(text)
	number := isNumber(text)
	var fits bool
	switch set.as {
	case definition.LoadString:
		return quotedJSON(text), nil
	case definition.LoadInt:
		fits = number && !bytes.ContainsAny(raw, ".eE \t\r\n")
	case definition.LoadFloat:
		fits = number && !bytes.ContainsAny(raw, " \t\r\n")
	case definition.LoadBool:
		fits = text == "true" || text == "false"
	case definition.LoadJSON:
		fits = json.Valid(raw)
	default:
		return guessedJSON(text), nil
	}
	if !fits {
		return nil, &unfitError{set.name, set.as}
	}
	return raw, nil
}

var bytesType = reflect.TypeFor[[]byte]()

// forReader is a text as the JSON that the reader's type reads as the value that was saved.
func (set *loadSet) forReader(text string) json.RawMessage {
	t := set.reader.Type
	base := t
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	switch own := readsOrWritesItself(base) || readsOrWritesItself(t); {
	case t == bytesType:
		// A declared Save stores base64, as it stands in the row's JSON, and a function the bytes themselves.
		if decoded, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && base64.StdEncoding.EncodeToString(decoded) == text {
			return quotedJSON(text)
		}
		return quotedJSON(base64.StdEncoding.EncodeToString([]byte(text)))
	case t.Kind() == reflect.String && !own && t != numberType:
		return quotedJSON(text)
	case own || base != t && base.Kind() == reflect.String:
		value := reflect.New(t)
		if set.read(text, value.Elem()) == nil {
			if written, err := rowjson.AppendAny(nil, value.Interface()); err == nil {
				return written
			}
		}
	}
	if base.Kind() == reflect.String && !(base == numberType && isNumber(text)) || reflect.PointerTo(base).Implements(textUnmarshalerType) {
		return quotedJSON(text)
	}
	return guessedJSON(text)
}

// isNumber reports whether a text is a number of JSON, with or without space around it.
func isNumber(text string) bool {
	if text == "" || !json.Valid([]byte(text)) {
		return false
	}
	first := strings.TrimLeft(text, " \t\r\n")[0]
	return first == '-' || first-'0' <= 9
}

// readsOrWritesItself reports whether a type has methods of its own to be read or written as JSON.
func readsOrWritesItself(t reflect.Type) bool {
	return jsonrule.HasMethods(reflect.PointerTo(t)) || jsonrule.HasMethods(t)
}

package kis

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Serialize is implemented by row types that read and write themselves, with methods on values or on pointers. A type without the
// methods, or with those of an embedded DefaultSerialize, is read and written as JSON. The methods are called on a zero value of
// the type.
type Serialize interface {
	// UnMarshal reads rows as a slice type, and returns a slice with one element for each row. It is called for the slice
	// parameters of FaaS functions, with all rows of a run. If it returns an error or panics, it is called again for each row
	// alone, so that a bad row does not stop the others.
	UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error)
	// Marshal writes a value as a row; of a slice, each element: as JSON in a string or []byte, or as a value of another type. It
	// is called for each row of the type, or pointer to one, that leaves the flow or that a function reads as another type.
	Marshal(value any) ([]any, error)
}

// DefaultSerialize reads and writes rows as JSON. It has no fields: embed it, or use it as it is.
type DefaultSerialize struct{}

// askedDefault is a type that serves to recognize row types which embed DefaultSerialize: the methods of DefaultSerialize return
// errDefault when they are asked to read or write it.
type askedDefault struct{}

// The types and the error by which Reader and Marshaler find out whether a row type has methods of Serialize, and whether these are
// those of DefaultSerialize.
var (
	askedDefaultType = reflect.TypeFor[[]askedDefault]()
	errDefault       = errors.New("this is DefaultSerialize")
	serializeType    = reflect.TypeFor[Serialize]()
)

// UnMarshal reads rows as a slice type. A row of the slice's element type, or a pointer to one, is taken as it is. A string or
// []byte is read as JSON, and any other value as the JSON that it is written as. If the element type is a string, a text that is
// not a JSON string is taken as it is. The error is about the first row that can't be read.
func (*DefaultSerialize) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	if slice == askedDefaultType {
		return reflect.Value{}, errDefault
	}
	if slice == nil || slice.Kind() != reflect.Slice {
		return reflect.Value{}, fmt.Errorf("read rows as %v: ask for a slice", slice)
	}
	read := reflect.MakeSlice(slice, len(rows), len(rows))
	for i, row := range rows {
		if err := readRow(row, read.Index(i)); err != nil {
			return reflect.Value{}, fmt.Errorf("read row %d as %v: %w", i, slice.Elem(), err)
		}
	}
	return read, nil
}

// readRow reads a row into the value into, which must be settable. It reads as DefaultSerialize.UnMarshal does.
func readRow(row any, into reflect.Value) error {
	v := reflect.ValueOf(row)
	switch {
	case !v.IsValid():
		return errors.New("it is nil")
	case v.Type().AssignableTo(into.Type()) && (into.Kind() != reflect.String || v.Type() != stringType):
		into.Set(v)
		return nil
	case v.Kind() == reflect.Pointer && !v.IsNil() && v.Type().Elem() == into.Type():
		into.Set(v.Elem())
		return nil
	}
	var text []byte
	switch row := row.(type) {
	case string:
		text = []byte(row)
		if into.Kind() == reflect.String && (!json.Valid(text) || !isString(text) && !readsItself(into.Type())) {
			into.SetString(row)
			return nil
		}
	case []byte:
		text = row
		if into.Kind() == reflect.String && !readsItself(into.Type()) && !(json.Valid(text) && isString(text)) {
			into.SetString(string(row))
			return nil
		}
	default:
		var err error
		if text, err = json.Marshal(row); err != nil {
			return err
		}
	}
	return json.Unmarshal(text, into.Addr().Interface())
}

var stringType = reflect.TypeFor[string]()

// isString reports whether a text, which must be valid JSON, is a JSON string.
func isString(text []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte(`"`)) }

// readsItself reports whether t or *t has a method UnmarshalJSON or UnmarshalText, by which encoding/json reads it.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// Marshal writes a value as one string of JSON. Of a slice or an array it writes each element as a string.
func (*DefaultSerialize) Marshal(value any) ([]any, error) {
	if value == (any)(askedDefault{}) {
		return nil, errDefault
	}
	list := reflect.ValueOf(value)
	if !list.IsValid() || list.Kind() != reflect.Slice && list.Kind() != reflect.Array {
		text, err := asJSON(value)
		if err != nil {
			return nil, fmt.Errorf("write %T as JSON: %w", value, err)
		}
		return []any{text}, nil
	}
	rows := make([]any, list.Len())
	for i := range rows {
		text, err := asJSON(list.Index(i).Interface())
		if err != nil {
			return nil, fmt.Errorf("write row %d as JSON: %w", i, err)
		}
		rows[i] = text
	}
	return rows, nil
}

// asJSON writes a value as encoding/json does, except that '<', '>' and '&' stay as they are.
func asJSON(value any) (string, error) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return strings.TrimSuffix(text.String(), "\n"), err
}

// serializer returns a zero value of a row type, as a Serialize, if a pointer to the type has the methods of Serialize. For other
// types it returns nil. The row type *T counts as T.
func serializer(row reflect.Type) Serialize {
	if row.Kind() == reflect.Pointer {
		row = row.Elem()
	}
	if row.Kind() == reflect.Interface || !reflect.PointerTo(row).Implements(serializeType) {
		return nil
	}
	return reflect.New(row).Interface().(Serialize)
}

// Reader returns a Serialize whose UnMarshal reads rows of a type. nil means that the rows are read as JSON: the type has no
// methods of Serialize, or those of DefaultSerialize.
func Reader(row reflect.Type) Serialize {
	s := serializer(row)
	if s == nil {
		return nil
	}
	if _, err := ReadRows(s, nil, askedDefaultType); isDefault(err) {
		return nil
	}
	return s
}

// isDefault reports whether err is errDefault, the answer of DefaultSerialize. If a method of err panics, it is not: err may be an
// error of user code.
func isDefault(err error) (is bool) {
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	return errors.Is(err, errDefault)
}

// Marshaler returns a Serialize whose Marshal writes rows of a type. nil means that the rows are written as JSON: the type has no
// methods of Serialize, or those of DefaultSerialize.
func Marshaler(row reflect.Type) Serialize {
	s := serializer(row)
	if s == nil {
		return nil
	}
	if _, err := WriteRow(s, askedDefault{}); isDefault(err) {
		return nil
	}
	return s
}

// WriteRow writes one row with s.Marshal. It is an error if Marshal panics, or if it does not return exactly one row that is not
// nil.
func WriteRow(s Serialize, row any) (written any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T.Marshal: %w", s, newPanic(p))
		}
	}()
	rows, err := s.Marshal(row)
	switch {
	case err != nil:
		return nil, err
	case len(rows) != 1 || rows[0] == nil:
		return nil, fmt.Errorf("%T.Marshal made %d rows of one: return exactly one row, which is not nil", s, len(rows))
	}
	return rows[0], nil
}

// ReadRows reads rows with s.UnMarshal, as the type slice. It is an error if UnMarshal panics, or if it returns a value that is not
// a slice with the same element type. The number of elements is not checked.
func ReadRows(s Serialize, rows []any, slice reflect.Type) (read reflect.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T.UnMarshal: %w", s, newPanic(p))
		}
	}()
	if read, err = s.UnMarshal(rows, slice); err != nil {
		return reflect.Value{}, err
	}
	if !read.IsValid() || read.Kind() != reflect.Slice || read.Type().Elem() != slice.Elem() {
		return reflect.Value{}, fmt.Errorf("%T.UnMarshal returned no %v", s, slice)
	}
	return read, nil
}

// newPanic makes an error of a recovered panic.
func newPanic(value any) error { return fmt.Errorf("panic: %v", value) }

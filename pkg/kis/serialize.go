package kis

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// Serialize is how a row type reads rows in FaaS functions, if it has these methods, on values or on pointers; a type that
// has not, or has them from an embedded DefaultSerialize, is read as JSON. A flow calls UnMarshal only, with all rows of a
// run; when that returns an error or panics, row by row, so that a bad row costs no other.
type Serialize interface {
	// UnMarshal reads rows as a slice type, one element for each.
	UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error)
	// Marshal writes a value, or each element of a slice, as a row.
	Marshal(value any) ([]any, error)
}

// DefaultSerialize reads and writes rows as JSON. It holds nothing: embed it, or use it as it is.
type DefaultSerialize struct{}

// askedDefault is what only DefaultSerialize answers, with isDefault.
type askedDefault struct{}

var (
	askedDefaultType = reflect.TypeFor[[]askedDefault]()
	isDefault        = errors.New("this is DefaultSerialize")
	serializeType    = reflect.TypeFor[Serialize]()
)

// UnMarshal reads rows as a slice type: those that are of its element type, or point to it, as they are, texts as JSON, and
// others as the JSON that they are written as. The error is about the first row that can't be read so.
func (*DefaultSerialize) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	if slice == askedDefaultType {
		return reflect.Value{}, isDefault
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

func readRow(row any, into reflect.Value) error {
	v := reflect.ValueOf(row)
	switch {
	case !v.IsValid():
		return errors.New("it is nil")
	case v.Type().AssignableTo(into.Type()) && into.Kind() != reflect.String:
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
		if into.Kind() == reflect.String && !json.Valid(text) {
			into.SetString(row)
			return nil
		}
	case []byte:
		text = row
	default:
		var err error
		if text, err = json.Marshal(row); err != nil {
			return err
		}
	}
	return json.Unmarshal(text, into.Addr().Interface())
}

// Marshal writes a value, or each element of a slice or array, as a text of JSON.
func (*DefaultSerialize) Marshal(value any) ([]any, error) {
	list := reflect.ValueOf(value)
	if !list.IsValid() || list.Kind() != reflect.Slice && list.Kind() != reflect.Array {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write %T as JSON: %w", value, err)
		}
		return []any{string(text)}, nil
	}
	rows := make([]any, list.Len())
	for i := range rows {
		text, err := json.Marshal(list.Index(i).Interface())
		if err != nil {
			return nil, fmt.Errorf("write row %d as JSON: %w", i, err)
		}
		rows[i] = string(text)
	}
	return rows, nil
}

// serializerOf is the row type's own way to read rows; nil: JSON.
func serializerOf(row reflect.Type) Serialize {
	if row.Kind() == reflect.Pointer {
		row = row.Elem()
	}
	if row.Kind() == reflect.Interface || !reflect.PointerTo(row).Implements(serializeType) {
		return nil
	}
	s := reflect.New(row).Interface().(Serialize)
	if _, err := ReadRows(s, nil, askedDefaultType); errors.Is(err, isDefault) {
		return nil
	}
	return s
}

// ReadRows has s read rows as a slice type. It is an error too if that panics or returns something else.
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

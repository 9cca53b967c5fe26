package decode

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unicode/utf8"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Types are the codecs and converters of the row types of a plan. Each is made when it is first needed. The zero value is ready for use, and safe for
// concurrent use.
type Types struct {
	codecs     sync.Map // reflect.Type → *rowjson.Codec
	texts      sync.Map // reflect.Type → *rowjson.Codec, for string types that take any row as its text
	converters sync.Map // [2]reflect.Type → *rowjson.Converter
	marshalers sync.Map // reflect.Type → kis.Serialize, nil for none
	saved      sync.Map // reflect.Type → func(string, reflect.Value) error: storetext.Reader's
	own        sync.Map // reflect.Type → bool: reading or writing it may call methods of the user's
}

// codec is the codec of a row type.
func (t *Types) codec(row reflect.Type) *rowjson.Codec {
	if c, ok := t.codecs.Load(row); ok {
		return c.(*rowjson.Codec)
	}
	c, _ := t.codecs.LoadOrStore(row, rowjson.For(row))
	return c.(*rowjson.Codec)
}

// converter turns rows of one type into rows of another.
func (t *Types) converter(from, to reflect.Type) *rowjson.Converter {
	key := [2]reflect.Type{from, to}
	if c, ok := t.converters.Load(key); ok {
		return c.(*rowjson.Converter)
	}
	c, _ := t.converters.LoadOrStore(key, rowjson.NewConverter(from, to))
	return c.(*rowjson.Converter)
}

// marshaler is a row type's own way to write rows (KisFlow's Serialize); nil if it has none.
func (t *Types) marshaler(row reflect.Type) kis.Serialize {
	if row == nil {
		return nil
	}
	if m, ok := t.marshalers.Load(row); ok {
		return m.(marshaler).own
	}
	m, _ := t.marshalers.LoadOrStore(row, marshaler{kis.Marshaler(row)})
	return m.(marshaler).own
}

// marshaler lets a sync.Map hold a nil kis.Serialize.
type marshaler struct{ own kis.Serialize }

// written is a row as its type writes it (KisFlow's Serialize). It is the row itself if the type does not say how.
func (t *Types) written(row any) (any, error) {
	own := t.marshaler(reflect.TypeOf(row))
	if own == nil {
		return row, nil
	}
	text, err := kis.WriteRow(own, row)
	if err == nil && t.marshaler(reflect.TypeOf(text)) != nil {
		err = fmt.Errorf("%T.Marshal made a %T, which has a Marshal too: return JSON as a string", own, text)
	}
	return text, err
}

// reader is the codec for rows that a step reads as a type. A function that gets all rows at once and takes strings gets every row
// as its text, unless it is a JSON string.
func (t *Types) reader(in *Input, row reflect.Type) *rowjson.Codec {
	if in.GetsAll && rowjson.IsText(row) {
		return t.text(row)
	}
	return t.codec(row)
}

// text is the codec of a string type that takes any row as its text.
func (t *Types) text(row reflect.Type) *rowjson.Codec {
	if c, ok := t.texts.Load(row); ok {
		return c.(*rowjson.Codec)
	}
	c, _ := t.texts.LoadOrStore(row, rowjson.ForText(row))
	return c.(*rowjson.Codec)
}

// convertAny turns a row of any type into a row of the type to, at into, which must be zero. codec is the codec of that type.
func (t *Types) convertAny(row any, codec *rowjson.Codec, to reflect.Type, into unsafe.Pointer) error {
	switch of := reflect.TypeOf(row); {
	case of == nil:
		return errors.New("it is nil")
	case of.Kind() == reflect.Pointer && reflect.ValueOf(row).IsNil():
		return fmt.Errorf("it is a nil %v", of)
	case elem(of) != to:
		var err error
		if row, err = t.written(row); err != nil {
			return err
		}
	}
	switch v := row.(type) {
	case string:
		if to.Kind() == reflect.String && !json.Valid([]byte(v)) {
			reflect.NewAt(to, into).Elem().SetString(v)
			return nil
		}
		return codec.DecodeString(v, into)
	case []byte:
		return codec.Decode(v, into)
	case json.RawMessage:
		return codec.Decode(v, into)
	}
	v := reflect.ValueOf(row)
	target := reflect.NewAt(to, into).Elem()
	switch {
	case v.Type() == to:
		target.Set(v)
		return nil
	case v.Kind() == reflect.Pointer && v.Type().Elem() == to:
		target.Set(v.Elem())
		return nil
	case v.Kind() == reflect.Pointer:
		return t.converter(v.Type().Elem(), to).Convert(into, v.UnsafePointer())
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return t.converter(v.Type(), to).Convert(into, p.UnsafePointer())
}

// appendJSON appends a row of any type to dst as JSON. A string, []byte or json.RawMessage is taken for JSON; a string that is not
// JSON is written as a JSON string.
func (t *Types) appendJSON(dst []byte, row any) ([]byte, error) {
	if text, ok := row.(string); ok && utf8.ValidString(text) {
		out, err := appendRaw(dst, []byte(text))
		if err != nil {
			return rowjson.AppendAny(dst, text)
		}
		return out, nil
	}
	row, err := t.written(row)
	if err != nil {
		return dst, err
	}
	switch v := row.(type) {
	case string:
		return appendRaw(dst, []byte(v))
	case []byte:
		return appendRaw(dst, v)
	case json.RawMessage:
		return appendRaw(dst, v)
	}
	// A struct is written through a pointer, also if the function passes on the struct itself, so that methods with pointer receivers count.
	switch v := reflect.ValueOf(row); {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && !v.IsNil():
		return t.codec(v.Type().Elem()).Append(dst, v.UnsafePointer())
	case v.Kind() == reflect.Struct:
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		return t.codec(v.Type()).Append(dst, p.UnsafePointer())
	}
	return rowjson.AppendAny(dst, row)
}

// appendRaw appends a row that is JSON already to dst.
func appendRaw(dst, row []byte) ([]byte, error) {
	if _, ok := rowjson.Value(row); !ok && !json.Valid(row) {
		return dst, errors.New("what the function passed on is not JSON")
	}
	return append(dst, row...), nil
}

// elem is the type that a pointer type points to, or the type itself.
func elem(row reflect.Type) reflect.Type {
	if row.Kind() == reflect.Pointer {
		return row.Elem()
	}
	return row
}

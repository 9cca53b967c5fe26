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

// Types caches the codecs and converters for the row types of a plan. Each is made when it is first needed. The zero value is ready for use. It is
// safe for concurrent use.
type Types struct {
	codecs     sync.Map // reflect.Type → *rowjson.Codec
	texts      sync.Map // reflect.Type → *rowjson.Codec, for string types that take any row as its text
	converters sync.Map // [2]reflect.Type → *rowjson.Converter
	marshalers sync.Map // reflect.Type → kis.Serialize, nil for none
	saved      sync.Map // reflect.Type → func(string, reflect.Value) error: storetext.Reader's
	own        sync.Map // reflect.Type → bool: reading or writing it may call methods of the user's
}

// codec returns the codec that reads and writes rows of a type as JSON.
func (t *Types) codec(row reflect.Type) *rowjson.Codec {
	if c, ok := t.codecs.Load(row); ok {
		return c.(*rowjson.Codec)
	}
	c, _ := t.codecs.LoadOrStore(row, rowjson.For(row))
	return c.(*rowjson.Codec)
}

// converter returns the converter that makes rows of type to of rows of type from.
func (t *Types) converter(from, to reflect.Type) *rowjson.Converter {
	key := [2]reflect.Type{from, to}
	if c, ok := t.converters.Load(key); ok {
		return c.(*rowjson.Converter)
	}
	c, _ := t.converters.LoadOrStore(key, rowjson.NewConverter(from, to))
	return c.(*rowjson.Converter)
}

// marshaler returns the Serialize that writes rows of a type, if the type implements KisFlow's Serialize; otherwise nil.
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

// written returns what the Marshal method of a row's type (KisFlow's Serialize) makes of the row. If the type has none, it returns the row itself.
// It is an error if Marshal fails, or if it returns a value whose type has a Marshal method too.
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

// reader returns the codec with which a step reads rows of the Go type row. If the step's function gets all rows at once and row
// is a string type, a row that is not a JSON string is read as its JSON text.
func (t *Types) reader(in *Input, row reflect.Type) *rowjson.Codec {
	if in.GetsAll && rowjson.IsText(row) {
		return t.text(row)
	}
	return t.codec(row)
}

// text returns a codec for a string type that reads a JSON string as its value, and any other row as its JSON text.
func (t *Types) text(row reflect.Type) *rowjson.Codec {
	if c, ok := t.texts.Load(row); ok {
		return c.(*rowjson.Codec)
	}
	c, _ := t.texts.LoadOrStore(row, rowjson.ForText(row))
	return c.(*rowjson.Codec)
}

// convertAny converts a row of any type to the type to, and writes it to the memory at into, which must be zero. codec is the codec with which
// rows that are JSON text are read as that type.
func (t *Types) convertAny(row any, codec *rowjson.Codec, to reflect.Type, into unsafe.Pointer) error {
	switch of := reflect.TypeOf(row); {
	case of == nil:
		return errors.New("it is nil")
	case of.Kind() == reflect.Pointer && reflect.ValueOf(row).IsNil():
		return errors.New("it is nil")
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

// appendJSON appends a row of any type to dst as JSON. If the row's type has a method Marshal (KisFlow's Serialize), it appends what that returns.
// A string, []byte or json.RawMessage is taken for JSON: if it is not, a string that a function passed on is written as a JSON string, and
// anything else is an error.
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

// appendRaw appends a row that should be JSON already to dst. It is an error if it is not valid JSON.
func appendRaw(dst, row []byte) ([]byte, error) {
	if _, ok := rowjson.Value(row); !ok && !json.Valid(row) {
		return dst, errors.New("what the function passed on is not JSON")
	}
	return append(dst, row...), nil
}

// elem returns the type that a pointer type points to. Any other type it returns as it is.
func elem(row reflect.Type) reflect.Type {
	if row.Kind() == reflect.Pointer {
		return row.Elem()
	}
	return row
}

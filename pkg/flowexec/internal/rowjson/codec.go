// Package rowjson reads rows from JSON, writes them, and turns rows of one type into rows of another, all as encoding/json
// does, with one difference: '<', '>' and '&' are written as they are, as they stand in rows that pass on as they came. Structs of
// plain fields are dealt with by code that is compiled once for each type; what that is in doubt about is left to encoding/json,
// row by row.
package rowjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unsafe"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Codec reads and writes rows of one type. It is immutable and safe for concurrent use.
type Codec struct {
	row reflect.Type
	// refuseNull: null would leave the row as if it had been empty.
	refuseNull bool
	// raw: the row is json.RawMessage, which keeps its JSON as it came.
	raw bool
	// text: the row is a string, and JSON that is no string is the text that it is.
	text   bool
	fields []field // nil: encoding/json does it all
	plain  bool    // all fields are read without code of their own, which might keep the row's bytes
}

var (
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	numberType      = reflect.TypeFor[json.Number]()
	rawType         = reflect.TypeFor[json.RawMessage]()
)

// For makes the codec of a row type.
func For(row reflect.Type) *Codec {
	c := &Codec{row: row, raw: row == rawType}
	c.refuseNull = row.Kind() == reflect.Struct && !reflect.PointerTo(row).Implements(unmarshalerType)
	if row.Kind() == reflect.Struct && !marshalsItself(row) {
		c.fields = compile(row)
		c.plain = !slices.ContainsFunc(c.fields, func(f field) bool { return f.kind == kindOther })
	}
	return c
}

// IsText reports whether rows of a type are strings, without methods of their own to read or write them.
func IsText(row reflect.Type) bool {
	return row.Kind() == reflect.String && !marshalsItself(row) && row != numberType
}

// ForText makes a codec of a type that IsText says, which reads JSON that is no string, and what is no JSON, as the text that it is.
func ForText(row reflect.Type) *Codec { return &Codec{row: row, text: true} }

// marshalsItself reports whether a type, or a pointer to it, reads or writes its own JSON.
func marshalsItself(t reflect.Type) bool { return jsonrule.HasMethods(reflect.PointerTo(t)) }

var errNull = errors.New("the row is null")

// Decode reads a row into the zero value at into. A json.RawMessage gets the row's own bytes, not a copy.
func (c *Codec) Decode(row []byte, into unsafe.Pointer) error {
	if _, ok := c.Try(row, into); ok {
		return nil
	}
	return c.Slow(row, into)
}

// DecodeString is Decode of a text. A json.RawMessage gets a copy.
func (c *Codec) DecodeString(row string, into unsafe.Pointer) error {
	if c.plain {
		if _, ok := c.Try(unsafe.Slice(unsafe.StringData(row), len(row)), into); ok {
			return nil
		}
	}
	return c.Decode([]byte(row), into)
}

// Must is a set of fields that a row is to have.
type Must uint64

// Must makes the set of these fields; false: the codec can't tell whether a row has them.
func (c *Codec) Must(names []string) (Must, bool) {
	var must Must
	for _, name := range names {
		place := slices.IndexFunc(c.fields, func(f field) bool { return f.name == name })
		if place < 0 || place >= 64 {
			return 0, false
		}
		must |= 1 << place
	}
	return must, true
}

// Slow is Decode after a Try that left doubt: it is encoding/json. A panic of a type's own UnmarshalJSON is an error.
func (c *Codec) Slow(row []byte, into unsafe.Pointer) error {
	if c.refuseNull && isNull(row) {
		return errNull
	}
	if c.raw && json.Valid(row) {
		*(*json.RawMessage)(into) = slices.Clip(bytes.Trim(row, " \t\r\n"))
		return nil
	}
	target := reflect.NewAt(c.row, into)
	if i := skipSpace(row, 0); c.text && (i == len(row) || row[i] != '"' || !json.Valid(row)) {
		target.Elem().SetString(string(row))
		return nil
	}
	if c.fields != nil {
		target.Elem().SetZero() // decode may have begun to fill it
	}
	return unmarshal(row, target)
}

// unmarshal is encoding/json's, with a panic of a type's own code as an error.
func unmarshal(text []byte, into reflect.Value) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it into %s panicked: %v", into.Type().Elem(), p)
		}
	}()
	return json.Unmarshal(text, into.Interface())
}

func isNull(row []byte) bool {
	i := skipSpace(row, 0)
	return len(row)-i >= 4 && string(row[i:i+4]) == "null" && skipSpace(row, i+4) == len(row)
}

// Append writes the row at from behind dst. After an error dst is as it was.
func (c *Codec) Append(dst []byte, from unsafe.Pointer) ([]byte, error) {
	if c.fields != nil {
		if out, ok := c.encode(dst, from); ok {
			return out, nil
		}
	}
	return AppendAny(dst, reflect.NewAt(c.row, from).Interface())
}

// AppendAny writes a row of whatever type behind dst. A panic of a type's own MarshalJSON is an error. After an error dst is as
// it was.
func AppendAny(dst []byte, row any) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("writing %T panicked: %v", row, p)
		}
	}()
	e, ok := encoders.Get().(*encoder)
	if !ok {
		e = newEncoder()
	}
	e.text.Reset()
	if err := e.json.Encode(row); err != nil {
		encoders.Put(e)
		return dst, err
	}
	text := e.text.Bytes()
	out = append(dst, text[:len(text)-1]...) // without the line's end that it writes
	if e.text.Cap() <= maxKept {
		encoders.Put(e)
	}
	return out, nil
}

// encoder is encoding/json's, which leaves '<', '>' and '&' alone. One goroutine has it at a time; one that panicked is dropped.
type encoder struct {
	text bytes.Buffer
	json *json.Encoder
}

func newEncoder() *encoder {
	e := new(encoder)
	e.json = json.NewEncoder(&e.text)
	e.json.SetEscapeHTML(false)
	return e
}

var encoders sync.Pool // of *encoder

// maxKept is the largest buffer, in bytes, that is kept for the next row.
const maxKept = 64 << 10

// kind is how a field is read and written.
type kind uint8

const (
	kindOther kind = iota // by encoding/json
	kindString
	kindBool
	kindInt
	kindInt8
	kindInt16
	kindInt32
	kindInt64
	kindUint
	kindUint8
	kindUint16
	kindUint32
	kindUint64
	kindFloat32
	kindFloat64
)

var kinds = map[reflect.Kind]kind{
	reflect.String: kindString, reflect.Bool: kindBool,
	reflect.Int: kindInt, reflect.Int8: kindInt8, reflect.Int16: kindInt16, reflect.Int32: kindInt32, reflect.Int64: kindInt64,
	reflect.Uint: kindUint, reflect.Uint8: kindUint8, reflect.Uint16: kindUint16, reflect.Uint32: kindUint32, reflect.Uint64: kindUint64,
	reflect.Float32: kindFloat32, reflect.Float64: kindFloat64,
}

// field is a field of a compiled struct.
type field struct {
	name      string
	lead      string // `,"name":`
	kind      kind
	offset    uintptr
	typ       reflect.Type
	omitEmpty bool
}

// compile is the fields of a struct type; nil: encoding/json has to read and write it.
func compile(row reflect.Type) []field {
	fields := make([]field, 0, 8)
	for _, f := range Fields(row) {
		if f.ThroughPointer || f.Hidden || f.Quoted || f.OmitZero || !plainName(f.Name) {
			return nil
		}
		fields = append(fields, field{
			name: f.Name, lead: `,"` + f.Name + `":`, kind: kindOf(f.Type), offset: f.Offset, typ: f.Type, omitEmpty: f.OmitEmpty,
		})
	}
	return fields
}

// plainName reports whether a name stands in JSON as it is, and has no other spellings than in the case of its ASCII letters.
func plainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

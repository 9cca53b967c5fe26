package rowjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
)

// Codec reads and writes rows of one type. It is immutable and safe for concurrent use.
type Codec struct {
	row reflect.Type
	// refuseNull says that the row null is an error: encoding/json would leave the row empty.
	refuseNull bool
	// raw says that the row type is json.RawMessage, which keeps the JSON as it came.
	raw bool
	// text says that the row type is a string, and that JSON which is no string is read as the text that it is.
	text bool
	// members says that the row type is map[string]any, without methods.
	members bool
	// fields are the fields of a compiled struct; nil means that encoding/json reads and writes the rows.
	fields []field
	// plain says that no field is read by a method of its own, which might keep the bytes of the row.
	plain bool
}

// The codec treats these types in special ways.
var (
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	membersType     = reflect.TypeFor[map[string]any]()
	numberType      = reflect.TypeFor[json.Number]()
	rawType         = reflect.TypeFor[json.RawMessage]()
)

// For returns a new codec for a row type. The type may be any that encoding/json can handle.
func For(row reflect.Type) *Codec {
	c := &Codec{row: row, raw: row == rawType, members: row == membersType}
	c.refuseNull = row.Kind() == reflect.Struct && !reflect.PointerTo(row).Implements(unmarshalerType)
	if row.Kind() == reflect.Struct && !marshalsItself(row) {
		c.fields = compile(row)
		c.plain = !slices.ContainsFunc(c.fields, func(f field) bool { return f.kind == kindOther })
	}
	return c
}

// IsText reports whether a row type is a string type without methods to read or write itself as JSON. json.Number is none.
func IsText(row reflect.Type) bool {
	return row.Kind() == reflect.String && !marshalsItself(row) && row != numberType
}

// ForText returns a new codec for a row type for which IsText is true. The codec reads a JSON string as its value, and any other row as its
// own bytes: the row {"a":1} becomes the string {"a":1}.
func ForText(row reflect.Type) *Codec { return &Codec{row: row, text: true} }

// marshalsItself reports whether t or *t has methods by which encoding/json reads or writes it, such as MarshalJSON.
func marshalsItself(t reflect.Type) bool { return jsonrule.HasMethods(reflect.PointerTo(t)) }

// errNull is the error for a row that is null, where encoding/json would leave the struct empty without an error.
var errNull = &Misfit{Must: "an object", Is: "null"}

// Decode reads a row of JSON into the value at into, which must be zero. A json.RawMessage shares the memory of row.
func (c *Codec) Decode(row []byte, into unsafe.Pointer) error {
	if _, ok := c.Try(row, into); ok {
		return nil
	}
	return c.Slow(row, into)
}

// DecodeString does the same as Decode for a row in a string. A json.RawMessage gets a copy.
func (c *Codec) DecodeString(row string, into unsafe.Pointer) error {
	if c.plain {
		if _, ok := c.Try(unsafe.Slice(unsafe.StringData(row), len(row)), into); ok {
			return nil
		}
	}
	return c.Decode([]byte(row), into)
}

// Must is a set of fields that each row has to have. Bit i stands for the i-th field of the codec's struct.
type Must uint64

// Has reports whether a row has all fields of the set. seen is the first result of Codec.Try for the row.
func (m Must) Has(seen uint64) bool { return Must(seen)&m == m }

// Must returns the set of the named fields. It returns false if the codec can't tell whether a row has them all: encoding/json reads the
// rows, or a name is not among the first 64 fields.
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

// Try does the same as Decode, but without the help of encoding/json for the row as a whole. It returns false if it can't be sure of the
// result; the value at into may be filled in part then, and the caller has to call Slow. In seen, bit i is set if the i-th field got a
// value other than null.
func (c *Codec) Try(row []byte, into unsafe.Pointer) (seen uint64, ok bool) {
	if c.raw {
		value, ok := Value(row)
		*(*json.RawMessage)(into) = value
		return 0, ok
	}
	if c.members {
		value, ok := decodeMembers(row)
		if ok {
			*(*map[string]any)(into) = value
		}
		return 0, ok
	}
	if c.fields == nil {
		return 0, false
	}
	return c.decode(row, into)
}

// Slow does the same as Decode, with encoding/json. It is for rows for which Try returned false. A panic in a type's own UnmarshalJSON
// becomes an error. The error is a *Misfit.
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
	if err := unmarshal(row, target); err != nil {
		return Explain("", row, c.row, err)
	}
	return nil
}

// isNull reports whether a row is the JSON value null. Space around it is allowed.
func isNull(row []byte) bool {
	i := skipSpace(row, 0)
	return len(row)-i >= 4 && string(row[i:i+4]) == "null" && skipSpace(row, i+4) == len(row)
}

// Append appends the row at from to dst, as JSON. After an error it returns dst as it was.
func (c *Codec) Append(dst []byte, from unsafe.Pointer) ([]byte, error) {
	if c.fields != nil {
		if out, ok := c.encode(dst, from); ok {
			return out, nil
		}
	}
	return AppendAny(dst, reflect.NewAt(c.row, from).Interface())
}

// plain reports whether values of the kind are strings, bools or numbers.
func (k kind) plain() bool { return k != kindOther && k != kindDynamic }

// kind says how compiled code reads and writes a field: as a Go type of that name, or not at all (kindOther).
type kind uint8

// Each kind but kindOther is that of the Go type with the same name.
const (
	// kindOther is the kind of a field that encoding/json reads and writes.
	kindOther kind = iota
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
	// kindDynamic is the kind of Dynamic.
	kindDynamic
)

// kinds maps each Go kind that compiled code handles to its kind. A lookup of another Go kind gives kindOther.
var kinds = map[reflect.Kind]kind{
	reflect.String: kindString, reflect.Bool: kindBool,
	reflect.Int: kindInt, reflect.Int8: kindInt8, reflect.Int16: kindInt16, reflect.Int32: kindInt32, reflect.Int64: kindInt64,
	reflect.Uint: kindUint, reflect.Uint8: kindUint8, reflect.Uint16: kindUint16, reflect.Uint32: kindUint32, reflect.Uint64: kindUint64,
	reflect.Float32: kindFloat32, reflect.Float64: kindFloat64,
}

// kindOf returns the kind of a field of type t.
func kindOf(t reflect.Type) kind {
	switch t {
	case dynamicType:
		return kindDynamic
	case exactType:
		return kindFloat64
	}
	if marshalsItself(t) || t == numberType {
		return kindOther
	}
	return kinds[t.Kind()]
}

// field is one field of a compiled struct.
type field struct {
	name string
	// prefix is the text before the field's value: `,"name":`.
	prefix    string
	kind      kind
	offset    uintptr
	typ       reflect.Type
	omitEmpty bool
	// exact says that typ is Exact. needed says that a row without the field, or with null there, can't be converted to the struct: see Made.
	exact, needed bool
}

// compile returns the fields of a struct type for compiled code. nil means that compiled code can't handle the struct, so that
// encoding/json reads and writes it. A struct without fields gives an empty list.
func compile(row reflect.Type) []field {
	fields := make([]field, 0, 8)
	for _, f := range Fields(row) {
		if f.ThroughPointer || f.Hidden || f.Quoted || f.OmitZero && f.Type != dynamicType || !plainName(f.Name) {
			return nil
		}
		fields = append(fields, field{
			name: f.Name, prefix: `,"` + f.Name + `":`, kind: kindOf(f.Type), offset: f.Offset, typ: f.Type,
			omitEmpty: f.OmitEmpty || f.OmitZero, // omitzero is an option of Dynamic alone
			exact:     f.Type == exactType, needed: f.made && kindOf(f.Type).plain(),
		})
	}
	return fields
}

// plainName reports whether JSON has a name without escapes, and encoding/json matches no other spellings with it than those that differ in
// the case of ASCII letters.
func plainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

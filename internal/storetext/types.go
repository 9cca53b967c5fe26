package storetext

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
)

// methods says which of the interfaces of packages encoding and encoding/json a type implements.
type methods struct{ writesText, writesJSON, readsText, readsJSON bool } // encoding.TextMarshaler, json.Marshaler, encoding.TextUnmarshaler, json.Unmarshaler

// methodsOf returns which of these interfaces the type t implements. For the methods of pointers to t, call it with
// reflect.PointerTo(t).
func methodsOf(t reflect.Type) methods {
	return methods{
		t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t.Implements(reflect.TypeFor[json.Marshaler]()),
		t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()), t.Implements(reflect.TypeFor[json.Unmarshaler]()),
	}
}

// writes reports whether the type has a method by which encoding/json writes it.
func (m methods) writes() bool { return m.writesText || m.writesJSON }

// reads reports whether the type has a method by which encoding/json reads it.
func (m methods) reads() bool { return m.readsText || m.readsJSON }

// isScalar reports whether a type is a string, a bool or a number.
func isScalar(t reflect.Type) bool {
	k := t.Kind()
	return k == reflect.String || k == reflect.Bool || reflect.Int <= k && k <= reflect.Float64
}

// isNumber reports whether a text is a number as JSON writes it.
func isNumber(text string) bool {
	return text != "" && (text[0] == '-' || text[0]-'0' <= 9) && text[len(text)-1]-'0' <= 9 && json.Valid([]byte(text))
}

// isWhole reports whether a text is a whole number as JSON writes it: digits, with no leading zero, and a minus sign or none.
func isWhole(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	for i := range len(digits) {
		if digits[i]-'0' > 9 {
			return false
		}
	}
	return digits != "" && (digits[0] != '0' || len(digits) == 1)
}

// plainTypes maps a kind to the basic type of that kind, which has no methods.
var plainTypes = map[reflect.Kind]reflect.Type{
	reflect.Bool: reflect.TypeFor[bool](), reflect.Int: reflect.TypeFor[int](), reflect.Int8: reflect.TypeFor[int8](),
	reflect.Int16: reflect.TypeFor[int16](), reflect.Int32: reflect.TypeFor[int32](), reflect.Int64: reflect.TypeFor[int64](),
	reflect.Uint: reflect.TypeFor[uint](), reflect.Uint8: reflect.TypeFor[uint8](), reflect.Uint16: reflect.TypeFor[uint16](),
	reflect.Uint32: reflect.TypeFor[uint32](), reflect.Uint64: reflect.TypeFor[uint64](), reflect.Uintptr: reflect.TypeFor[uintptr](),
	reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

// isRead reports whether encoding/json reads and writes a field of a struct.
func isRead(f reflect.StructField) bool {
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	return (f.IsExported() || f.Anonymous && inner.Kind() == reflect.Struct) && f.Tag.Get("json") != "-"
}

// embedsWriter reports whether a struct may have the methods by which it is written (MarshalText, MarshalJSON) from a field
// that it embeds.
func embedsWriter(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		inner := f.Type
		if inner.Kind() != reflect.Pointer && inner.Kind() != reflect.Interface {
			inner = reflect.PointerTo(inner)
		}
		if f.Anonymous && methodsOf(inner).writes() {
			return true
		}
	}
	return false
}

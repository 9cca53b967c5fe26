package jsonrule

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"unicode"
)

// methods are the interfaces through which a type reads or writes its own JSON.
var methods = [...]reflect.Type{
	reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler](),
}

// HasMethods reports whether a type reads or writes its own JSON, because it has one of the methods UnmarshalJSON, UnmarshalText,
// MarshalJSON and MarshalText. For a value that can be addressed, such as a struct's field, encoding/json also looks for methods
// of the pointer: ask for reflect.PointerTo(t) then, which has the methods of t, too.
func HasMethods(t reflect.Type) bool {
	for _, method := range methods {
		if t.Implements(method) {
			return true
		}
	}
	return false
}

// ValidName reports whether encoding/json uses a name in a field's json tag as the field's key. encoding/json ignores the name
// if it is empty or has other characters than letters, digits and some punctuation.
func ValidName(name string) bool {
	for _, c := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return name != ""
}

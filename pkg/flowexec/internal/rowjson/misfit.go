package rowjson

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Misfit says why JSON can't be read as a Go type, in the words of JSON: which field must be what, and what kind of value is there. It is for
// people who do not know the Go types, so its text names none. It has no values, either: who reads it may not be allowed to see them.
type Misfit struct {
	// At leads from the row to the value, such as lines[2].price. Empty means the row itself.
	At string
	// Must says what the value must be, and Is what it is. Both are empty if Cause says all that is known.
	Must, Is string
	// Cause is the error of the type's own code, or of JSON that is none; nil if there is no more to say than Must and Is.
	Cause error
}

// Error implements error.
func (m *Misfit) Error() string {
	at := m.At
	if m.Must != "" {
		if at == "" {
			at = "it"
		}
		return fmt.Sprintf("%s must be %s, it is %s", at, m.Must, m.Is)
	}
	if at == "" {
		return plainWords(m.Cause)
	}
	return at + ": " + plainWords(m.Cause)
}

// Unwrap returns the Cause.
func (m *Misfit) Unwrap() error { return m.Cause }

// Explain returns the Misfit of JSON that can't be read as the type t. err is the error of reading it. name is the name of the field that has the
// value, empty for a row. It reads the parts of the value again, one by one, which may run code of their types. Of values over
// 64 KiB, and of parts that lie deeper than 16 levels, it tells only what err says.
func Explain(name string, text []byte, t reflect.Type, err error) error {
	if !json.Valid(text) {
		return &Misfit{At: name, Cause: err}
	}
	if len(text) <= mostExplained {
		if m := findMisfit(name, bytes.Trim(text, " \t\r\n"), t, 0); m != nil {
			return m
		}
	}
	return &Misfit{At: name, Cause: err} // the parts fit, and the whole does not: code of the type says why
}

// The size in bytes, and the depth, up to which Explain looks for the part that does not fit: it reads each part once for each level above it.
const (
	mostExplained = 64 << 10
	mostLevels    = 16
)

// findMisfit returns the Misfit of a JSON value that can't be read as the type t, or of the first part of it that can't; nil if the value fits, or
// lies too deep. level is how deep it lies.
func findMisfit(at string, value []byte, t reflect.Type, level int) *Misfit {
	if level > mostLevels {
		return nil
	}
	err := unmarshal(value, reflect.New(t))
	if err == nil {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	is := kindOfValue(value)
	own := nouns[t]
	must := own.must
	switch {
	case must != "":
		if is == own.kind {
			is += " of another form"
		}
	case marshalsItself(t):
		if reflect.PointerTo(t).Implements(textUnmarshalerType) && !reflect.PointerTo(t).Implements(unmarshalerType) && value[0] != '"' {
			must = "a string"
			break
		}
		return &Misfit{At: at, Cause: err}
	default:
		must, is = mustBe(t, value, is)
		if inside := must == "an object" || must == "an array"; inside && (must == is) {
			return findInside(at, value, t, level+1)
		}
	}
	return &Misfit{At: at, Must: must, Is: is}
}

// findInside returns the Misfit of the first field or element of a JSON value that does not fit the type t; nil if there is none.
func findInside(at string, value []byte, t reflect.Type, level int) *Misfit {
	switch k := t.Kind(); {
	case k == reflect.Struct && value[0] == '{':
		fields := Fields(t)
		return eachMember(value, func(name string, of []byte) *Misfit {
			f, ok := Find(fields, name)
			switch {
			case !ok || string(of) == "null":
				return nil
			case f.Quoted:
				return findQuoted(inside(at, name), of, f)
			}
			return findMisfit(inside(at, name), of, f.Type, level)
		})
	case k == reflect.Map && value[0] == '{':
		return eachMember(value, func(name string, of []byte) *Misfit {
			key, _ := json.Marshal(map[string]any{name: nil}) // a name can always be written
			if unmarshal(key, reflect.New(reflect.MapOf(t.Key(), reflect.TypeFor[any]()))) != nil {
				return &Misfit{At: "each name in " + or(at, "the row"), Must: keyNoun(t.Key()), Is: "another text"}
			}
			return findMisfit(inside(at, name), of, t.Elem(), level)
		})
	case (k == reflect.Slice || k == reflect.Array) && value[0] == '[':
		var all []json.RawMessage
		if json.Unmarshal(value, &all) != nil {
			return nil
		}
		for i, of := range all {
			if k == reflect.Array && i == t.Len() {
				break // encoding/json ignores the rest
			}
			if m := findMisfit(at+"["+strconv.Itoa(i)+"]", of, t.Elem(), level); m != nil {
				return m
			}
		}
	}
	return nil
}

// findQuoted returns the Misfit of the value of a field with the tag option string, which has its number, bool or string within a JSON string; nil
// if the value fits.
func findQuoted(at string, value []byte, f Field) *Misfit {
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	must, _ := mustBe(t, value, "")
	var text string
	if json.Unmarshal(value, &text) != nil {
		return &Misfit{At: at, Must: must + " within a string", Is: kindOfValue(value)}
	}
	if unmarshal([]byte(text), reflect.New(t)) == nil {
		return nil
	}
	return &Misfit{At: at, Must: must + " within a string", Is: "a string with something else"}
}

// eachMember calls f for each field of a JSON object, until one gives a Misfit. Names are in the order of the text.
func eachMember(object []byte, f func(name string, value []byte) *Misfit) *Misfit {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		return nil
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if m := f(fmt.Sprint(name), value); m != nil {
			return m
		}
	}
	return nil
}

// mustBe says which JSON values the type t takes, and which kind of value a value is: is, or more exactly if it is a number out of range.
func mustBe(t reflect.Type, value []byte, is string) (must, found string) {
	number := is == aNumber
	switch t.Kind() {
	case reflect.Bool:
		return "true or false", is
	case reflect.String:
		return "a string", is
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if number && !bytes.ContainsAny(value, ".eE") {
			most := new(big.Int).Lsh(big.NewInt(1), uint(t.Bits()-1))
			return fmt.Sprintf("a whole number from -%d to %d", most, new(big.Int).Sub(most, big.NewInt(1))), "outside"
		}
		return wholeNumber(number, is)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if number && !bytes.ContainsAny(value, ".eE") {
			most := new(big.Int).Lsh(big.NewInt(1), uint(t.Bits()))
			return fmt.Sprintf("a whole number from 0 to %d", most.Sub(most, big.NewInt(1))), "outside"
		}
		return wholeNumber(number, is)
	case reflect.Float32, reflect.Float64:
		if number {
			return fmt.Sprintf("a number that fits into %d bits", t.Bits()), "too large"
		}
		return "a number", is
	case reflect.Struct, reflect.Map:
		return "an object", is
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			if value[0] == '"' {
				is = "a string of another form"
			}
			return "base64 in a string", is
		}
		return "an array", is
	case reflect.Array:
		return "an array", is
	}
	return "left out, because the function has no way to read it", is
}

// wholeNumber returns the results of mustBe for a type that takes whole numbers, and a value that is none.
func wholeNumber(number bool, is string) (must, found string) {
	if number {
		is = "a number with a fraction or an exponent"
	}
	return "a whole number", is
}

// aNumber is the kind of value of all numbers.
const aNumber = "a number"

// kindOfValue says which kind of value a JSON value is.
func kindOfValue(value []byte) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return aNumber
}

// nouns says which JSON values types of the standard library take that read themselves: in full for people, and the kind as kindOfValue says it.
var nouns = map[reflect.Type]struct{ must, kind string }{
	reflect.TypeFor[time.Time]():      {`a time such as "2006-01-02T15:04:05Z"`, "a string"},
	reflect.TypeFor[json.Number]():    {"a number", aNumber},
	reflect.TypeFor[big.Int]():        {"a whole number", aNumber},
	reflect.TypeFor[big.Float]():      {"a number within a string", "a string"},
	reflect.TypeFor[big.Rat]():        {"a number within a string", "a string"},
	reflect.TypeFor[netip.Addr]():     {"an IP address in a string", "a string"},
	reflect.TypeFor[netip.AddrPort](): {"an IP address with a port in a string", "a string"},
	reflect.TypeFor[netip.Prefix]():   {"an IP network in a string", "a string"},
	exactType:                         {"a number that a float can hold exactly", aNumber},
}

// keyNoun says which names a map with keys of the type t takes.
func keyNoun(t reflect.Type) string {
	switch k := t.Kind(); {
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		return "one that the function can read"
	case k >= reflect.Int && k <= reflect.Uintptr:
		return "a whole number that fits"
	}
	return "left out, because the function has no way to read it"
}

var textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()

// inside returns the path of a field of the value at a path. A name that could be mistaken for a path, or is long, is quoted and cut.
func inside(at, name string) string {
	const most = 60 // bytes
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	if name == "" || strings.ContainsAny(name, ".[]\" ,:") || !utf8.ValidString(name) {
		return at + "[" + strconv.Quote(name) + "]"
	}
	if at == "" {
		return name
	}
	return at + "." + name
}

// or returns text, or otherwise if it is empty.
func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// plainWords returns the text of an error with which reading or writing JSON ended, without the Go types that encoding/json names. It does not
// change texts of the user's own code.
func plainWords(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return typeErrorWords(wrong)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return "it is not JSON: " + syntax.Error()
	}
	if value, ok := errors.AsType[*json.UnsupportedValueError](err); ok {
		if value.Value.IsValid() && value.Value.CanFloat() {
			return "JSON has no number " + value.Str
		}
		return "a value contains itself"
	}
	if _, ok := errors.AsType[*json.UnsupportedTypeError](err); ok {
		return "it has a value, such as a channel or a function, that JSON can't hold"
	}
	if own, ok := errors.AsType[*json.MarshalerError](err); ok {
		return "its own code can't write it: " + plainWords(own.Unwrap())
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "json: cannot set embedded pointer to unexported struct"):
		return "it has a field in an embedded pointer to a type that is not exported, which can't be set: embed the struct, or export its type"
	case strings.HasPrefix(text, "json: invalid use of ,string struct tag"), strings.HasPrefix(text, "json: invalid number literal"):
		return "a number or a string has another form"
	}
	return strings.TrimPrefix(text, "json: ")
}

// typeErrorWords returns the text for a type error that the code of a type has met inside.
func typeErrorWords(wrong *json.UnmarshalTypeError) string {
	kind, number, _ := strings.Cut(wrong.Value, " ")
	is := map[string]string{"number": aNumber, "string": "a string", "array": "an array", "object": "an object", "bool": "true or false"}[kind]
	if is == "" || wrong.Type == nil {
		return "a value has another type than the function reads"
	}
	m := Misfit{At: wrong.Field, Is: is}
	if m.Must = nouns[wrong.Type].must; m.Must == "" {
		m.Must, m.Is = mustBe(wrong.Type, []byte(or(number, "0")), is)
		if marshalsItself(wrong.Type) {
			m.Must, m.Is = "a string", is
		}
	}
	return m.Error()
}

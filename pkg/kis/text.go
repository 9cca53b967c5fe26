package kis

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// This file is how values become the texts that connectors store, and how texts become values again: what Writer.Set wrote is
// read into the same type as an equal value, or was refused. Texts are never written in another way than they once were, since builds
// read each other's.

// Text is a value as connectors store it: strings and []byte as they are, numbers and bools as JSON writes them, what marshals
// itself as text so, and anything else as JSON. The error says what can't be stored: a nil pointer, which no text stands for, or a value
// that would come back as another one.
func Text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return floatText(v, 64)
	case json.Number:
		if v != "" && !isNumber(string(v)) {
			return "", fmt.Errorf("the json.Number %q is no number", string(v))
		}
		return string(v), nil
	}
	v := reflect.ValueOf(value)
	if err := refuseNil(v); err != nil {
		return "", err
	}
	text, err := textOf(value, v)
	if err == nil && (mayChange(v) || strings.Contains(text, `\ufffd`)) {
		err = comesBack(v, text)
	}
	if err != nil {
		return "", err
	}
	return text, nil
}

func textOf(value any, v reflect.Value) (string, error) {
	switch m := value.(type) {
	case encoding.TextMarshaler:
		b, err := m.MarshalText()
		return string(b), err
	case json.Marshaler:
		b, err := json.Marshal(value)
		return string(b), err
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Float32:
		return floatText(v.Float(), 32)
	case reflect.Float64:
		return floatText(v.Float(), 64)
	}
	b, err := json.Marshal(value)
	return string(b), err
}

func floatText(f float64, bits int) (string, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", fmt.Errorf("%v is no number that can be stored", f)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(f, format, -1, bits), nil
}

// isNumber reports whether a text is a number of JSON.
func isNumber(text string) bool {
	return text != "" && (text[0] == '-' || text[0]-'0' <= 9) && text[len(text)-1]-'0' <= 9 && json.Valid([]byte(text))
}

// refuseNil refuses a pointer that leads to nothing, and one to a nil slice or map: they come back as something else.
func refuseNil(v reflect.Value) error {
	given := v
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return fmt.Errorf("a nil %v is no value: leave the call out when it is nil, or write a value that stands for none", given.Type())
		}
		switch v = v.Elem(); v.Kind() {
		case reflect.Slice, reflect.Map, reflect.Interface:
			if v.IsNil() {
				return fmt.Errorf("a %v that leads to nil is no value: leave the call out then, or write what it leads to", given.Type())
			}
		}
	}
	return nil
}

// methods are what a type says itself of how it is written and read.
type methods struct{ writesText, writesJSON, readsText, readsJSON bool }

// methodsOf are those of values of a type, or of pointers to them.
func methodsOf(t reflect.Type) methods {
	return methods{
		t.Implements(reflect.TypeFor[encoding.TextMarshaler]()), t.Implements(reflect.TypeFor[json.Marshaler]()),
		t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()), t.Implements(reflect.TypeFor[json.Unmarshaler]()),
	}
}

func (m methods) writes() bool { return m.writesText || m.writesJSON }
func (m methods) reads() bool  { return m.readsText || m.readsJSON }

func isScalar(t reflect.Type) bool {
	k := t.Kind()
	return k == reflect.String || k == reflect.Bool || reflect.Int <= k && k <= reflect.Float64
}

// TextReader is how texts that Text made of values of a type become such values: it reads a text into a zero value that can be set.
// Texts that were stored in other ways are read too, where that leaves no doubt. A panic of the type's own methods is an error. The
// function is safe for concurrent use.
func TextReader(t reflect.Type) func(text string, into reflect.Value) error {
	first, readsTexts := firstReader(t), guessesText(t)
	return func(text string, into reflect.Value) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("reading it as %v: %w", t, newPanic(p))
			}
		}()
		if first != nil && first(text, into) == nil {
			return nil
		}
		into.SetZero()
		// It is the JSON that it looks like, or a string where it is none.
		if readsTexts || !json.Valid([]byte(text)) {
			return readQuoted(text, into)
		}
		return readJSON(text, into)
	}
}

// guessesText reports whether a type reads any text as a string of JSON, where nothing says how the text was written.
func guessesText(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.String || methodsOf(reflect.PointerTo(t)).readsText
}

// firstReader is what Text asks for; nil: what it wrote may as well be guessed.
func firstReader(t reflect.Type) func(string, reflect.Value) error {
	base := t
	for base.Kind() == reflect.Pointer {
		base = base.Elem()
	}
	own := methodsOf(t)
	reads := methodsOf(reflect.PointerTo(t))
	if t.Kind() == reflect.Pointer {
		reads = own
	}
	switch {
	case t.Kind() == reflect.Interface:
		return nil
	case t == reflect.TypeFor[[]byte]():
		return func(text string, into reflect.Value) error { into.SetBytes([]byte(text)); return nil }
	case t == reflect.TypeFor[json.Number]():
		return func(text string, into reflect.Value) error {
			if text != "" && !isNumber(text) {
				return fmt.Errorf("%q is no number", text)
			}
			into.SetString(text)
			return nil
		}
	case own.writesText && reads.readsText:
		return readByText
	case own.writesText:
		return readQuoted
	case own.writesJSON:
		return readJSON
	case reads.writes() && isScalar(t):
		return readPlain // its methods are those of pointers, and it was written without them
	case t.Kind() == reflect.String && !reads.reads():
		return readPlain
	case t.Kind() == reflect.Pointer && base.Kind() == reflect.String && methodsOf(reflect.PointerTo(base)) == methods{}:
		return readUnquoted
	case t.Kind() == reflect.Pointer:
		return readJSON
	case isScalar(t) && !reads.reads():
		return readPlain
	}
	return nil
}

// readByText reads a text with the type's UnmarshalText.
func readByText(text string, into reflect.Value) error {
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
	} else {
		into = into.Addr()
	}
	return into.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) //nolint:forcetypeassert // firstReader looked
}

func readQuoted(text string, into reflect.Value) error { return readJSON(quoted(text), into) }

func readJSON(text string, into reflect.Value) error {
	return json.Unmarshal([]byte(text), into.Addr().Interface())
}

// readPlain reads a text as the kind of value that it is, whatever methods the type has.
func readPlain(text string, into reflect.Value) error {
	switch k := into.Kind(); {
	case k == reflect.String:
		into.SetString(text)
		return nil
	case k == reflect.Bool && (text == "true" || text == "false"):
		into.SetBool(text == "true")
		return nil
	case into.CanInt() && isWhole(text):
		n, err := strconv.ParseInt(text, 10, into.Type().Bits())
		into.SetInt(n)
		return err
	case into.CanUint() && isWhole(text):
		n, err := strconv.ParseUint(text, 10, into.Type().Bits())
		into.SetUint(n)
		return err
	case into.CanFloat() && isNumber(text):
		f, err := strconv.ParseFloat(text, into.Type().Bits())
		into.SetFloat(f)
		return err
	}
	plain := reflect.New(plainTypes[into.Kind()])
	if err := json.Unmarshal([]byte(text), plain.Interface()); err != nil {
		return err
	}
	into.Set(plain.Elem().Convert(into.Type()))
	return nil
}

// isWhole reports whether a text is digits as JSON has them.
func isWhole(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	for i := range len(digits) {
		if digits[i]-'0' > 9 {
			return false
		}
	}
	return digits != "" && (digits[0] != '0' || len(digits) == 1)
}

// plainTypes are the types of kinds that have no methods.
var plainTypes = map[reflect.Kind]reflect.Type{
	reflect.Bool: reflect.TypeFor[bool](), reflect.Int: reflect.TypeFor[int](), reflect.Int8: reflect.TypeFor[int8](),
	reflect.Int16: reflect.TypeFor[int16](), reflect.Int32: reflect.TypeFor[int32](), reflect.Int64: reflect.TypeFor[int64](),
	reflect.Uint: reflect.TypeFor[uint](), reflect.Uint8: reflect.TypeFor[uint8](), reflect.Uint16: reflect.TypeFor[uint16](),
	reflect.Uint32: reflect.TypeFor[uint32](), reflect.Uint64: reflect.TypeFor[uint64](), reflect.Uintptr: reflect.TypeFor[uintptr](),
	reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

// readUnquoted reads a text into a pointer to a string: a string of JSON as Text writes what pointers lead to, or a text as it is.
func readUnquoted(text string, into reflect.Value) error {
	var inner string
	if len(text) < 2 || text[0] != '"' || json.Unmarshal([]byte(text), &inner) != nil || quoted(inner) != text {
		inner = text
	}
	for into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	into.SetString(inner)
	return nil
}

// quoted is a text as a string of JSON.
func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can always be written
	}
	return string(b)
}

// changing are the types of which some values come back from their text as others.
var changing sync.Map // reflect.Type → bool

// mayChange reports whether a value's text must be read again to see that it comes back.
func mayChange(v reflect.Value) bool {
	if !v.IsValid() || isScalar(v.Type()) {
		return false
	}
	t := v.Type()
	if may, ok := changing.Load(t); ok {
		return may.(bool) //nolint:forcetypeassert // nothing else is stored
	}
	may := changes(t, false, nil)
	changing.Store(t, may)
	return may
}

// changes looks for what encoding/json loses or can't read again: methods of pointers to values that have no address, methods that come
// from an embedded field and leave the others out, pointers to what may be null as well, and embedded pointers to types that are not exported.
func changes(t reflect.Type, addressed bool, within []reflect.Type) bool {
	if slices.Contains(within, t) {
		return false
	}
	within = append(slices.Clip(within), t)
	own := methodsOf(t).writes()
	byPointer := !own && t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && methodsOf(reflect.PointerTo(t)).writes()
	if own && t.Kind() != reflect.Pointer || byPointer {
		return byPointer && !addressed && !(isScalar(t) && len(within) == 1) || embedsWriter(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		k := t.Elem().Kind()
		return k == reflect.Pointer || k == reflect.Slice || k == reflect.Map || k == reflect.Interface || changes(t.Elem(), true, within)
	case reflect.Slice:
		return changes(t.Elem(), true, within)
	case reflect.Array:
		return changes(t.Elem(), addressed, within)
	case reflect.Map:
		return changes(t.Elem(), false, within)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if isRead(f) && changes(f.Type, addressed, within) || f.Anonymous && !f.IsExported() && f.Type.Kind() == reflect.Pointer {
				return true
			}
		}
	}
	return false
}

// isRead reports whether encoding/json looks at a field.
func isRead(f reflect.StructField) bool {
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	return (f.IsExported() || f.Anonymous && inner.Kind() == reflect.Struct) && f.Tag.Get("json") != "-"
}

// embedsWriter reports whether a struct's methods may be those of a field that it embeds.
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

// comesBack refuses a value whose text is read as another one.
func comesBack(v reflect.Value, text string) error {
	back := reflect.New(v.Type()).Elem()
	if err := TextReader(v.Type())(text, back); err != nil {
		return fmt.Errorf("a %v is written as %.60s, and can't be read again: %w: %s", v.Type(), text, err, refusedAdvice)
	}
	if !same(v, back) {
		return fmt.Errorf("a %v is written as %.60s, and would come back as another value: %s", v.Type(), text, refusedAdvice)
	}
	return nil
}

const refusedAdvice = "pass a pointer to it where its methods are those of the pointer, keep text that is no UTF-8 in a []byte, or save its parts one by one"

// same compares a value with what came back of it.
func same(a, b reflect.Value) bool {
	if t := a.Type(); t.Kind() != reflect.Interface && t.Kind() != reflect.Pointer && a.CanInterface() && methodsOf(reflect.PointerTo(t)).writes() {
		if !sameText(a, b) || !embedsWriter(t) {
			return sameText(a, b)
		}
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		if a.Elem().Type() != b.Elem().Type() { // numbers in an interface come back as float64
			return sameText(a, b)
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for each := a.MapRange(); each.Next(); {
			if other := b.MapIndex(each.Key()); !other.IsValid() || !same(each.Value(), other) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if isRead(a.Type().Field(i)) && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return a.Comparable() && a.Equal(b)
}

// sameText reports whether two values are written in the same way.
func sameText(a, b reflect.Value) bool {
	write := func(v reflect.Value) ([]byte, error) {
		if !v.CanInterface() {
			return nil, errors.New("it is not exported")
		}
		at := reflect.New(v.Type())
		at.Elem().Set(v)
		return json.Marshal(at.Interface())
	}
	x, err := write(a)
	if err != nil {
		return false
	}
	y, err := write(b)
	return err == nil && string(x) == string(y)
}

package storetext

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// Reader returns a function that reads texts, which Write made of values of type t, into such values. The function sets into,
// which must be a settable zero value of type t. It also reads texts that were stored in another way, by another program or an
// older release, if there is only one way to read them. A panic in a method of the type becomes an error. Any goroutine may call
// the function.
func Reader(t reflect.Type) func(text string, into reflect.Value) error {
	first, readsTexts := firstReader(t), guessesText(t)
	return func(text string, into reflect.Value) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("reading it as %v: %w", t, fmt.Errorf("panic: %v", p))
			}
		}()
		if first != nil && first(text, into) == nil {
			return nil
		}
		into.SetZero()
		// Take the text for the JSON that it looks like, or for a string if it is no JSON.
		if readsTexts || !json.Valid([]byte(text)) {
			return readQuoted(text, into)
		}
		return readJSON(text, into)
	}
}

// guessesText reports whether Reader takes a text that firstReader's function can't read for a string, even if it looks like
// other JSON. That holds for strings, and for types that implement encoding.TextUnmarshaler.
func guessesText(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.String || methodsOf(reflect.PointerTo(t)).readsText
}

// firstReader returns the function that reads exactly the texts that Write makes of values of type t. It returns nil if such
// texts can be told apart by their looks, so that the guess in Reader is enough.
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
				return fmt.Errorf("%q is not a number", text)
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
		return readPlain // only pointers to it have the methods, so Write did not call them
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

// readByText reads a text with the type's own UnmarshalText.
func readByText(text string, into reflect.Value) error {
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
	} else {
		into = into.Addr()
	}
	return into.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) //nolint:forcetypeassert // firstReader looked
}

// readQuoted reads a text as the content of a JSON string: the text a b as the JSON "a b".
func readQuoted(text string, into reflect.Value) error { return readJSON(quoted(text), into) }

// readJSON reads a text as JSON.
func readJSON(text string, into reflect.Value) error {
	return json.Unmarshal([]byte(text), into.Addr().Interface())
}

// readPlain reads a text as the kind of value that the type is, a number for example, and passes over methods that the type has.
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

// readUnquoted reads a text into a pointer, or a pointer to a pointer, to a string. Write quotes a string behind a pointer, so a
// text that is exactly such a JSON string is unquoted. Any other text is taken as it is.
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

// quoted returns a text as a JSON string.
func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can always be written
	}
	return string(b)
}

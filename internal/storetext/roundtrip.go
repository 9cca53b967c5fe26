package storetext

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// changing caches the results of changes, by type, for mayChange. Types are few, so it only grows. Any goroutine may use it.
var changing sync.Map

// mayChange reports whether some values of v's type come back from their text as other values, so that the text of v has to be
// read again before it is stored.
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

// changes looks into a type for the things that encoding/json loses or can't read again. These are: methods of a pointer on a
// value that has no address; methods that a struct has from an embedded field, since they leave out the other fields; a pointer
// to a type that may itself be null; and an embedded pointer to a type that is not exported.
//
// addressed says whether the value has an address when it is written. within are the types that lead to this one; a type that
// contains itself is looked at once.
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

// comesBack reads a text that was written from v, and returns an error if that gives no value or another value.
func comesBack(v reflect.Value, text string) error {
	back := reflect.New(v.Type()).Elem()
	if err := Reader(v.Type())(text, back); err != nil {
		return fmt.Errorf("a %v is written as %.60s, and can't be read again: %w: %s", v.Type(), text, err, refusedAdvice)
	}
	if !same(v, back) {
		return fmt.Errorf("a %v is written as %.60s, and would come back as another value: %s", v.Type(), text, refusedAdvice)
	}
	return nil
}

// refusedAdvice stands at the end of the errors of comesBack. It is advice to the author of the function that saves.
const refusedAdvice = "pass a pointer to it where its methods are those of the pointer, keep text that is no UTF-8 in a []byte, or save its parts one by one"

// same reports whether b, which was read, equals a, which was written, as far as encoding/json looks at them.
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
		if a.Elem().Type() != b.Elem().Type() { // a number in an interface comes back as a float64
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

// sameText reports whether two values are written as the same JSON.
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

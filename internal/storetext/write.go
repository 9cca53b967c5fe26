package storetext

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Write returns the text under which connectors store a value:
//
//   - a string or []byte as it is: "a b" is stored as a b, without quotes
//   - a number or bool as JSON writes it: 83.5, true
//   - a type that implements encoding.TextMarshaler as that text, a time.Time as 2026-01-02T03:04:05Z
//   - any other value as JSON: [1,2] or {"id":1}
//
// It is an error if the value is a nil pointer, which no text stands for, if JSON can't hold it, and if its text would be read
// back as another value.
func Write(value any) (string, error) {
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
			return "", fmt.Errorf("the json.Number %q is not a number: give it one as JSON writes it", string(v))
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

// textOf writes a value whose type has no short way in Write. v is the same value.
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

// floatText writes a float of 32 or 64 bits as JSON does: with an exponent only below 1e-6 and from 1e21 on.
func floatText(f float64, bits int) (string, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", fmt.Errorf("%v can't be stored: JSON has neither NaN nor infinity", f)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(f, format, -1, bits), nil
}

// refuseNil returns an error for a nil pointer, and for a pointer to a nil slice, map or interface: such a value would come back
// as something else.
func refuseNil(v reflect.Value) error {
	given := v
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return fmt.Errorf("a nil %v has no text: leave the call out when it is nil, or write a value that stands for none", given.Type())
		}
		switch v = v.Elem(); v.Kind() {
		case reflect.Slice, reflect.Map, reflect.Interface:
			if v.IsNil() {
				return fmt.Errorf("a %v that leads to nil has no text: leave the call out then, or write what it leads to", given.Type())
			}
		}
	}
	return nil
}

package expr

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Value is a value that an expression reads or gives. The zero Value is missing. A Value never changes, and may be copied and kept.
type Value struct {
	kind  Kind
	nanos uint32   // of a time: nanoseconds within its second
	bits  uint64   // a bool as 0 or 1, an int, the bits of a float, the seconds of a time since 1970, the nanoseconds of a duration
	text  string   // a string, or the digits of a KindNumber
	parts *content // of a list or an object
}

// content is the elements of a list, or the fields of an object with their keys in sorted order.
type content struct {
	keys   []string // nil for a list
	values []Value
}

// Null and Missing are the values without content.
var (
	Null    = Value{kind: KindNull}
	Missing = Value{}
)

// BoolValue returns a truth value.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: KindBool, bits: 1}
	}
	return Value{kind: KindBool}
}

// IntValue returns a whole number.
func IntValue(n int64) Value { return Value{kind: KindInt, bits: uint64(n)} }

// FloatValue returns a float. One that is infinite or not a number becomes a KindNumber, with which no expression can calculate.
func FloatValue(f float64) Value {
	if !finite(f) {
		return Value{kind: KindNumber, text: strconv.FormatFloat(f, 'g', -1, 64)}
	}
	return floatValue(f)
}

// floatValue returns a float that is known to be finite.
func floatValue(f float64) Value { return Value{kind: KindFloat, bits: math.Float64bits(f)} }

// StringValue returns a text.
func StringValue(s string) Value { return Value{kind: KindString, text: s} }

// TimeValue returns a time as an instant. Its location and its reading of a monotonic clock are not kept.
func TimeValue(t time.Time) Value {
	return Value{kind: KindTime, bits: uint64(t.Unix()), nanos: uint32(t.Nanosecond())}
}

// DurationValue returns a duration.
func DurationValue(d time.Duration) Value { return Value{kind: KindDuration, bits: uint64(d)} }

// ListValue returns a list. The caller must not change the values afterwards.
func ListValue(values []Value) Value { return Value{kind: KindList, parts: &content{values: values}} }

// ObjectValue returns an object with the fields of a map. Fields whose value is missing are left out.
func ObjectValue(fields map[string]Value) Value {
	p := &content{keys: []string{}}
	for _, name := range sortedNames(fields) {
		if v := fields[name]; v.kind != KindMissing {
			p.keys, p.values = append(p.keys, name), append(p.values, v)
		}
	}
	return Value{kind: KindObject, parts: p}
}

// ValueOf turns a Go value into a Value, for constants such as the params of a document. It takes nil, bool, string, signed and unsigned ints,
// floats, times, durations, and slices and maps of these as package yaml makes them.
func ValueOf(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Null, nil
	case Value:
		return v, nil
	case bool:
		return BoolValue(v), nil
	case string:
		return StringValue(v), nil
	case int:
		return IntValue(int64(v)), nil
	case int64:
		return IntValue(v), nil
	case uint64:
		if v > math.MaxInt64 {
			return Value{}, fmt.Errorf("%d is outside of 64 bits with a sign", v)
		}
		return IntValue(int64(v)), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Value{}, fmt.Errorf("%v is not a number that expressions have", v)
		}
		return floatValue(v), nil
	case time.Time:
		return TimeValue(v), nil
	case time.Duration:
		return DurationValue(v), nil
	case []any:
		values := make([]Value, len(v))
		for i, element := range v {
			value, err := ValueOf(element)
			if err != nil {
				return Value{}, err
			}
			values[i] = value
		}
		return ListValue(values), nil
	case map[string]any:
		fields := make(map[string]Value, len(v))
		for name, field := range v {
			value, err := ValueOf(field)
			if err != nil {
				return Value{}, err
			}
			fields[name] = value
		}
		return ObjectValue(fields), nil
	}
	return Value{}, fmt.Errorf("a value of the Go type %T can't be used in expressions", v)
}

// Kind returns the kind of the value.
func (v Value) Kind() Kind { return v.kind }

// Bool returns a truth value. It is false for a value of another kind.
func (v Value) Bool() bool { return v.kind == KindBool && v.bits != 0 }

// Int returns a whole number. It is 0 for a value of another kind.
func (v Value) Int() int64 {
	if v.kind != KindInt {
		return 0
	}
	return int64(v.bits)
}

// Float returns a float. It is 0 for a value of another kind.
func (v Value) Float() float64 {
	if v.kind != KindFloat {
		return 0
	}
	return math.Float64frombits(v.bits)
}

// Text returns a text, or the digits of a KindNumber. It is "" for a value of another kind.
func (v Value) Text() string { return v.text }

// Time returns a time, in UTC. It is the beginning of 1970 for a value of another kind.
func (v Value) Time() time.Time {
	if v.kind != KindTime {
		return time.Unix(0, 0).UTC()
	}
	return time.Unix(int64(v.bits), int64(v.nanos)).UTC()
}

// Duration returns a duration. It is 0 for a value of another kind.
func (v Value) Duration() time.Duration {
	if v.kind != KindDuration {
		return 0
	}
	return time.Duration(v.bits)
}

// Elements returns the elements of a list, or the values of an object's fields in the order of Keys. The caller must not change them.
func (v Value) Elements() []Value {
	if v.parts == nil {
		return nil
	}
	return v.parts.values
}

// Keys returns the names of an object's fields, sorted. The caller must not change them. It is nil for a value of another kind.
func (v Value) Keys() []string {
	if v.parts == nil {
		return nil
	}
	return v.parts.keys
}

// Field returns a field of an object. It is missing if the object has no such field, or if the value is none.
func (v Value) Field(name string) Value {
	if v.kind != KindObject {
		return Missing
	}
	keys := v.parts.keys
	if len(keys) > 8 {
		if i, ok := slices.BinarySearch(keys, name); ok {
			return v.parts.values[i]
		}
		return Missing
	}
	for i, key := range keys {
		if key == name {
			return v.parts.values[i]
		}
	}
	return Missing
}

// Absent reports whether the value is null or missing.
func (v Value) Absent() bool { return v.kind <= KindNull }

// typeOf returns the type of a constant.
func typeOf(v Value) Type {
	left := 200
	return typeWithin(v, &left)
}

// typeWithin returns the type of a constant. left counts the values that are still looked at; the others may be anything.
func typeWithin(v Value, left *int) Type {
	if *left--; *left < 0 {
		return Any
	}
	switch v.kind {
	case KindMissing, KindNull:
		return nullType
	case KindList:
		if len(v.Elements()) == 0 {
			return List(Any)
		}
		elem := typeWithin(v.Elements()[0], left)
		for _, e := range v.Elements()[1:] {
			if elem.kind == KindAny {
				break
			}
			elem = elem.join(typeWithin(e, left))
		}
		return List(elem)
	case KindObject:
		fields := make([]Field, len(v.Keys()))
		for i, name := range v.Keys() {
			fields[i] = Field{name, typeWithin(v.Elements()[i], left)}
		}
		return Object(fields...)
	case KindNumber:
		return Any
	}
	return Type{kind: v.kind}
}

// sortedNames returns the keys of a map, sorted.
func sortedNames[K cmp.Ordered, V any](m map[K]V) []K {
	names := make([]K, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// newObject puts fields into sorted order. Fields whose value is missing are left out. It takes over both slices. The names have to differ.
func newObject(keys []string, values []Value) Value {
	kept := 0
	for i := range keys {
		if values[i].kind != KindMissing {
			keys[kept], values[kept] = keys[i], values[i]
			kept++
		}
	}
	p := &content{keys: keys[:kept:kept], values: values[:kept:kept]}
	if !slices.IsSorted(p.keys) {
		order := make([]int, kept)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(p.keys[a], p.keys[b]) })
		sorted := &content{keys: make([]string, kept), values: make([]Value, kept)}
		for to, from := range order {
			sorted.keys[to], sorted.values[to] = p.keys[from], p.values[from]
		}
		p = sorted
	}
	return Value{kind: KindObject, parts: p}
}

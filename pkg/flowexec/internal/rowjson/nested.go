package rowjson

import (
	"reflect"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// convertFunc converts the value at from to another type and writes it to the memory at to, which must be zero. It returns false if it
// can't be sure of the result.
type convertFunc func(to, from unsafe.Pointer) bool

// typePair is the type of a value before a conversion (from) and after it (to).
type typePair struct{ from, to reflect.Type }

// converterFor returns the convertFunc for two types. If there is no compiled code for them, the convertFunc writes the value as JSON and
// reads it again. It does that also for types that contain themselves, because encoding/json notices cycles. within are the pairs of types
// that this pair is nested in.
func converterFor(from, to reflect.Type, within []typePair) convertFunc {
	p := typePair{from, to}
	if slices.Contains(within, p) || marshalsItself(from) || marshalsItself(to) {
		return throughJSON(p)
	}
	within = append(slices.Clip(within), p)
	a, b := kindOf(from), kindOf(to)
	switch {
	case a.plain() && b.plain():
		return (&move{from: &field{kind: a}, to: &field{kind: b}}).copyPlain
	case from.Kind() == reflect.Pointer:
		inner := converterFor(from.Elem(), to, within)
		return func(to, from unsafe.Pointer) bool {
			from = *(*unsafe.Pointer)(from)
			return from == nil || inner(to, from)
		}
	case to.Kind() == reflect.Pointer && (a.plain() || from.Kind() == reflect.Struct): // these are never null in JSON
		elem, inner := to.Elem(), converterFor(from, to.Elem(), within)
		return func(to, from unsafe.Pointer) bool {
			made := reflect.New(elem).UnsafePointer()
			*(*unsafe.Pointer)(to) = made
			return inner(made, from)
		}
	case from.Kind() == reflect.Struct && to.Kind() == reflect.Struct:
		if all := newMoveList(For(from), For(to), within); all != nil {
			return all.move
		}
	case from.Kind() == reflect.Slice && to.Kind() == reflect.Slice && isBinary(from) == isBinary(to):
		return sliceConverter(p, within)
	case isPlainMap(from) && isPlainMap(to):
		return mapConverter(p)
	}
	return throughJSON(p)
}

// isBinary reports whether values of a slice type are written as base64 strings in JSON, as []byte is.
func isBinary(slice reflect.Type) bool {
	return slice.Elem().Kind() == reflect.Uint8 && !marshalsItself(slice.Elem())
}

// isPlainMap reports whether a type is a map from strings to strings, bools or numbers that have no methods to read or write themselves.
func isPlainMap(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !marshalsItself(t.Key()) && kindOf(t.Elem()).plain()
}

// throughJSON returns a convertFunc that writes a value as JSON and reads it again as the type p.to. If p.to is nil, the convertFunc only
// reports whether the value can be written as JSON.
func throughJSON(p typePair) convertFunc {
	return func(to, from unsafe.Pointer) bool {
		text, err := AppendAny(nil, reflect.NewAt(p.from, from).Interface())
		return err == nil && (p.to == nil || unmarshal(text, reflect.NewAt(p.to, to)) == nil)
	}
}

// sliceConverter returns the convertFunc for two slice types. within are the pairs of types that p is nested in, and p itself.
func sliceConverter(p typePair, within []typePair) convertFunc {
	elem := converterFor(p.from.Elem(), p.to.Elem(), within)
	step, size := p.to.Elem().Size(), p.from.Elem().Size()
	binary := isBinary(p.from)
	return func(to, from unsafe.Pointer) bool {
		source := reflect.NewAt(p.from, from).Elem()
		if source.IsNil() {
			return true
		}
		n, at := source.Len(), source.UnsafePointer()
		made := reflect.MakeSlice(p.to, n, n)
		reflect.NewAt(p.to, to).Elem().Set(made)
		into := made.UnsafePointer()
		if binary {
			copy(unsafe.Slice((*byte)(into), n), unsafe.Slice((*byte)(at), n))
			return true
		}
		for i := range n {
			if !elem(unsafe.Add(into, uintptr(i)*step), unsafe.Add(at, uintptr(i)*size)) {
				return false
			}
		}
		return true
	}
}

// mapConverter returns the convertFunc for two map types for which isPlainMap is true.
func mapConverter(p typePair) convertFunc {
	elem := converterFor(p.from.Elem(), p.to.Elem(), nil)
	return func(to, from unsafe.Pointer) bool {
		source := reflect.NewAt(p.from, from).Elem()
		if source.IsNil() {
			return true
		}
		made := reflect.MakeMapWithSize(p.to, source.Len())
		reflect.NewAt(p.to, to).Elem().Set(made)
		was, is := reflect.New(p.from.Elem()), reflect.New(p.to.Elem())
		for each := source.MapRange(); each.Next(); {
			key := each.Key()
			if !utf8.ValidString(key.String()) {
				return false
			}
			was.Elem().SetIterValue(each)
			is.Elem().SetZero()
			if !elem(is.UnsafePointer(), was.UnsafePointer()) {
				return false
			}
			made.SetMapIndex(key.Convert(p.to.Key()), is.Elem())
		}
		return true
	}
}

// isAlwaysEncodable reports whether it is certain that each value of a type can be written as JSON. It is not for floats, which may be
// NaN, nor for types that contain themselves or have their own code. within are the types that t is nested in.
func isAlwaysEncodable(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) || marshalsItself(t) {
		return false
	}
	switch within = append(slices.Clip(within), t); t.Kind() {
	case reflect.Float32, reflect.Float64:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return isAlwaysEncodable(t.Elem(), within)
	case reflect.Map:
		return isPlainMap(t) && isAlwaysEncodable(t.Elem(), within)
	case reflect.Struct:
		return !slices.ContainsFunc(Fields(t), func(f Field) bool { return !isAlwaysEncodable(f.Type, within) })
	}
	return kindOf(t).plain()
}

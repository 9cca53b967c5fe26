package rowjson

import (
	"reflect"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// convertFunc turns the value at from into one of another type at to, which must be zero. It returns false if the value is in doubt.
type convertFunc func(to, from unsafe.Pointer) bool

// typePair is the types that a value has before and after its conversion.
type typePair struct{ from, to reflect.Type }

// converterFor compiles the conversion of a value. Types that it has no code for are written as JSON and read again. So are types that
// contain themselves, because encoding/json notices cycles. within are the pairs of types that this one is a part of.
func converterFor(from, to reflect.Type, within []typePair) convertFunc {
	p := typePair{from, to}
	if slices.Contains(within, p) || marshalsItself(from) || marshalsItself(to) {
		return throughJSON(p)
	}
	within = append(slices.Clip(within), p)
	a, b := kindOf(from), kindOf(to)
	switch {
	case a != kindOther && b != kindOther:
		return (&move{from: &field{kind: a}, to: &field{kind: b}}).copyPlain
	case from.Kind() == reflect.Pointer:
		inner := converterFor(from.Elem(), to, within)
		return func(to, from unsafe.Pointer) bool {
			from = *(*unsafe.Pointer)(from)
			return from == nil || inner(to, from)
		}
	case to.Kind() == reflect.Pointer && (a != kindOther || from.Kind() == reflect.Struct): // these are never null in JSON
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

// isBinary reports whether a slice is written as base64 in JSON.
func isBinary(slice reflect.Type) bool {
	return slice.Elem().Kind() == reflect.Uint8 && !marshalsItself(slice.Elem())
}

// isPlainMap reports whether a type is a map of strings to plain values.
func isPlainMap(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !marshalsItself(t.Key()) && kindOf(t.Elem()) != kindOther
}

// throughJSON converts a value by writing it as JSON and reading it again. If the pair has no type to become, it only finds out whether the
// value can be written.
func throughJSON(p typePair) convertFunc {
	return func(to, from unsafe.Pointer) bool {
		text, err := AppendAny(nil, reflect.NewAt(p.from, from).Interface())
		return err == nil && (p.to == nil || unmarshal(text, reflect.NewAt(p.to, to)) == nil)
	}
}

// sliceConverter converts slices to slices.
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

// mapConverter converts maps of plain values to such maps.
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

// isAlwaysEncodable reports whether JSON can hold every value of a type. A float can be NaN, which JSON can't hold.
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
	return kindOf(t) != kindOther
}

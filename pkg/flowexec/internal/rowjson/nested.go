package rowjson

import (
	"reflect"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// value turns a value into one of another type, which is zero so far. False: it is in doubt.
type value func(to, from unsafe.Pointer) bool

// pair is the types of a value.
type pair struct{ from, to reflect.Type }

// valueOf compiles a value; what it has no code for goes through JSON by itself. within are the values that it is a part of:
// a type that holds itself goes through JSON, too, which finds out about cycles.
func valueOf(from, to reflect.Type, within []pair) value {
	p := pair{from, to}
	if slices.Contains(within, p) || marshalsItself(from) || marshalsItself(to) {
		return through(p)
	}
	within = append(slices.Clip(within), p)
	a, b := kindOf(from), kindOf(to)
	switch {
	case a != kindOther && b != kindOther:
		return (&move{from: &field{kind: a}, to: &field{kind: b}}).take
	case from.Kind() == reflect.Pointer:
		inner := valueOf(from.Elem(), to, within)
		return func(to, from unsafe.Pointer) bool {
			from = *(*unsafe.Pointer)(from)
			return from == nil || inner(to, from)
		}
	case to.Kind() == reflect.Pointer && (a != kindOther || from.Kind() == reflect.Struct): // which are never null
		elem, inner := to.Elem(), valueOf(from, to.Elem(), within)
		return func(to, from unsafe.Pointer) bool {
			made := reflect.New(elem).UnsafePointer()
			*(*unsafe.Pointer)(to) = made
			return inner(made, from)
		}
	case from.Kind() == reflect.Struct && to.Kind() == reflect.Struct:
		if all := moves(For(from), For(to), within); all != nil {
			return all.move
		}
	case from.Kind() == reflect.Slice && to.Kind() == reflect.Slice && isBinary(from) == isBinary(to):
		return list(p, within)
	case isPlainMap(from) && isPlainMap(to):
		return table(p)
	}
	return through(p)
}

// kindOf is how values of a type are read and written.
func kindOf(t reflect.Type) kind {
	if marshalsItself(t) || t == numberType {
		return kindOther
	}
	return kinds[t.Kind()]
}

// isBinary reports whether a slice is base64 in JSON.
func isBinary(slice reflect.Type) bool {
	return slice.Elem().Kind() == reflect.Uint8 && !marshalsItself(slice.Elem())
}

func isPlainMap(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && !marshalsItself(t.Key()) && kindOf(t.Elem()) != kindOther
}

// through takes a value through JSON; without a type to become, it finds out whether JSON can hold it.
func through(p pair) value {
	return func(to, from unsafe.Pointer) bool {
		text, err := AppendAny(nil, reflect.NewAt(p.from, from).Interface())
		return err == nil && (p.to == nil || unmarshal(text, reflect.NewAt(p.to, to)) == nil)
	}
}

// list turns slices into slices.
func list(p pair, within []pair) value {
	elem := valueOf(p.from.Elem(), p.to.Elem(), within)
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

// table turns maps of plain values into such maps.
func table(p pair) value {
	elem := valueOf(p.from.Elem(), p.to.Elem(), nil)
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

// isSure reports whether JSON can hold every value of a type.
func isSure(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) || marshalsItself(t) {
		return false
	}
	switch within = append(slices.Clip(within), t); t.Kind() {
	case reflect.Float32, reflect.Float64:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return isSure(t.Elem(), within)
	case reflect.Map:
		return isPlainMap(t) && isSure(t.Elem(), within)
	case reflect.Struct:
		return !slices.ContainsFunc(Fields(t), func(f Field) bool { return !isSure(f.Type, within) })
	}
	return kindOf(t) != kindOther
}

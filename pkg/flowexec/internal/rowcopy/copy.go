// Package rowcopy copies rows with all that their pointers, slices, maps and interfaces lead to.
package rowcopy

import (
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// Copier copies values of one type. It is immutable and safe for concurrent use.
type Copier struct {
	typ  reflect.Type
	deep bool // after an assignment two values share something
	copy copyFunc
}

// copyFunc makes the value at to, which is zero, a copy of the one at from.
type copyFunc func(to, from unsafe.Pointer, s *seen)

// seen is what was copied of one row already: something that is there twice stays one thing, also if it holds itself.
type seen struct {
	copies map[place]reflect.Value
	depth  int    // how many copies wait for the one under way
	later  []part // what lies too deep for these
	inside bool   // what is copied is no row, but something that one leads to
}

type place struct {
	at  unsafe.Pointer
	typ reflect.Type
	len int // of a slice
}

// part is a value of which the copy is still zero.
type part struct {
	copy     copyFunc
	to, from unsafe.Pointer
}

// deepest is how deep copies go into each other. Lists may be linked for ever, and a stack has an end, which is that of the process.
const deepest = 100

// into makes the value at to a copy of the one at from, now or later: what it leads to is somewhere else.
func (s *seen) into(one copyFunc, to, from unsafe.Pointer) {
	if s.depth >= deepest {
		s.later = append(s.later, part{one, to, from})
		return
	}
	s.depth++
	one(to, from, s)
	s.depth--
}

func (s *seen) find(p place) (reflect.Value, bool) {
	v, ok := s.copies[p]
	return v, ok
}

func (s *seen) note(p place, v reflect.Value) {
	if s.copies == nil {
		s.copies = make(map[place]reflect.Value)
	}
	s.copies[p] = v
}

// Deep reports whether two values of the type share something after an assignment.
func (c *Copier) Deep() bool { return c.deep }

// Copy makes the value at to a copy of the one at from.
func (c *Copier) Copy(to, from unsafe.Pointer) {
	into := reflect.NewAt(c.typ, to).Elem()
	into.SetZero()
	s := new(seen)
	for c.copy(to, from, s); len(s.later) > 0; {
		last := s.later[len(s.later)-1]
		s.later = s.later[:len(s.later)-1]
		last.copy(last.to, last.from, s)
	}
}

var copiers sync.Map // reflect.Type → *Copier

// For is the copier of a type.
func For(t reflect.Type) *Copier {
	if c, ok := copiers.Load(t); ok {
		return c.(*Copier) //nolint:forcetypeassert // nothing else is stored
	}
	c := &Copier{typ: t, deep: isDeep(t, nil)}
	if c.copy = assignment(t); c.deep {
		c.copy = compile(t)
	}
	made, _ := copiers.LoadOrStore(t, c)
	return made.(*Copier) //nolint:forcetypeassert // nothing else is stored
}

// values have pointers inside that nothing is changed through.
var values = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](),
}

// opaque are packages whose types are more than data: locks, connections, compiled things. Rows that lead to one share it.
var opaque = []string{
	"sync", "sync/atomic", "internal", "reflect", "runtime", "unique", "weak", "context", "os", "io", "net", "net/http", "database/sql", "log", "log/slog",
	"regexp", "text/template", "html/template", "crypto", "hash", "go.opentelemetry.io/otel", "google.golang.org/grpc",
}

func isOpaque(t reflect.Type) bool {
	path := t.PkgPath()
	return path != "" && t.Kind() == reflect.Struct && !slices.Contains(values, t) && slices.ContainsFunc(opaque, func(p string) bool {
		return path == p || (p == "internal" || p == "crypto" || strings.Contains(p, ".")) && strings.HasPrefix(path, p+"/")
	})
}

// isGuarded reports whether a struct has a lock of its own and a map: others may be using the map, and to read it then would end the
// process. What rows lead to of such types is shared; a row itself is copied.
func isGuarded(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	lock, mapped := false, false
	for i := range t.NumField() {
		switch f := t.Field(i).Type; {
		case f == reflect.TypeFor[sync.Mutex](), f == reflect.TypeFor[sync.RWMutex]():
			lock = true
		case f.Kind() == reflect.Map, f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Map:
			mapped = true
		}
	}
	return lock && mapped
}

var (
	messageType = reflect.TypeFor[proto.Message]()
	intType     = reflect.TypeFor[big.Int]()
	floatType   = reflect.TypeFor[big.Float]()
)

func isDeep(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) || slices.Contains(values, t) || isOpaque(t) {
		return false
	}
	within = append(slices.Clip(within), t)
	switch t.Kind() {
	case reflect.Pointer:
		return !isOpaque(t.Elem())
	case reflect.Slice, reflect.Map, reflect.Interface:
		return true
	case reflect.Array:
		return t.Len() > 0 && isDeep(t.Elem(), within)
	case reflect.Struct:
		for i := range t.NumField() {
			if isDeep(t.Field(i).Type, within) {
				return true
			}
		}
	}
	return false
}

func assignment(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, _ *seen) {
		reflect.NewAt(t, to).Elem().Set(reflect.NewAt(t, from).Elem())
	}
}

// inner copies a part of a value. It is looked up when it is needed, as a type may hold itself.
func inner(t reflect.Type) copyFunc {
	if !isDeep(t, nil) {
		return assignment(t)
	}
	return func(to, from unsafe.Pointer, s *seen) { For(t).copy(to, from, s) }
}

func compile(t reflect.Type) copyFunc {
	switch {
	case t == intType:
		return func(to, from unsafe.Pointer, _ *seen) { (*big.Int)(to).Set((*big.Int)(from)) }
	case t == floatType:
		return func(to, from unsafe.Pointer, _ *seen) { (*big.Float)(to).Copy((*big.Float)(from)) }
	case t.Kind() == reflect.Pointer && t.Implements(messageType):
		return copyMessage(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return copyPointer(t)
	case reflect.Slice:
		return copySlice(t)
	case reflect.Map:
		return copyMap(t)
	case reflect.Interface:
		return copyInterface(t)
	case reflect.Array:
		elem, size := inner(t.Elem()), t.Elem().Size()
		return func(to, from unsafe.Pointer, s *seen) {
			for i := range uintptr(t.Len()) {
				elem(unsafe.Add(to, i*size), unsafe.Add(from, i*size), s)
			}
		}
	}
	return copyStruct(t)
}

func copyMessage(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, _ *seen) {
		was := reflect.NewAt(t, from).Elem()
		if was.IsNil() {
			return
		}
		m := was.Interface().(proto.Message) //nolint:forcetypeassert // the type implements it
		reflect.NewAt(t, to).Elem().Set(reflect.ValueOf(proto.Clone(m)))
	}
}

func copyPointer(t reflect.Type) copyFunc {
	elem, shared := inner(t.Elem()), isGuarded(t.Elem())
	return func(to, from unsafe.Pointer, s *seen) {
		at := *(*unsafe.Pointer)(from)
		if at == nil {
			return
		}
		if shared && s.inside {
			*(*unsafe.Pointer)(to) = at
			return
		}
		p := place{at: at, typ: t}
		made, ok := s.find(p)
		if !ok {
			made = reflect.New(t.Elem())
			s.note(p, made)
			s.into(elem, made.UnsafePointer(), at)
		}
		*(*unsafe.Pointer)(to) = made.UnsafePointer()
	}
}

func copySlice(t reflect.Type) copyFunc {
	elem, size, plain := inner(t.Elem()), t.Elem().Size(), !isDeep(t.Elem(), nil)
	return func(to, from unsafe.Pointer, s *seen) {
		was := reflect.NewAt(t, from).Elem()
		if was.IsNil() {
			return
		}
		n, at := was.Len(), was.UnsafePointer()
		if plain {
			made := reflect.MakeSlice(t, n, n)
			reflect.Copy(made, was)
			reflect.NewAt(t, to).Elem().Set(made)
			return
		}
		p := place{at, t, n}
		made, ok := s.find(p)
		if !ok || n == 0 {
			made = reflect.MakeSlice(t, n, n)
			s.note(p, made)
			s.inside = true
			into := made.UnsafePointer()
			for i := range uintptr(n) {
				s.into(elem, unsafe.Add(into, i*size), unsafe.Add(at, i*size))
			}
		}
		reflect.NewAt(t, to).Elem().Set(made)
	}
}

func copyMap(t reflect.Type) copyFunc {
	elem := inner(t.Elem())
	return func(to, from unsafe.Pointer, s *seen) {
		was := reflect.NewAt(t, from).Elem()
		if was.IsNil() {
			return
		}
		p := place{at: was.UnsafePointer(), typ: t}
		made, ok := s.find(p)
		if !ok {
			made = reflect.MakeMapWithSize(t, was.Len())
			s.note(p, made)
			s.inside = true
			value := reflect.New(t.Elem())
			for each := was.MapRange(); each.Next(); {
				value.Elem().SetIterValue(each)
				own := reflect.New(t.Elem())
				s.depth++ // what is no pointer must be whole before the map has it
				elem(own.UnsafePointer(), value.UnsafePointer(), s)
				s.depth--
				made.SetMapIndex(each.Key(), own.Elem())
			}
		}
		reflect.NewAt(t, to).Elem().Set(made)
	}
}

// mostBoxed is how many interfaces and maps may hold one another as values. What lies deeper is shared.
const mostBoxed = 10_000

func copyInterface(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, s *seen) {
		was := reflect.NewAt(t, from).Elem()
		held := was.Elem()
		if !held.IsValid() {
			return
		}
		c := For(held.Type())
		if !c.deep || s.depth >= mostBoxed { // values that hold each other are whole before what holds them
			reflect.NewAt(t, to).Elem().Set(was)
			return
		}
		value, own := reflect.New(held.Type()), reflect.New(held.Type())
		value.Elem().Set(held)
		s.depth++
		c.copy(own.UnsafePointer(), value.UnsafePointer(), s)
		s.depth--
		reflect.NewAt(t, to).Elem().Set(own.Elem())
	}
}

func copyStruct(t reflect.Type) copyFunc {
	whole := assignment(t)
	type field struct {
		typ    reflect.Type
		offset uintptr
		copy   copyFunc
	}
	var deep []field
	for i := range t.NumField() {
		if f := t.Field(i); isDeep(f.Type, nil) {
			deep = append(deep, field{f.Type, f.Offset, inner(f.Type)})
		}
	}
	return func(to, from unsafe.Pointer, s *seen) {
		whole(to, from, s)
		s.inside = true
		for _, p := range deep {
			into := unsafe.Add(to, p.offset)
			reflect.NewAt(p.typ, into).Elem().SetZero()
			p.copy(into, unsafe.Add(from, p.offset), s)
		}
	}
}

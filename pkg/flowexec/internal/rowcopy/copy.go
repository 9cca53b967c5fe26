// Package rowcopy makes deep copies of rows: of a value, and of everything that its pointers, slices, maps and interfaces lead to. The copying
// code is compiled once for each type. Some types are shared instead of copied, such as locks and connections.
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
	typ reflect.Type
	// deep says that after an assignment two values share memory.
	deep bool
	copy copyFunc
}

// copyFunc makes the value at to, which is zero, a copy of the value at from.
type copyFunc func(to, from unsafe.Pointer, s *copyState)

// copyState is the state of copying one row. A pointer, slice or map that the row leads to twice is copied once, so that rows may even
// contain themselves.
type copyState struct {
	// copies has the copies that were made, by the values that they are of.
	copies map[source]reflect.Value
	// depth is how many copies of inner values are under way, one within the other.
	depth int
	// postponed are values that are too deep to be copied now: they are copied when the row's other values are.
	postponed []postponedCopy
	// insideRow says that the value under way is inside the row, or that the row leads to it; it is not the row itself.
	insideRow bool
}

// source is a pointer, slice or map that was copied.
type source struct {
	at  unsafe.Pointer
	typ reflect.Type
	// len is the length of a slice.
	len int
}

// postponedCopy is a value whose copy is still zero.
type postponedCopy struct {
	copy     copyFunc
	to, from unsafe.Pointer
}

// maxDepth is how many copies may be under way, one within the other. A linked list may be very long, and a stack that grows too large ends
// the process.
const maxDepth = 100

// copyInto makes the value at to a copy of the value at from, now, or later if too many copies are under way. The value at to is in memory
// of its own, so that nobody reads it before.
func (s *copyState) copyInto(one copyFunc, to, from unsafe.Pointer) {
	if s.depth >= maxDepth {
		s.postponed = append(s.postponed, postponedCopy{one, to, from})
		return
	}
	s.depth++
	one(to, from, s)
	s.depth--
}

// find returns the copy of a value that was copied before.
func (s *copyState) find(p source) (reflect.Value, bool) {
	v, ok := s.copies[p]
	return v, ok
}

// note remembers the copy of a value.
func (s *copyState) note(p source, v reflect.Value) {
	if s.copies == nil {
		s.copies = make(map[source]reflect.Value)
	}
	s.copies[p] = v
}

// Deep reports whether a value of the Copier's type leads to memory that a plain assignment would share, such as the elements of a slice.
// If not, Copy does no more than an assignment.
func (c *Copier) Deep() bool { return c.deep }

// Copy makes the value at to a copy of the value at from. Both must be of the Copier's type.
func (c *Copier) Copy(to, from unsafe.Pointer) {
	into := reflect.NewAt(c.typ, to).Elem()
	into.SetZero()
	s := new(copyState)
	for c.copy(to, from, s); len(s.postponed) > 0; {
		last := s.postponed[len(s.postponed)-1]
		s.postponed = s.postponed[:len(s.postponed)-1]
		last.copy(last.to, last.from, s)
	}
}

// copiers has the Copier of each type that was asked for: reflect.Type → *Copier.
var copiers sync.Map // reflect.Type → *Copier

// For returns the Copier of a type.
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

// values are types that have pointers inside, and whose methods never change anything through these: an assignment copies them.
var values = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](),
}

// opaque are the packages whose structs are more than data: locks, connections, compiled expressions. Copies share them.
var opaque = []string{
	"sync", "sync/atomic", "internal", "reflect", "runtime", "unique", "weak", "context", "os", "io", "net", "net/http", "database/sql", "log", "log/slog",
	"regexp", "text/template", "html/template", "crypto", "hash", "go.opentelemetry.io/otel", "google.golang.org/grpc",
}

// isOpaque reports whether a type is a struct of an opaque package.
func isOpaque(t reflect.Type) bool {
	path := t.PkgPath()
	return path != "" && t.Kind() == reflect.Struct && !slices.Contains(values, t) && slices.ContainsFunc(opaque, func(p string) bool {
		return path == p || (p == "internal" || p == "crypto" || strings.Contains(p, ".")) && strings.HasPrefix(path, p+"/")
	})
}

// isGuarded reports whether a struct has a lock and a map. Other goroutines may use the map under the lock, and reading it meanwhile would
// end the process. If a row leads to such a struct, copies share it. If the row is such a struct, it is copied.
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

// These types are copied with methods of their packages.
var (
	messageType = reflect.TypeFor[proto.Message]()
	intType     = reflect.TypeFor[big.Int]()
	floatType   = reflect.TypeFor[big.Float]()
)

// isDeep reports whether two values of a type share memory after an assignment. within are the types that this one is a part of.
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

// assignment returns a copyFunc for types whose values share nothing after an assignment.
func assignment(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, _ *copyState) {
		reflect.NewAt(t, to).Elem().Set(reflect.NewAt(t, from).Elem())
	}
}

// copyFuncOf returns the copyFunc for a part of a value. It looks up the part's Copier when a value is copied, because a type may contain
// itself.
func copyFuncOf(t reflect.Type) copyFunc {
	if !isDeep(t, nil) {
		return assignment(t)
	}
	return func(to, from unsafe.Pointer, s *copyState) { For(t).copy(to, from, s) }
}

// compile makes the copyFunc of a type whose values share memory after an assignment.
func compile(t reflect.Type) copyFunc {
	switch {
	case t == intType:
		return func(to, from unsafe.Pointer, _ *copyState) { (*big.Int)(to).Set((*big.Int)(from)) }
	case t == floatType:
		return func(to, from unsafe.Pointer, _ *copyState) { (*big.Float)(to).Copy((*big.Float)(from)) }
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
		elem, size := copyFuncOf(t.Elem()), t.Elem().Size()
		return func(to, from unsafe.Pointer, s *copyState) {
			for i := range uintptr(t.Len()) {
				elem(unsafe.Add(to, i*size), unsafe.Add(from, i*size), s)
			}
		}
	}
	return copyStruct(t)
}

// copyMessage copies protobuf messages with proto.Clone.
func copyMessage(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, _ *copyState) {
		was := reflect.NewAt(t, from).Elem()
		if was.IsNil() {
			return
		}
		m := was.Interface().(proto.Message) //nolint:forcetypeassert // the type implements it
		reflect.NewAt(t, to).Elem().Set(reflect.ValueOf(proto.Clone(m)))
	}
}

// copyPointer copies a pointer and the value behind it.
func copyPointer(t reflect.Type) copyFunc {
	elem, shared := copyFuncOf(t.Elem()), isGuarded(t.Elem())
	return func(to, from unsafe.Pointer, s *copyState) {
		at := *(*unsafe.Pointer)(from)
		if at == nil {
			return
		}
		if shared && s.insideRow {
			*(*unsafe.Pointer)(to) = at
			return
		}
		p := source{at: at, typ: t}
		made, ok := s.find(p)
		if !ok {
			made = reflect.New(t.Elem())
			s.note(p, made)
			s.copyInto(elem, made.UnsafePointer(), at)
		}
		*(*unsafe.Pointer)(to) = made.UnsafePointer()
	}
}

// copySlice copies a slice and its elements. The copy has no spare capacity.
func copySlice(t reflect.Type) copyFunc {
	elem, size, plain := copyFuncOf(t.Elem()), t.Elem().Size(), !isDeep(t.Elem(), nil)
	return func(to, from unsafe.Pointer, s *copyState) {
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
		p := source{at, t, n}
		made, ok := s.find(p)
		if !ok || n == 0 {
			made = reflect.MakeSlice(t, n, n)
			s.note(p, made)
			s.insideRow = true
			into := made.UnsafePointer()
			for i := range uintptr(n) {
				s.copyInto(elem, unsafe.Add(into, i*size), unsafe.Add(at, i*size))
			}
		}
		reflect.NewAt(t, to).Elem().Set(made)
	}
}

// copyMap copies a map and its values. Keys are not copied deeply.
func copyMap(t reflect.Type) copyFunc {
	elem := copyFuncOf(t.Elem())
	return func(to, from unsafe.Pointer, s *copyState) {
		was := reflect.NewAt(t, from).Elem()
		if was.IsNil() {
			return
		}
		p := source{at: was.UnsafePointer(), typ: t}
		made, ok := s.find(p)
		if !ok {
			made = reflect.MakeMapWithSize(t, was.Len())
			s.note(p, made)
			s.insideRow = true
			value := reflect.New(t.Elem())
			for each := was.MapRange(); each.Next(); {
				value.Elem().SetIterValue(each)
				own := reflect.New(t.Elem())
				s.depth++ // a value has to be complete before the map gets it, so that copyInto must not postpone it
				elem(own.UnsafePointer(), value.UnsafePointer(), s)
				s.depth--
				made.SetMapIndex(each.Key(), own.Elem())
			}
		}
		reflect.NewAt(t, to).Elem().Set(made)
	}
}

// maxBoxed is how many interfaces and maps may be within each other. Copies share anything deeper.
const maxBoxed = 10_000

// copyInterface copies the value in an interface.
func copyInterface(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, s *copyState) {
		was := reflect.NewAt(t, from).Elem()
		held := was.Elem()
		if !held.IsValid() {
			return
		}
		c := For(held.Type())
		if !c.deep || s.depth >= maxBoxed { // a value has to be complete before an interface gets it
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

// copyStruct copies all fields with one assignment, and then copies each field deeply that shares memory.
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
			deep = append(deep, field{f.Type, f.Offset, copyFuncOf(f.Type)})
		}
	}
	return func(to, from unsafe.Pointer, s *copyState) {
		whole(to, from, s)
		s.insideRow = true
		for _, p := range deep {
			into := unsafe.Add(to, p.offset)
			reflect.NewAt(p.typ, into).Elem().SetZero()
			p.copy(into, unsafe.Add(from, p.offset), s)
		}
	}
}

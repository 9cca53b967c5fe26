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

// Copier makes deep copies of values of one type. It is immutable and safe for concurrent use.
type Copier struct {
	typ reflect.Type
	// deep says that a value of the type and a copy by plain assignment share memory.
	deep bool
	copy copyFunc
}

// copyFunc makes the value at to, which must be zero, a deep copy of the value at from.
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

// source identifies a pointer, slice or map that was copied.
type source struct {
	at  unsafe.Pointer
	typ reflect.Type
	// len is the length of a slice.
	len int
}

// postponedCopy is a value whose copying was postponed. The value at to is zero until then.
type postponedCopy struct {
	copy     copyFunc
	to, from unsafe.Pointer
}

// maxDepth is the largest number of values that may be being copied at a time, one within the other. The rest is postponed: a linked list may
// be very long, and a stack that grows too large ends the process.
const maxDepth = 100

// copyInto copies the value at from to the memory at to, with the copyFunc one; if too many copies are under way, it postpones that. Nothing
// may read the value at to before Copier.Copy returns.
func (s *copyState) copyInto(one copyFunc, to, from unsafe.Pointer) {
	if s.depth >= maxDepth {
		s.postponed = append(s.postponed, postponedCopy{one, to, from})
		return
	}
	s.depth++
	one(to, from, s)
	s.depth--
}

// find returns the copy of p if it was copied before. false means that it was not.
func (s *copyState) find(p source) (reflect.Value, bool) {
	v, ok := s.copies[p]
	return v, ok
}

// note remembers that v is the copy of p, so that find returns it.
func (s *copyState) note(p source, v reflect.Value) {
	if s.copies == nil {
		s.copies = make(map[source]reflect.Value)
	}
	s.copies[p] = v
}

// Deep reports whether a value of the Copier's type leads to memory that a plain assignment would share, such as the elements of a slice.
// If not, Copy does no more than an assignment.
func (c *Copier) Deep() bool { return c.deep }

// Copy makes the value at to a deep copy of the value at from. Both must be of the Copier's type. The value at to is overwritten.
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

// copiers caches the Copier of each type: it maps a reflect.Type to a *Copier.
var copiers sync.Map // reflect.Type → *Copier

// For returns the Copier of a type. It is made once for each type.
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

// values are struct types with pointers inside that are copied by plain assignment all the same: their methods never change the memory that
// these pointers lead to.
var values = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](),
}

// opaque are the paths of packages whose structs are more than data, such as locks, connections and compiled expressions. A copy shares these
// structs with the original.
var opaque = []string{
	"sync", "sync/atomic", "internal", "reflect", "runtime", "unique", "weak", "context", "os", "io", "net", "net/http", "database/sql", "log", "log/slog",
	"regexp", "text/template", "html/template", "crypto", "hash", "go.opentelemetry.io/otel", "google.golang.org/grpc",
}

// isOpaque reports whether a type is a struct of one of the opaque packages, or of a package below "internal", "crypto" or a path in opaque
// that has a dot.
func isOpaque(t reflect.Type) bool {
	path := t.PkgPath()
	return path != "" && t.Kind() == reflect.Struct && !slices.Contains(values, t) && slices.ContainsFunc(opaque, func(p string) bool {
		return path == p || (p == "internal" || p == "crypto" || strings.Contains(p, ".")) && strings.HasPrefix(path, p+"/")
	})
}

// isGuarded reports whether a type is a struct with a lock and a map. Other goroutines may change the map under the lock, and copying it
// meanwhile would end the process. So if a row leads to a struct of this kind, the copy shares it. Only a row that is itself of this kind is
// copied.
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

// Values of these types are copied with methods of their packages.
var (
	messageType = reflect.TypeFor[proto.Message]()
	intType     = reflect.TypeFor[big.Int]()
	floatType   = reflect.TypeFor[big.Float]()
)

// isDeep reports whether a value of a type and a copy by plain assignment share memory that must not be shared. within are the types that t is
// nested in, so that a type which contains itself is looked at once.
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

// assignment returns a copyFunc that copies by plain assignment.
func assignment(t reflect.Type) copyFunc {
	return func(to, from unsafe.Pointer, _ *copyState) {
		reflect.NewAt(t, to).Elem().Set(reflect.NewAt(t, from).Elem())
	}
}

// copyFuncOf returns the copyFunc for a field or element of a value. It looks up the Copier of type t only when a value is copied, because t
// may contain itself.
func copyFuncOf(t reflect.Type) copyFunc {
	if !isDeep(t, nil) {
		return assignment(t)
	}
	return func(to, from unsafe.Pointer, s *copyState) { For(t).copy(to, from, s) }
}

// compile returns the copyFunc of a type for which isDeep is true.
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

// copyMessage returns a copyFunc for protobuf messages, which uses proto.Clone. t is a pointer type.
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

// copyPointer returns a copyFunc for a pointer type. It copies the value behind the pointer too, except if copies share it (isGuarded).
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

// copySlice returns a copyFunc for a slice type. It copies the elements too. The copy has no spare capacity.
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

// copyMap returns a copyFunc for a map type. It copies the values deeply, and the keys by assignment.
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

// maxBoxed is the largest depth of interfaces and maps within each other that is copied. A copy shares the values of interfaces that are
// deeper.
const maxBoxed = 10_000

// copyInterface returns a copyFunc for an interface type. It copies the value in the interface.
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

// copyStruct returns a copyFunc for a struct type. It copies all fields with one assignment, also unexported ones, and then copies each field
// deeply for whose type isDeep is true.
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

package decode

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var serializeType = reflect.TypeFor[kis.Serialize]()

// plainTypes are types of the standard library that have methods to read and write themselves, which are known to return soon
// and so need no watching.
var plainTypes = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[netip.Addr](),
	reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[url.URL](), reflect.TypeFor[big.Int](),
	reflect.TypeFor[big.Float](), reflect.TypeFor[big.Rat](),
}

// HasOwnCode reports whether reading or writing a value of a type may run code that the user wrote: a method of the type, or of
// a type within it. It is true for an interface type, whose values may have any type, and for nil, which stands for an unknown
// type.
func (t *Types) HasOwnCode(row reflect.Type) bool {
	if row == nil {
		return true
	}
	if own, ok := t.own.Load(row); ok {
		return own.(bool) //nolint:forcetypeassert // nothing else is stored
	}
	own := hasOwnCode(row, nil)
	t.own.Store(row, own)
	return own
}

// hasOwnCode finds what HasOwnCode returns, without the cache. within has the types that t is nested in, so that a type which
// contains itself is looked at once.
func hasOwnCode(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) || slices.Contains(plainTypes, t) {
		return false
	}
	if p := reflect.PointerTo(t); jsonrule.HasMethods(p) || p.Implements(serializeType) {
		return true
	}
	within = append(slices.Clip(within), t)
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return hasOwnCode(t.Elem(), within)
	case reflect.Map:
		return hasOwnCode(t.Key(), within) || hasOwnCode(t.Elem(), within)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-" && hasOwnCode(f.Type, within) {
				return true
			}
		}
	}
	return false
}

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

// plainTypes are types of the standard library whose methods are known to return.
var plainTypes = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[netip.Addr](),
	reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[url.URL](), reflect.TypeFor[big.Int](),
	reflect.TypeFor[big.Float](), reflect.TypeFor[big.Rat](),
}

// HasOwnCode reports whether reading or writing a value of a type may run code of the user's: a method of the type, or of a type
// within it. An interface may hold anything, and nil, for a type that is not known, may be anything: both have own code.
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

// hasOwnCode is HasOwnCode for a type within others, which may lead back to themselves.
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

package flowexec

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var serializeType = reflect.TypeFor[kis.Serialize]()

// plainTypes have methods of their own that are known to return.
var plainTypes = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number](), reflect.TypeFor[netip.Addr](),
	reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[url.URL](), reflect.TypeFor[big.Int](),
	reflect.TypeFor[big.Float](), reflect.TypeFor[big.Rat](),
}

// hasOwnCode reports whether to read or write a value of a type may call methods of the user's: the type's, or those of
// something that it holds. An interface may hold anything.
func (t *types) hasOwnCode(row reflect.Type) bool {
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

// findOwnCode notes the steps that read rows as they came as types which have code of the user's.
func (p *Plan) findOwnCode() {
	for _, s := range p.steps {
		s.ownCode = s.wide != nil && p.types.hasOwnCode(s.wide.reader.in[0]) || slices.ContainsFunc(s.in, p.types.hasOwnCode)
	}
}

// readsOwnCode reports whether making rows readable for a step may call methods of the user's.
func (r *run) readsOwnCode(s *step, rs *rows.Set) bool {
	switch {
	case s.ownCode || rs.Vec == nil:
		return s.ownCode
	case len(s.must) == 0 && (len(s.in) == 0 || len(s.in) == 1 && rows.KindOf(rs.Vec) == s.inKinds[0]):
		return false // they are what it reads
	}
	return r.plan.types.hasOwnCode(rs.Vec.Type())
}

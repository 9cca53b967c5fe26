package decode

import (
	"encoding"
	"encoding/json"
	"reflect"
	"sync"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	numberType          = reflect.TypeFor[json.Number]()
)

// typeFields has the two results of FieldsOf for a type.
type typeFields struct {
	fields []rowjson.Field
	ok     bool
}

// knownTypes caches the results of FieldsOf: it maps a reflect.Type to its typeFields.
var knownTypes sync.Map

// FieldsOf returns the fields that a row type has in JSON. It returns false if these are not known, since the type is no struct or has code of its
// own to read or write itself. The caller must not change the list.
func FieldsOf(t reflect.Type) ([]rowjson.Field, bool) {
	known, found := knownTypes.Load(t)
	if !found {
		fields, ok := findFields(t)
		known, _ = knownTypes.LoadOrStore(t, typeFields{fields, ok})
	}
	of := known.(typeFields)
	return of.fields, of.ok
}

// findFields finds what FieldsOf returns, without the cache.
func findFields(t reflect.Type) ([]rowjson.Field, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || kis.Reader(t) != nil || kis.Marshaler(t) != nil || jsonrule.HasMethods(reflect.PointerTo(t)) {
		return nil, false
	}
	return rowjson.Fields(t), true
}

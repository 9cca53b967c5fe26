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

// typeFields is what FieldsOf returns for a type.
type typeFields struct {
	fields []rowjson.Field
	ok     bool
}

// knownTypes is the results of FieldsOf: reflect.Type → typeFields.
var knownTypes sync.Map

// FieldsOf are the fields that a row type has in JSON. It returns false if the type may have any fields: it is no struct, or has code of its own. The
// list must not be changed.
func FieldsOf(t reflect.Type) ([]rowjson.Field, bool) {
	known, found := knownTypes.Load(t)
	if !found {
		fields, ok := findFields(t)
		known, _ = knownTypes.LoadOrStore(t, typeFields{fields, ok})
	}
	of := known.(typeFields)
	return of.fields, of.ok
}

// findFields is FieldsOf for a type that is asked for the first time.
func findFields(t reflect.Type) ([]rowjson.Field, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || kis.Reader(t) != nil || kis.Marshaler(t) != nil || jsonrule.HasMethods(reflect.PointerTo(t)) {
		return nil, false
	}
	return rowjson.Fields(t), true
}

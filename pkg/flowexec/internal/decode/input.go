package decode

import (
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Input describes how one step of a flow reads rows. It is filled in when the flow is compiled, and does not change after that.
type Input struct {
	// Index is the place of the step in the flow, from 0; Name is the name of its function.
	Index int
	Name  string
	// Types are the row types that the function reads. Kinds[i] is the kind of vector for Types[i], and New(i) makes such a vector.
	Types []reflect.Type
	Kinds []rows.Kind
	New   func(i int) kis.Vector
	// Serializers are, for each of Types, the type's own way to read rows, or nil. The list is nil if none has one.
	Serializers []kis.Serialize
	// Must are the fields that source.must names: a row without one of them is dead.
	Must []string
	// Needs are the fields, among Must, that rows must have because source.fields declares them, each with its type as the document has it. nil means
	// that there are none.
	Needs map[string]string
	// Misfit says for a row, as JSON, why it does not fit the types that source.fields declares. It is set for functions that are made of expressions,
	// whose messages name neither Go types nor values; nil for others.
	Misfit func(row []byte) string
	// GetsAll means that the function gets all rows of a run in one call, as Batch and FaaS functions do. FaaS means that it was registered with
	// kis.Registry.FaaS.
	GetsAll, FaaS bool
	// CalledAgain means that the function may be called more than once for a row.
	CalledAgain bool
	// PassesOn means that the function passes rows on as they came to it.
	PassesOn bool
	// Changes means that the function may change what rows point to. OwnCode means that reading rows as they came may run code of their types.
	// Compile sets both, and the fields below.
	Changes, OwnCode bool

	codec    *rowjson.Codec // of the only type that is read; nil if there are several
	mustSeen rowjson.Must   // Must, for that codec; 0 if the codec can't tell
	wide     *wide          // nil if rows as they came are decoded for this step
	message  reflect.Type   // the generated protobuf message, as a pointer, that this step or the first one behind it reads; nil if none does
}

// Compile sets the remaining fields of the inputs of a flow's steps. steps are in the order of the flow.
func (t *Types) Compile(steps []*Input) {
	for _, in := range steps {
		if len(in.Types) == 1 {
			in.codec = t.reader(in, elem(in.Types[0]))
			in.mustSeen, _ = in.codec.Must(in.Must)
		}
	}
	findWide(steps)
	var message reflect.Type
	for _, in := range slices.Backward(steps) {
		if own := messageOf(in.Types); own != nil {
			message = own
		}
		in.message = message
		in.OwnCode = in.wide != nil && t.HasOwnCode(in.wide.reader.Types[0]) || slices.ContainsFunc(in.Types, t.HasOwnCode)
		in.Changes = in.FaaS || // which may ask for its input
			slices.ContainsFunc(in.Types, func(row reflect.Type) bool { return rowcopy.For(row).Deep() })
	}
}

var messageType = reflect.TypeFor[proto.Message]()

// messageOf returns the first of the types that is a generated protobuf message, as a pointer type; nil if none is.
func messageOf(types []reflect.Type) reflect.Type {
	for _, t := range types {
		if t.Kind() != reflect.Pointer {
			t = reflect.PointerTo(t)
		}
		if t.Elem().Kind() == reflect.Struct && t.Implements(messageType) {
			return t
		}
	}
	return nil
}

package flowexec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

var (
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	marshalerType       = reflect.TypeFor[json.Marshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
)

// fieldsOf are the fields that a row type has in JSON; false: it may have any.
func fieldsOf(t reflect.Type) ([]rowjson.Field, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for _, own := range []reflect.Type{textUnmarshalerType, unmarshalerType, marshalerType, textMarshalerType} {
		if reflect.PointerTo(t).Implements(own) {
			return nil, false
		}
	}
	return rowjson.Fields(t), true
}

// checkTypes finds fields that a function reads, or that its source names as a must, and the row type before it lacks. A
// field that may be left out (omitempty, omitzero, a pointer) may also be lacking.
func checkTypes(b *definition.Bundle, steps []*step) definition.Mistakes {
	var mistakes definition.Mistakes
	var carried reflect.Type // what the rows are before each step; nil: not known
	carrier := ""
	for _, s := range steps {
		if has, ok := knownFields(carried); ok {
			wrong := func(name, reads string) {
				mistakes = append(mistakes, &definition.Mistake{
					Document: b.Flow.Document.String(), Line: b.Flow.Functions[s.index].Line, Key: fmt.Sprintf("flows[%d].fname", s.index),
					Code: batch.CodeFlowUncompilable,
					Problem: fmt.Sprintf("%s %s the field %s, which %v lacks, that %s passes on (it has %s): add the field there",
						s.name, reads, name, carried, carrier, fieldNames(has)),
				})
			}
			for _, in := range s.in {
				wants, _ := knownFields(in)
				for _, f := range wants {
					if _, ok := rowjson.Find(has, f.Name); !ok && !f.OmitEmpty && !f.OmitZero && f.Type.Kind() != reflect.Pointer {
						wrong(f.Name, fmt.Sprintf("reads (as %v)", in))
					}
				}
			}
			for _, name := range s.must {
				if _, ok := rowjson.Find(has, name); !ok {
					wrong(name, "must have (source.must)")
				}
			}
		}
		switch {
		case s.form == kis.FormFaaS || s.form == kis.FormLoad && s.code == nil:
			carried = nil
		case s.out != nil:
			carried, carrier = s.out, s.name
		}
	}
	return mistakes
}

func knownFields(t reflect.Type) ([]rowjson.Field, bool) {
	if t == nil {
		return nil, false
	}
	return fieldsOf(t)
}

func known(t reflect.Type) bool {
	_, ok := knownFields(t)
	return ok
}

func fieldNames(fields []rowjson.Field) string {
	if len(fields) == 0 {
		return "none"
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

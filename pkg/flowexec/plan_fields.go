package flowexec

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// numberType is the type json.Number, which may be written as a number or as a string.
var numberType = reflect.TypeFor[json.Number]()

// checkTypes checks that each function finds the fields that it reads, or that its document names, in the type of the rows that come to it.
// It is a mistake if the field is missing there, or has a type whose values can't be read as the type that the function wants. A field that
// the function reads and that may be left out (omitempty, omitzero, a pointer) may be missing. Where the type of the rows is not known,
// nothing is checked.
func checkTypes(b *definition.Bundle, steps []*step) definition.Mistakes {
	var mistakes definition.Mistakes
	var carried reflect.Type // the rows' type before each step; nil means that it is not known
	carrier := ""
	for _, s := range steps {
		if has, ok := knownFields(carried); ok {
			wrong := func(d definition.Document, line int, key, format string, args ...any) {
				mistakes = append(mistakes, &definition.Mistake{
					Document: d.String(), Line: line, Key: key, Code: batch.CodeFlowUncompilable, Problem: fmt.Sprintf(format, args...),
				})
			}
			wrongStep := func(format string, args ...any) {
				wrong(b.Flow.Document, b.Flow.Functions[s.Index].Line, fmt.Sprintf("flows[%d].fname", s.Index), format, args...)
			}
			lacks := func(name string) string {
				fields := "no field"
				if len(has) > 0 {
					fields = strings.Join(fieldNames(has), ", ")
				}
				return fmt.Sprintf("the field %s, which %v lacks, that %s passes on (it has %s): add the field there%s",
					name, carried, carrier, fields, definition.Suggest(name, fieldNames(has)))
			}
			for _, in := range s.Types {
				wants, _ := knownFields(in)
				for _, f := range wants {
					switch from, ok := rowjson.Find(has, f.Name); {
					case ok && !mayFit(from, f):
						wrongStep("%s reads (as %v) the field %s as %v, but it is %v in %v, that %s passes on: make the two types agree",
							s.Name, in, f.Name, f.Type, from.Type, carried, carrier)
					case !ok && !f.OmitEmpty && !f.OmitZero && f.Type.Kind() != reflect.Pointer:
						wrongStep("%s reads (as %v) %s", s.Name, in, lacks(f.Name))
					}
				}
			}
			for _, name := range s.Must {
				if _, ok := rowjson.Find(has, name); !ok {
					wrongStep("%s must have (source.must) %s", s.Name, lacks(name))
				}
			}
			for _, d := range s.declared() {
				if _, ok := rowjson.Find(has, d.field); !ok {
					doc := b.Functions[s.Name].Document
					wrong(doc, doc.LineOf(d.key), d.key, "in the flow %s it names %s", b.Flow.Name, lacks(d.field))
				}
			}
		}
		switch {
		case s.form == kis.FormFaaS || s.form == kis.FormLoad && s.code == nil:
			carried = nil
		case s.out != nil:
			carried, carrier = s.out, s.Name
		}
	}
	return mistakes
}

// declaredField is a field of rows that a function's document names, and the key of the document that names it.
type declaredField struct{ key, field string }

// declared returns the fields of rows that the step's declared Save or Load reads; it returns nil for a step with Go code.
func (s *step) declared() []declaredField {
	var all []declaredField
	template := func(key string, t definition.Template) {
		for _, part := range t.Parts {
			if part.Field != "" {
				all = append(all, declaredField{key, part.Field})
			}
		}
	}
	if s.save != nil {
		template("option.save.key", s.save.Key)
		for _, name := range slices.Sorted(maps.Keys(s.save.Fields)) {
			if _, computed := s.save.Expressions[name]; computed {
				continue
			}
			all = append(all, declaredField{"option.save." + string(s.save.Op) + "." + name, s.save.Fields[name]})
		}
	}
	if s.load != nil {
		template("option.load.key", s.load.Key)
	}
	return all
}

// mayFit reports whether a value of the field from can perhaps be read as the field to. It is false only if no value can, such as a number
// that is read as a string.
func mayFit(from, to rowjson.Field) bool {
	if from.OmitEmpty || from.OmitZero || from.Quoted || to.Quoted {
		return true
	}
	a, b := shapeOf(from.Type), shapeOf(to.Type)
	return a == b || a == anyShape || b == anyShape
}

// shape is the kind of JSON value that a type is written as.
type shape uint8

const (
	// anyShape is for types that may be written as null, or whose methods write them.
	anyShape shape = iota
	// boolShape is true or false.
	boolShape
	// numberShape is a number.
	numberShape
	// stringShape is a string.
	stringShape
	// objectShape is an object.
	objectShape
)

// shapeOf returns the shape of a type: anyShape for all types but those that are always written as one kind of JSON value.
func shapeOf(t reflect.Type) shape {
	switch k := t.Kind(); {
	case t == numberType, jsonrule.HasMethods(reflect.PointerTo(t)):
		return anyShape
	case k == reflect.Bool:
		return boolShape
	case reflect.Int <= k && k <= reflect.Float64:
		return numberShape
	case k == reflect.String:
		return stringShape
	case k == reflect.Struct:
		return objectShape
	}
	return anyShape
}

// knownFields returns the fields of a row type. The bool is false if t is nil, or if rows of the type may have any fields.
func knownFields(t reflect.Type) ([]rowjson.Field, bool) {
	if t == nil {
		return nil, false
	}
	return decode.FieldsOf(t)
}

// fieldNames returns the names of fields, in their order.
func fieldNames(fields []rowjson.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

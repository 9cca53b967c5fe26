package flowexec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
)

// numberType is the type json.Number, which may be written as a number or as a string.
var numberType = reflect.TypeFor[json.Number]()

// checkTypes checks that each function finds the fields that it reads, or that its document names, in the type of the rows that come to it.
// It is a mistake if the field is missing there, or has a type whose values can't be read as the type that the function wants. A field that
// the function reads and that may be left out (omitempty, omitzero, a pointer, T? in source.fields) may be missing. Where only some fields of the rows
// are known, only the types of these are checked.
func checkTypes(b *definition.Bundle, steps []*step) definition.Mistakes {
	var mistakes definition.Mistakes
	var carried rowType // the rows' type before each step
	for _, s := range steps {
		if names, known := carried.fields(); known || len(carried.found) > 0 {
			wrong := func(d definition.Document, line int, key, format string, args ...any) {
				mistakes = append(mistakes, &definition.Mistake{
					Document: d.String(), Line: line, Key: key, Code: batch.CodeFlowUncompilable, Problem: fmt.Sprintf(format, args...),
				})
			}
			wrongStep := func(format string, args ...any) {
				wrong(b.Flow.Document, b.Flow.Functions[s.Index].Line, fmt.Sprintf("flows[%d].fname", s.Index), format, args...)
			}
			lacks := func(name string) string { return carried.lacks(name, definition.Suggest(name, names)) }
			if s.exprs == nil {
				for _, in := range s.Types {
					wants, _ := knownFields(in)
					for _, f := range wants {
						switch why := carried.misread(f); {
						case why != "":
							wrongStep("%s reads (as %s) the field %s as %v, but it is %s in %s, that %s passes on: make the two types agree",
								s.Name, rowjson.TypeName(in), f.Name, f.Type, why, carried.name(), carried.maker)
						case known && !carried.has(f.Name) && !f.OmitEmpty && !f.OmitZero && f.Type.Kind() != reflect.Pointer:
							wrongStep("%s reads (as %s) %s", s.Name, rowjson.TypeName(in), lacks(f.Name))
						}
					}
				}
			}
			for _, in := range s.exprInputs() {
				doc := b.Functions[s.Name].Document
				key := "source.fields." + in.Name
				wrongField := func(format string, args ...any) {
					wrong(doc, cmp.Or(doc.LineOf(key), doc.LineOf("fname")), key, "in the flow "+b.Flow.Name+" "+s.Name+" reads "+format, args...)
				}
				if !carried.has(in.Name) {
					if known && !in.Type.IsOptional() {
						wrongField("%s", lacks(in.Name))
					}
				} else if from, text := carried.typeOf(in.Name); clash(from, in.Type, carried.goes == nil) != "" {
					wrongField("the field %s as %s, but it is %s in %s, that %s passes on: %s", in.Name, in.Type, text, carried.name(), carried.maker, clash(from, in.Type, carried.goes == nil))
				}
			}
			for _, name := range s.Must {
				if known && !carried.has(name) && s.Needs[name] == "" {
					wrongStep("%s must have (source.must) %s", s.Name, lacks(name))
				}
			}
			for _, d := range s.declared() {
				if known && !carried.has(d.field) {
					doc := b.Functions[s.Name].Document
					wrong(doc, doc.LineOf(d.key), d.key, "in the flow %s it names %s", b.Flow.Name, lacks(d.field))
				}
			}
		}
		carried = s.passes(carried)
	}
	return mistakes
}

// exprInputs returns the fields of rows that the step's expressions read.
func (s *step) exprInputs() []expr.Input {
	var all []expr.Input
	switch {
	case s.exprs != nil:
		all = s.exprs.inputs
	case s.effects != nil:
		all = s.effects.inputs
	}
	return slices.DeleteFunc(slices.Clone(all), func(in expr.Input) bool { return in.Variable || in.Name == "" })
}

// misread says what a field of the rows is that can't be read as the field f of a Go type; "" if it can be, or the rows lack it.
func (r rowType) misread(f rowjson.Field) string {
	if r.goes == nil {
		if t, text := r.typeOf(f.Name); r.has(f.Name) && !mayRead(t, f) {
			return text
		}
		return ""
	}
	has, _ := knownFields(r.goes)
	if from, ok := rowjson.Find(has, f.Name); ok && !mayFit(from, f) {
		return from.Type.String()
	}
	return ""
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

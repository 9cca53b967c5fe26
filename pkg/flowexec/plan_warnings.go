package flowexec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// rowFields are the fields that rows are known to have at one place of a flow, from the types of the functions before.
type rowFields struct {
	fields []rowjson.Field
	// from is the name of the function that made the rows.
	from string
	// typed says that all rows are of one Go type, so that checkTypes has reported missing fields as mistakes. Otherwise a declared Load
	// has added fields, or a function in KisFlow's shape is trusted to pass rows on as they came.
	typed bool
	// loadedBy has, for each field that a declared Load set, the name of that function.
	loadedBy map[string]string
}

// Warnings returns slips that do not keep the flow from running, for the author of the flow. Most are fields that a function reads and
// that its rows lack, or have as another type: a Verify would then check nothing, and nobody would notice. Another is a type in
// option.load.types that has no effect. Each warning is document:line: key: text.
func (p *Plan) Warnings() []string {
	var warnings []string
	var rows *rowFields // nil: not known
	for _, s := range p.steps {
		if rows != nil {
			for _, problem := range rows.problems(s) {
				m := definition.Mistake{
					Document: p.bundle.Flow.Document.String(), Line: p.bundle.Flow.Functions[s.Index].Line,
					Key: fmt.Sprintf("flows[%d].fname", s.Index), Problem: problem,
				}
				warnings = append(warnings, m.Error())
			}
		}
		for _, set := range s.sets.Fields {
			if set.Reader != nil && set.As != "" {
				doc, key := p.bundle.Functions[s.Name].Document, "option.load.types."+set.Name
				m := definition.Mistake{Document: doc.String(), Line: doc.LineOf(key), Key: key, Problem: fmt.Sprintf(
					"is not asked in the flow %s, where a later function reads the field as %v, which decides: take it out, or have no other flow need it", p.flow, set.Reader.Type)}
				warnings = append(warnings, m.Error())
			}
		}
		rows = rows.behind(s)
	}
	return warnings
}

// problems returns a text for each field that a step reads and that the rows lack, or have as a type that does not fit.
func (rows *rowFields) problems(s *step) (problems []string) {
	looks := s.mode == definition.ModeVerify && s.passesOn()
	for _, in := range s.Types {
		wants, _ := decode.FieldsOf(in)
		for _, f := range wants {
			from, ok := rowjson.Find(rows.fields, f.Name)
			optional := f.OmitEmpty || f.OmitZero || f.Type.Kind() == reflect.Pointer
			switch {
			case ok && !rows.typed && !mayFit(from, f):
				problems = append(problems, fmt.Sprintf("%s reads (as %v) the field %s as %v, but it is %v as %s: rows whose value does not fit are dead, make the types agree",
					s.Name, in, f.Name, f.Type, from.Type, rows.setterOf(from.Name)))
			case !ok && (looks && optional || !rows.typed && !optional):
				problems = append(problems, fmt.Sprintf("%s reads (as %v) the field %s, %s: it is always empty there, add the field before or take it out%s",
					s.Name, in, f.Name, rows.describeLack(), definition.Suggest(f.Name, fieldNames(rows.fields))))
			}
		}
	}
	if rows.typed {
		return problems
	}
	for _, name := range s.Must {
		if _, ok := rowjson.Find(rows.fields, name); !ok {
			problems = append(problems, fmt.Sprintf("%s must have (source.must) the field %s, %s: all rows are dead there", s.Name, name, rows.describeLack()))
		}
	}
	for _, d := range s.declared() {
		if _, ok := rowjson.Find(rows.fields, d.field); !ok {
			problems = append(problems, fmt.Sprintf("%s names (%s) the field %s, %s: all rows are dead there", s.Name, d.key, d.field, rows.describeLack()))
		}
	}
	return problems
}

// describeLack returns the part of a warning's text which says that the rows lack a field, and which fields they have.
func (rows *rowFields) describeLack() string {
	return fmt.Sprintf("which the rows that %s passes on lack (here they have %s)", rows.from, strings.Join(fieldNames(rows.fields), ", "))
}

// setterOf returns the part of a warning's text which says which function gave a field its value.
func (rows *rowFields) setterOf(name string) string {
	if load := rows.loadedBy[name]; load != "" {
		return load + " sets it for the first function that reads it"
	}
	return rows.from + " passes it on"
}

// behind returns the fields of the rows behind a step; nil means that they are not known.
func (rows *rowFields) behind(s *step) *rowFields {
	switch {
	case s.form == kis.FormFaaS && s.mode != definition.ModeVerify:
		return nil // it may pass on rows with any fields
	case s.out != nil && s.form != kis.FormFaaS:
		fields, ok := decode.FieldsOf(s.out)
		if !ok {
			return nil
		}
		return &rowFields{fields: fields, from: s.Name, typed: true}
	case rows == nil || s.form != kis.FormFaaS && s.load == nil:
		return rows
	}
	behind := &rowFields{fields: slices.Clone(rows.fields), from: rows.from, loadedBy: make(map[string]string, len(rows.loadedBy))}
	maps.Copy(behind.loadedBy, rows.loadedBy)
	for _, set := range s.sets.Fields {
		behind.fields = slices.DeleteFunc(behind.fields, func(f rowjson.Field) bool { return f.Name == set.Name })
		field := rowjson.Field{Name: set.Name, Type: reflect.TypeFor[any]()}
		if set.Reader != nil {
			field.Type, field.Quoted = set.Reader.Type, set.Reader.Quoted
		}
		behind.fields = append(behind.fields, field)
		behind.loadedBy[set.Name] = s.Name
	}
	return behind
}

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

// This file is what can be told of a flow that compiles and runs, and may be a slip all the same.

// rowFields are the fields of rows, as far as they are known from the types of the functions that they went through.
type rowFields struct {
	fields []rowjson.Field
	from   string // the function that made the rows
	// certain: the rows are of one type, for which checkTypes refuses fields that must be there. Else other fields were added, or a function
	// is taken at its word to pass rows on as they came.
	certain bool
	loads   map[string]string // by field, the declared Load that set it
}

// Warnings say what functions read that rows never have there, or have as something else, where that does not keep the flow from
// running: a Verify would look at nothing, and nobody would hear of it. Each is document:line: key: what. It is for whoever writes the
// flow; it does not block.
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
		rows = rows.after(s)
	}
	return warnings
}

// problems are what a step reads of rows that they don't have.
func (rows *rowFields) problems(s *step) (problems []string) {
	looks := s.mode == definition.ModeVerify && s.passesOn()
	for _, in := range s.Types {
		wants, _ := decode.FieldsOf(in)
		for _, f := range wants {
			from, ok := rowjson.Find(rows.fields, f.Name)
			optional := f.OmitEmpty || f.OmitZero || f.Type.Kind() == reflect.Pointer
			switch {
			case ok && !rows.certain && !fits(from, f):
				problems = append(problems, fmt.Sprintf("%s reads (as %v) the field %s as %v, but it is %v as %s: rows whose value does not fit are dead, make the types agree",
					s.Name, in, f.Name, f.Type, from.Type, rows.origin(from.Name)))
			case !ok && (looks && optional || !rows.certain && !optional):
				problems = append(problems, fmt.Sprintf("%s reads (as %v) the field %s, %s: it is always empty there, add the field before or take it out%s",
					s.Name, in, f.Name, rows.lack(), definition.Suggest(f.Name, fieldNames(rows.fields))))
			}
		}
	}
	if rows.certain {
		return problems
	}
	for _, name := range s.Must {
		if _, ok := rowjson.Find(rows.fields, name); !ok {
			problems = append(problems, fmt.Sprintf("%s must have (source.must) the field %s, %s: all rows are dead there", s.Name, name, rows.lack()))
		}
	}
	for _, d := range s.declared() {
		if _, ok := rowjson.Find(rows.fields, d.field); !ok {
			problems = append(problems, fmt.Sprintf("%s names (%s) the field %s, %s: all rows are dead there", s.Name, d.key, d.field, rows.lack()))
		}
	}
	return problems
}

func (rows *rowFields) lack() string {
	return fmt.Sprintf("which the rows that %s passes on lack (here they have %s)", rows.from, strings.Join(fieldNames(rows.fields), ", "))
}

// origin says which function gave a field its value.
func (rows *rowFields) origin(name string) string {
	if load := rows.loads[name]; load != "" {
		return load + " sets it for the first function that reads it"
	}
	return rows.from + " passes it on"
}

// after is what is known of the rows behind a step.
func (rows *rowFields) after(s *step) *rowFields {
	switch {
	case s.form == kis.FormFaaS && s.mode != definition.ModeVerify:
		return nil // which passes on whatever it likes
	case s.out != nil && s.form != kis.FormFaaS:
		fields, ok := decode.FieldsOf(s.out)
		if !ok {
			return nil
		}
		return &rowFields{fields: fields, from: s.Name, certain: true}
	case rows == nil || s.form != kis.FormFaaS && s.load == nil:
		return rows
	}
	behind := &rowFields{fields: slices.Clone(rows.fields), from: rows.from, loads: make(map[string]string, len(rows.loads))}
	maps.Copy(behind.loads, rows.loads)
	for _, set := range s.sets.Fields {
		behind.fields = slices.DeleteFunc(behind.fields, func(f rowjson.Field) bool { return f.Name == set.Name })
		field := rowjson.Field{Name: set.Name, Type: reflect.TypeFor[any]()}
		if set.Reader != nil {
			field.Type, field.Quoted = set.Reader.Type, set.Reader.Quoted
		}
		behind.fields = append(behind.fields, field)
		behind.loads[set.Name] = s.Name
	}
	return behind
}

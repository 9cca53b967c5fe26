package flowexec

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// bind finds the Go code of a step, and sets the step's fields that follow from it. It returns the mistakes that it finds: for
// example no function is registered under the name, or one is registered although the document declares the function, or the
// registered form does not fit the document's mode.
func (s *step) bind(b *definition.Bundle, doc *definition.Function, entry definition.FlowFunction, r *kis.Registry, carried rowType) definition.Mistakes {
	var mistakes definition.Mistakes
	wrong := func(d definition.Document, line int, key string, code batch.Code, format string, args ...any) {
		mistakes = append(mistakes, &definition.Mistake{
			Document: d.String(), Line: line, Key: key, Code: code, Problem: fmt.Sprintf(format, args...),
		})
	}
	code, ok := r.Lookup(s.Name)
	if doc.Declared() {
		params, err := b.ParamValues(s.Index)
		if err != nil {
			wrong(b.Flow.Document, entry.Line, fmt.Sprintf("flows[%d].params", s.Index), batch.CodeFlowUncompilable, "%v", err)
			return mistakes
		}
		names := namesOf(doc, params, carried)
		if doc.Save != nil || doc.Load != nil {
			var found definition.Mistakes
			s.effects, found = compileEffects(doc, names)
			mistakes = append(mistakes, found...)
		} else {
			own, found := newExprCode(doc, names)
			if mistakes = append(mistakes, found...); len(mistakes) > 0 {
				return mistakes
			}
			if ok {
				key := "option." + strings.ToLower(string(doc.Mode))
				wrong(doc.Document, doc.Document.LineOf(key), key, batch.CodeFlowUncompilable,
					"%s is declared by its document, and registered as kis.%s too (%s): remove one of the two", s.Name, code.Form(), r.Place(s.Name))
				return mistakes
			}
			code, ok = own, true
			s.Needs, s.Misfit, s.exprs = own.needs, own.explain, own
			if !own.raw { // rows that stay JSON are checked by the code itself
				s.Must = append(slices.Clone(s.Must), slices.Sorted(maps.Keys(own.needs))...)
			}
		}
	}
	switch {
	case !ok && doc.Save == nil && doc.Load == nil:
		wrong(b.Flow.Document, entry.Line, fmt.Sprintf("flows[%d].fname", s.Index), batch.CodeUnknownFunction,
			"no function %q is registered here%s: register it under this name, or correct the name%s",
			s.Name, listRegistered(r), definition.Suggest(s.Name, registeredNames(r)))
		return mistakes
	case ok && (doc.Save != nil || doc.Load != nil):
		key := "option.save"
		if doc.Load != nil {
			key = "option.load"
		}
		wrong(doc.Document, doc.Document.LineOf(key), key, batch.CodeFlowUncompilable,
			"%s is declared by its document, and registered as kis.%s too (%s): remove one of the two", s.Name, code.Form(), r.Place(s.Name))
		return mistakes
	case !ok:
		s.form = kis.FormSave
		if doc.Load != nil {
			s.form = kis.FormLoad
		}
	default:
		s.code, s.form, s.Types, s.out = code, code.Form(), code.In(), code.Out()
		s.New = code.NewIn
		for i := range s.Types {
			s.Kinds = append(s.Kinds, rows.KindOf(code.NewIn(i)))
		}
		if own, ok := code.(interface{ Serializers() []kis.Serialize }); ok {
			s.Serializers = own.Serializers()
		}
		if s.out != nil {
			s.outKind, s.outPointer = rows.KindOf(code.NewOut()), s.out.Kind() == reflect.Pointer
			s.weigher = newWeigher(s.out)
		}
	}
	if !s.form.Whole() && s.form.String() != string(doc.Mode) {
		wrong(doc.Document, doc.Document.LineOf("fmode"), "fmode", batch.CodeFlowUncompilable,
			"is %s, but %s is registered as kis.%s (%s): make the two agree", doc.Mode, s.Name, s.form, r.Place(s.Name))
	}
	if (s.form == kis.FormSave || s.form == kis.FormLoad) && s.connector == nil {
		wrong(doc.Document, cmp.Or(doc.Document.LineOf("option"), doc.Document.LineOf("fmode")), "option.cname", batch.CodeUnknownConnector,
			"is missing: %s is a kis.%s (%s), and needs the name of a connector", s.Name, s.form, r.Place(s.Name))
	}
	return mistakes
}

// listRegistered returns text for an error about a function that is not registered: it lists up to ten functions that are.
func listRegistered(r *kis.Registry) string {
	const most = 10
	all := registeredNames(r)
	switch {
	case len(all) == 0:
		return " (nothing is)"
	case len(all) > most:
		all = append(all[:most:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return " (these are: " + strings.Join(all, ", ") + ")"
}

// registeredNames returns the names of the functions that are registered.
func registeredNames(r *kis.Registry) []string {
	infos := r.Functions()
	names := make([]string, len(infos))
	for i, f := range infos {
		names[i] = f.Name
	}
	return names
}

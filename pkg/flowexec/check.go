package flowexec

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// bind finds the code behind a step, and says what does not fit.
func (s *step) bind(b *definition.Bundle, doc *definition.Function, entry definition.FlowFunction, r *kis.Registry) definition.Mistakes {
	var mistakes definition.Mistakes
	wrong := func(d definition.Document, line int, key string, code batch.Code, format string, args ...any) {
		mistakes = append(mistakes, &definition.Mistake{
			Document: d.String(), Line: line, Key: key, Code: code, Problem: fmt.Sprintf(format, args...),
		})
	}
	code, ok := r.Lookup(s.name)
	switch {
	case !ok && doc.Save == nil && doc.Load == nil:
		wrong(b.Flow.Document, entry.Line, fmt.Sprintf("flows[%d].fname", s.index), batch.CodeUnknownFunction,
			"no function %q is registered here%s: register it under this name, or correct the name", s.name, registered(r))
		return mistakes
	case ok && (doc.Save != nil || doc.Load != nil):
		wrong(doc.Document, 0, "option", batch.CodeFlowUncompilable,
			"%s is declared by its document, and registered as kis.%s too: remove one of the two", s.name, code.Form())
		return mistakes
	case !ok:
		s.form = kis.FormSave
		if doc.Load != nil {
			s.form = kis.FormLoad
		}
	default:
		s.code, s.form, s.in, s.out = code, code.Form(), code.In(), code.Out()
		for i := range s.in {
			s.inKinds = append(s.inKinds, kindOf(code.NewIn(i)))
		}
		if own, ok := code.(interface{ Serializers() []kis.Serialize }); ok {
			s.serializers = own.Serializers()
		}
		if s.out != nil {
			s.outKind, s.outPointer = kindOf(code.NewOut()), s.out.Kind() == reflect.Pointer
		}
	}
	if !s.form.Whole() && s.form.String() != string(doc.Mode) {
		wrong(doc.Document, 0, "fmode", batch.CodeFlowUncompilable,
			"is %s, but %s is registered as kis.%s: make the two agree", doc.Mode, s.name, s.form)
	}
	if (s.form == kis.FormSave || s.form == kis.FormLoad) && s.connector == nil {
		wrong(doc.Document, doc.ConnectorLine, "option.cname", batch.CodeUnknownConnector,
			"%s is a %s and has no connector: name one", s.name, s.form)
	}
	return mistakes
}

// registered lists what there is instead.
func registered(r *kis.Registry) string {
	infos := r.Functions()
	if len(infos) == 0 {
		return " (nothing is)"
	}
	names := make([]string, 0, 10)
	for i, f := range infos {
		if i == 10 {
			names = append(names, fmt.Sprintf("and %d more", len(infos)-i))
			break
		}
		names = append(names, f.Name)
	}
	return " (these are: " + strings.Join(names, ", ") + ")"
}

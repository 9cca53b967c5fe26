package flowexec

import (
	"errors"
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// CompileAll compiles every flow of a set and returns the plans by name. wrong is the error that making the set returned; nil means that
// there was none. A flow some of whose documents did not parse is compiled as far as the others go, for the mistakes in them. The error has code FLOW_UNCOMPILABLE; its cause, a definition.Mistakes, has every mistake in documents, registration and
// flows, each once.
func CompileAll(set *definition.Set, wrong error, r *kis.Registry) (map[string]*Plan, error) {
	var all definition.Mistakes
	told := make(map[definition.Mistake]bool) // flows share functions, and their mistakes
	tell := func(err error) {
		for _, m := range mistakesOf(err) {
			if !told[*m] {
				told[*m] = true
				all = append(all, m)
			}
		}
	}
	tell(wrong)
	tell(r.Err())
	plans := make(map[string]*Plan, len(set.Flows))
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		b, err := set.Bundle(name)
		if err == nil {
			plans[name], err = Compile(b, r)
		}
		tell(err)
		if b == nil {
			tell(mistakesBeside(set, name, r))
		}
	}
	if len(all) > 0 {
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "%d mistakes:\n%w", len(all), all)
	}
	return plans, nil
}

// mistakesBeside returns the mistakes in the functions of a flow some of whose documents did not parse, or are not there. nil means that there are
// none.
func mistakesBeside(set *definition.Set, flow string, r *kis.Registry) error {
	f := set.Flows[flow]
	if f == nil {
		return nil
	}
	_, mistakes := compileSteps(&definition.Bundle{Flow: f, Functions: set.Functions, Connectors: set.Connectors}, r)
	mistakes = slices.DeleteFunc(mistakes, func(m *definition.Mistake) bool { return m.Code == batch.CodeUnknownConnector }) // its document may be one of them
	if len(mistakes) == 0 {
		return nil
	}
	return mistakes
}

// stepWithoutDocument returns a step of a function whose document did not parse: of the step's place and name, and its Go code if it has any. The step can't run.
func stepWithoutDocument(name string, place int, r *kis.Registry) *step {
	s := &step{Input: decode.Input{Index: place, Name: name}}
	if code, ok := r.Lookup(name); ok {
		s.code, s.form, s.Types, s.out = code, code.Form(), code.In(), code.Out()
	}
	return s
}

// mistakesOf returns the mistakes in an error, also those in errors that are joined in it. An error that is no mistake is turned into one.
// A nil error has none.
func mistakesOf(err error) definition.Mistakes {
	var all definition.Mistakes
	var one *definition.Mistake
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
	case ok:
		for _, e := range joined.Unwrap() {
			all = append(all, mistakesOf(e)...)
		}
	case errors.As(err, &all):
	case errors.As(err, &one):
		all = definition.Mistakes{one}
	default:
		all = definition.Mistakes{{Document: "documents", Code: batch.CodeOf(err), Problem: err.Error()}}
	}
	return all
}

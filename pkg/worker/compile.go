package worker

import (
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// compileSafely makes a panic an error: documents must not end sessions, and others wait for the same plan.
func (f *flows) compileSafely(d definitionDocuments) (p *flowexec.Plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = batch.Errorf(batch.CodeInternal, "compiling flow %s panicked, which is a defect of KisGrid: %v\n%s", d.key.flow, r, debug.Stack())
		}
	}()
	return f.compile(d)
}

// compile compiles against what this build registered, and checks what connectors need of this process.
func (s *server) compile(d definitionDocuments) (*flowexec.Plan, error) {
	b, err := definition.NewBundle(d.documents)
	if err != nil {
		return nil, err
	}
	if b.Flow.Name != d.key.flow {
		return nil, batch.Errorf(batch.CodeBadDocument, "the documents define flow %s, not %s: a document's name must be its key's", b.Flow.Name, d.key.flow)
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(b.Connectors)) {
		check := s.config.Connectors.Check
		if d.fresh[name] {
			check = s.config.Connectors.CheckNew
		}
		wrong = append(wrong, check(b.Connectors[name]))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	p, err := flowexec.Compile(b, s.config.Registry)
	if err != nil {
		return nil, unfitError{err}
	}
	return p, nil
}

// mistakes are an error's reasons, one text each.
func mistakes(err error) []string {
	var all []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, mistakes(e)...)
		}
		return all
	}
	var found definition.Mistakes
	if !errors.As(err, &found) {
		return []string{strings.ToValidUTF8(err.Error(), "\uFFFD")}
	}
	for _, m := range found {
		all = append(all, strings.ToValidUTF8(m.Error(), "\uFFFD"))
	}
	return all
}

// misfit is why good documents don't compile here: this build's functions have other modes or row types.
type unfitError struct{ error }

func (m unfitError) Unwrap() error { return m.error }

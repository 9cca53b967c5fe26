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

// compileSafely calls compile. A panic becomes an error with code INTERNAL, because documents must not end a session, and
// because other coordinators wait for the same plan.
func (f *flows) compileSafely(d definitionDocuments) (p *flowexec.Plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = batch.Errorf(batch.CodeInternal, "compile flow %s: KisGrid panicked, which is a defect; please report it: %v\n%s", d.key.flow, r, debug.Stack())
		}
	}()
	return f.compile(d)
}

// compile makes a plan of documents with the functions of this build. It also checks whether this process may read the files
// and environment variables that the connectors name.
func (s *server) compile(d definitionDocuments) (*flowexec.Plan, error) {
	b, err := definition.NewBundle(d.documents)
	if err != nil {
		return nil, err
	}
	if b.Flow.Name != d.key.flow {
		return nil, batch.Errorf(batch.CodeBadDocument, "the documents define flow %s and stand under the key of flow %s: the name in a document must be the name in its key", b.Flow.Name, d.key.flow)
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

// mistakes returns the texts of all mistakes that err consists of, one text for each.
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

// unfitError wraps the reason why right documents don't compile here: the functions of this build have another mode or other
// row types, or are missing.
type unfitError struct{ error }

// Unwrap returns the wrapped error, for errors.Is and errors.As.
func (m unfitError) Unwrap() error { return m.error }

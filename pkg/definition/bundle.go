package definition

import (
	"errors"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Bundle returns a flow with the documents that it needs. If no document describes the flow, the error has CodeNotFound.
// Otherwise the error has the mistakes of these documents; mistakes of other documents do not matter.
func (s *Set) Bundle(flow string) (*Bundle, error) {
	mistakes := s.mistakes[reference{KindFlow, flow}]
	f := s.Flows[flow]
	if f == nil {
		if err := mistakes.err(); err != nil {
			return nil, err
		}
		return nil, batch.Errorf(batch.CodeNotFound, "no document describes the flow %s%s", quote(flow), suggest(flow, sortedKeys(s.Flows)))
	}
	mistakes = slices.Clone(mistakes)
	connectors := make(map[string]bool)
	for _, name := range f.functionNames() {
		mistakes = append(mistakes, s.mistakes[reference{KindFunc, name}]...)
		if function := s.Functions[name]; function != nil && function.Connector != "" {
			connectors[function.Connector] = true
		}
	}
	for _, name := range sortedKeys(connectors) {
		mistakes = append(mistakes, s.mistakes[reference{KindConn, name}]...)
	}
	if err := mistakes.err(); err != nil {
		return nil, err
	}
	return s.bundle(f), nil
}

// bundle makes the Bundle of a flow. A document that the flow needs and the set does not have is left out.
func (s *Set) bundle(f *Flow) *Bundle {
	b := &Bundle{Flow: f, Functions: make(map[string]*Function), Connectors: make(map[string]*Connector)}
	for _, step := range f.Functions {
		function := s.Functions[step.Name]
		if function == nil {
			continue
		}
		b.Functions[step.Name] = function
		if c := s.Connectors[function.Connector]; c != nil {
			b.Connectors[c.Name] = c
		}
	}
	for _, d := range b.Documents() {
		b.Revision = max(b.Revision, d.Revision)
	}
	return b
}

// Bundle is one flow with the functions and connectors that it needs. A worker compiles a bundle. It does not change once made.
type Bundle struct {
	Flow       *Flow
	Functions  map[string]*Function
	Connectors map[string]*Connector
	// Revision is the etcd revision of the newest document; 0 means that it is not from a cluster.
	Revision int64
}

// NewBundle parses the documents of one flow, as a worker gets them, and checks them. It is an error if they belong to several
// flows or to none, or if a document that the flow needs is missing or wrong.
func NewBundle(docs []Document) (*Bundle, error) { return newBundle(NewSet(docs)) }

// BundleOf does the same as NewBundle, but calls read in place of Parse, so that a caller can keep the results of Parse and use
// them again.
func BundleOf(docs []Document, read func(Document) (Parsed, error)) (*Bundle, error) {
	return newBundle(newSet(docs, func(d Document) (Parsed, Mistakes) {
		p, err := read(d)
		if err == nil {
			return p, nil
		}
		var mistakes Mistakes
		if !errors.As(err, &mistakes) {
			mistakes = Mistakes{{Document: d.String(), Code: batch.CodeOf(err), Problem: err.Error()}}
		}
		return p, mistakes
	}))
}

// newBundle returns the bundle of the only flow in a set. err is the error of making the set; if it is not nil, newBundle
// returns it.
func newBundle(s *Set, err error) (*Bundle, error) {
	if err != nil {
		return nil, err
	}
	names := sortedKeys(s.Flows)
	if len(names) != 1 {
		return nil, batch.Errorf(batch.CodeBadDocument, "a bundle is the documents of one flow, not of %d: send each flow on its own", len(names))
	}
	return s.Bundle(names[0])
}

// Documents returns the documents of the bundle: the flow, then functions by name, then connectors by name.
func (b *Bundle) Documents() []Document {
	docs := []Document{b.Flow.Document}
	for _, name := range sortedKeys(b.Functions) {
		docs = append(docs, b.Functions[name].Document)
	}
	for _, name := range sortedKeys(b.Connectors) {
		docs = append(docs, b.Connectors[name].Document)
	}
	return docs
}

// FunctionNames returns the names of the flow's functions, each once, in the order of their first steps.
func (b *Bundle) FunctionNames() []string { return b.Flow.functionNames() }

// size returns the size of the bundle's documents together, in bytes.
func (b *Bundle) size() int {
	size := 0
	for _, d := range b.Documents() {
		size += len(d.YAML)
	}
	return size
}

// functionNames returns the names of the flow's functions, each once, in the order of their first steps.
func (f *Flow) functionNames() []string {
	var names []string
	seen := make(map[string]bool)
	for _, step := range f.Functions {
		if !seen[step.Name] {
			seen[step.Name] = true
			names = append(names, step.Name)
		}
	}
	return names
}

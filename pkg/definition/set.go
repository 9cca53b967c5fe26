package definition

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Set is documents that were parsed, by kind and name. It does not change once made, and is safe for concurrent use.
type Set struct {
	Flows      map[string]*Flow
	Functions  map[string]*Function
	Connectors map[string]*Connector
	Global     *Global // nil: none

	// mistakes are by the document that has them. A document that does not parse is found here and in no other map.
	mistakes map[reference]Mistakes
}

// reference names a document.
type reference struct {
	kind Kind
	name string
}

// NewSet parses documents and checks what they refer to. The error has the mistakes of all documents. The set beside it holds
// the documents that parse: its Bundle tells which flows are right all the same.
func NewSet(docs []Document) (*Set, error) { return newSet(docs, parse) }

// newSet is NewSet with documents that are parsed by read.
func newSet(docs []Document, read func(Document) (Parsed, Mistakes)) (*Set, error) {
	s := &Set{
		Flows:      make(map[string]*Flow),
		Functions:  make(map[string]*Function),
		Connectors: make(map[string]*Connector),
		mistakes:   make(map[reference]Mistakes),
	}
	var all Mistakes
	blame := func(ref reference, mistakes Mistakes) {
		if len(mistakes) > 0 {
			all = append(all, mistakes...)
			s.mistakes[ref] = append(s.mistakes[ref], mistakes...)
		}
	}
	for _, d := range docs {
		p, mistakes := read(d)
		blame(p.reference(d), mistakes)
		if len(mistakes) == 0 {
			blame(p.reference(d), s.add(p))
		}
	}
	for _, name := range sortedKeys(s.Functions) {
		blame(reference{KindFunc, name}, s.checkFunction(s.Functions[name]))
	}
	for _, name := range sortedKeys(s.Flows) {
		blame(reference{KindFlow, name}, s.checkFlow(s.Flows[name]))
	}
	return s, all.err()
}

// reference is the name of the document that d was parsed into, or the one it is stored under if it is too wrong to have one.
func (p Parsed) reference(d Document) reference {
	if parsed := p.Document(); d.Name == "" && parsed.Name != "" {
		d = parsed
	}
	return reference{d.Kind, d.Name}
}

// add files what was parsed under its name. A second document of the same name is a mistake; the first one stays.
func (s *Set) add(p Parsed) Mistakes {
	var first *Document
	switch {
	case p.Flow != nil:
		if other, ok := s.Flows[p.Flow.Name]; ok {
			first = &other.Document
			break
		}
		s.Flows[p.Flow.Name] = p.Flow
	case p.Function != nil:
		if other, ok := s.Functions[p.Function.Name]; ok {
			first = &other.Document
			break
		}
		s.Functions[p.Function.Name] = p.Function
	case p.Connector != nil:
		if other, ok := s.Connectors[p.Connector.Name]; ok {
			first = &other.Document
			break
		}
		s.Connectors[p.Connector.Name] = p.Connector
	case p.Global != nil:
		if s.Global != nil {
			first = &s.Global.Document
			break
		}
		s.Global = p.Global
	}
	if first == nil {
		return nil
	}
	d := p.Document()
	return Mistakes{{
		Document: d.String(), Line: max(d.Line, 1), Code: batch.CodeBadDocument,
		Problem: fmt.Sprintf("is a second document for %s: the first is %s:%d; take one away", d.title(), first, max(first.Line, 1)),
	}}
}

// checkFunction finds a connector without a document.
func (s *Set) checkFunction(f *Function) Mistakes {
	if f.Connector == "" || s.Connectors[f.Connector] != nil || s.mistakes[reference{KindConn, f.Connector}] != nil {
		return nil
	}
	return Mistakes{{
		Document: f.Document.String(), Line: f.ConnectorLine, Key: "option.cname", Code: batch.CodeUnknownConnector,
		Problem: fmt.Sprintf("no document describes the connector %s%s", quote(f.Connector), suggest(f.Connector, sortedKeys(s.Connectors))),
	}}
}

// checkFlow finds functions without a document, and documents that are too large together.
func (s *Set) checkFlow(f *Flow) Mistakes {
	var mistakes Mistakes
	known := sync.OnceValue(func() []string { return sortedKeys(s.Functions) })
	for i, step := range f.Functions {
		if s.Functions[step.Name] != nil || s.mistakes[reference{KindFunc, step.Name}] != nil {
			continue
		}
		hint := ""
		if len(mistakes) < maxMistakes { // beyond that it is not told
			hint = suggest(step.Name, known())
		}
		mistakes = append(mistakes, &Mistake{
			Document: f.Document.String(), Line: step.Line, Key: fmt.Sprintf("flows[%d].fname", i), Code: batch.CodeUnknownFunction,
			Problem: fmt.Sprintf("no document describes the function %s%s", quote(step.Name), hint),
		})
	}
	mistakes = mistakes.cut()
	if size := s.bundle(f).size(); size > MaxBytes {
		mistakes = append(mistakes, &Mistake{
			Document: f.Document.String(), Code: batch.CodeBadDocument,
			Problem: fmt.Sprintf("the flow's documents have %d bytes together, over the limit of %d bytes", size, MaxBytes),
		})
	}
	return mistakes
}

// Bundle is a flow with the documents it needs. The error is CodeNotFound if there is no such flow, else it has the mistakes
// of these documents; those of other documents don't matter.
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

// bundle gathers what is there of a flow.
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

// Documents are the set's documents, sorted by kind (flow, func, conn, global) and name.
func (s *Set) Documents() []Document {
	var docs []Document
	for _, name := range sortedKeys(s.Flows) {
		docs = append(docs, s.Flows[name].Document)
	}
	for _, name := range sortedKeys(s.Functions) {
		docs = append(docs, s.Functions[name].Document)
	}
	for _, name := range sortedKeys(s.Connectors) {
		docs = append(docs, s.Connectors[name].Document)
	}
	if s.Global != nil {
		docs = append(docs, s.Global.Document)
	}
	return docs
}

// Bundle is one flow with the functions and connectors it needs: what a worker compiles. It does not change once made.
type Bundle struct {
	Flow       *Flow
	Functions  map[string]*Function
	Connectors map[string]*Connector
	// Revision is that of the newest document; 0 outside a cluster.
	Revision int64
}

// NewBundle parses the documents of one flow, as they travel together. It is an error if they are of more than one flow or
// none, or if one that the flow needs is missing or wrong.
func NewBundle(docs []Document) (*Bundle, error) { return newBundle(NewSet(docs)) }

// BundleOf is NewBundle for documents that were parsed before: read gives what Parse said of each.
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

// Documents are the bundle's documents: the flow, then functions and connectors, sorted by name.
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

// FunctionNames are the names of the flow's functions in the order of their first step, each once.
func (b *Bundle) FunctionNames() []string { return b.Flow.functionNames() }

func (b *Bundle) size() int {
	size := 0
	for _, d := range b.Documents() {
		size += len(d.YAML)
	}
	return size
}

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

package definition

import (
	"fmt"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Set is a collection of parsed documents, by kind and name. It does not change once it is made, and is safe for concurrent use.
type Set struct {
	Flows      map[string]*Flow
	Functions  map[string]*Function
	Connectors map[string]*Connector
	Global     *Global // nil means none

	// mistakes are the mistakes of each document that has any. A document that does not parse is found here, and in no other map.
	mistakes map[reference]Mistakes
}

// reference identifies a document by its kind and name.
type reference struct {
	kind Kind
	name string
}

// NewSet parses documents and checks that they fit together. The error has the mistakes of all documents. Also with an error the
// set is not nil: it has the documents that could be parsed, and its Bundle returns each flow that has no mistake in its own
// document and those that it needs.
func NewSet(docs []Document) (*Set, error) { return newSet(docs, parse) }

// newSet does the work of NewSet. It parses each document with the function read.
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

// Known reports whether there is a document of this kind and name, also if it has mistakes and so is not in the set.
func (s *Set) Known(kind Kind, name string) bool {
	_, wrong := s.mistakes[reference{kind, name}]
	switch kind {
	case KindFlow:
		return wrong || s.Flows[name] != nil
	case KindFunc:
		return wrong || s.Functions[name] != nil
	case KindConn:
		return wrong || s.Connectors[name] != nil
	}
	return false
}

// reference returns the kind and name of d, the document that was parsed: those of the place where d is stored, or if it has
// none, those that are written in the document.
func (p Parsed) reference(d Document) reference {
	if parsed := p.Document(); d.Name == "" && parsed.Name != "" {
		d = parsed
	}
	return reference{d.Kind, d.Name}
}

// add puts a parsed document into the set, under its name. If the set has a document of the same kind and name already, that one
// stays, and the result is a mistake.
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

// checkFunction returns a mistake if the function names a connector that has no document. A connector whose document has mistakes
// counts as there.
func (s *Set) checkFunction(f *Function) Mistakes {
	if f.Connector == "" || s.Connectors[f.Connector] != nil || s.mistakes[reference{KindConn, f.Connector}] != nil {
		return nil
	}
	return Mistakes{{
		Document: f.Document.String(), Line: f.ConnectorLine, Key: "option.cname", Code: batch.CodeUnknownConnector,
		Problem: fmt.Sprintf("no document describes the connector %s%s", quote(f.Connector), suggest(f.Connector, sortedKeys(s.Connectors))),
	}}
}

// checkFlow returns a mistake for each step of the flow whose function has no document, and one if the documents that the flow
// needs are larger than MaxBytes together.
func (s *Set) checkFlow(f *Flow) Mistakes {
	var mistakes Mistakes
	known := sync.OnceValue(func() []string { return sortedKeys(s.Functions) })
	for i, step := range f.Functions {
		if s.Functions[step.Name] != nil || s.mistakes[reference{KindFunc, step.Name}] != nil {
			continue
		}
		hint := ""
		if len(mistakes) < maxMistakes { // no message has room for more
			hint = suggest(step.Name, known())
		}
		if unread := s.mistakes[reference{}]; len(unread) > 0 && hint == "" {
			hint = fmt.Sprintf("; perhaps the document with the mistake at %s:%d does", unread[0].Document, max(unread[0].Line, 1))
		}
		mistakes = append(mistakes, &Mistake{
			Document: f.Document.String(), Line: step.Line, Key: fmt.Sprintf("flows[%d].fname", i), Code: batch.CodeUnknownFunction,
			Problem: fmt.Sprintf("no document describes the function %s%s", quote(step.Name), hint),
		})
	}
	mistakes = append(mistakes, s.checkConnectors(f)...).cut()
	if size := s.bundle(f).size(); size > MaxBytes {
		mistakes = append(mistakes, &Mistake{
			Document: f.Document.String(), Code: batch.CodeBadDocument,
			Problem: fmt.Sprintf("the flow's documents have %d bytes together, over the limit of %d bytes", size, MaxBytes),
		})
	}
	return mistakes
}

// checkConnectors returns a mistake for each step of the flow whose function uses a connector that the flow may not use.
func (s *Set) checkConnectors(f *Flow) (mistakes Mistakes) {
	for i, step := range f.Functions {
		function := s.Functions[step.Name]
		if function == nil {
			continue
		}
		if c := s.Connectors[function.Connector]; c != nil && c.Flows != nil && !matches(c.Flows, f.Name) {
			mistakes = append(mistakes, &Mistake{
				Document: f.Document.String(), Line: step.Line, Key: fmt.Sprintf("flows[%d].fname", i), Code: batch.CodeBadDocument,
				Problem: fmt.Sprintf("function %s uses the connector %s, whose document does not name this flow under flows: take another connector, or add the flow there", quote(step.Name), quote(c.Name)),
			})
		}
	}
	return mistakes
}

// Documents returns the documents of the set, sorted by kind (flow, func, conn, global) and name.
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

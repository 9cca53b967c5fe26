package coordinator

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// compiled is what documents ask for, flow by flow: a mistake concerns those flows only that need the document. It does not
// change once made.
type desiredState struct {
	documents map[cluster.Key]*readDocument
	wanted    map[string]*candidate
}

// readDocument is a document that was parsed, or why it can't be.
type readDocument struct {
	document definition.Document
	parsed   definition.Parsed
	err      error
	intake   []string // why the document is not taken in, unless it was before
}

// is reports whether parsing d would give the same.
func (r *readDocument) is(d definition.Document) bool {
	o := r.document
	return o.Kind == d.Kind && o.Name == d.Name && o.Revision == d.Revision && o.Path == d.Path && o.Line == d.Line && bytes.Equal(o.YAML, d.YAML)
}

// flowsOf are the flows that want a document of that kind and name.
func (c *desiredState) flowsOf(d definition.Document) (flows []string) {
	for _, name := range slices.Sorted(maps.Keys(c.wanted)) {
		if slices.ContainsFunc(c.wanted[name].documents, func(o definition.Document) bool { return keyOf(o) == keyOf(d) }) {
			flows = append(flows, name)
		}
	}
	return flows
}

// candidate is what the documents ask for of one flow.
type candidate struct {
	number       int64
	digest       batch.Digest // of documents
	revision     *revision    // nil when the documents are wrong
	documents    []definition.Document
	reasons      []string
	breaksIntake bool // rules of intake

	// needs are the documents that it was made of, nil for one that is not there.
	needs map[cluster.Key]*readDocument
}

// compile reads what the documents ask for. Documents that before has as well, and flows whose documents are all the same
// there, are taken from it: what a change does not concern costs a comparison. before may be nil; else it was made with the same
// limit for a flow's steps.
func compileDocuments(docs []definition.Document, before *desiredState, steps int) *desiredState {
	if before == nil {
		before = &desiredState{}
	}
	c := &desiredState{documents: make(map[cluster.Key]*readDocument, len(docs)), wanted: map[string]*candidate{}}
	for _, d := range docs {
		key := keyOf(d)
		read := before.documents[key]
		if read == nil || !read.is(d) {
			read = &readDocument{document: d}
			read.parsed, read.err = definition.Parse(d)
			if read.err == nil {
				if err := read.parsed.Intake(steps); err != nil {
					read.intake = lines(err)
				}
			}
		}
		c.documents[key] = read
	}
	for _, d := range docs {
		if d.Kind != definition.KindFlow {
			continue
		}
		made := before.wanted[d.Name]
		if made == nil || !c.has(made.needs) {
			made = c.candidate(d)
		}
		c.wanted[d.Name] = made
	}
	return c
}

// has reports whether the documents are those of c.
func (c *desiredState) has(needs map[cluster.Key]*readDocument) bool {
	for key, read := range needs {
		if c.documents[key] != read {
			return false
		}
	}
	return true
}

// candidate gathers what a flow needs, and compiles it.
func (c *desiredState) candidate(flow definition.Document) *candidate {
	made := &candidate{needs: map[cluster.Key]*readDocument{}}
	need := func(key cluster.Key) *readDocument {
		read, known := made.needs[key]
		if known {
			return read
		}
		read = c.documents[key]
		made.needs[key] = read
		if read != nil {
			made.documents = append(made.documents, read.document)
			made.number = max(made.number, read.document.Revision)
			made.breaksIntake = made.breaksIntake || len(read.intake) > 0
		}
		return read
	}
	// Documents that can't be read name nothing that they need; BundleOf says what is wrong with them.
	if f := need(keyOf(flow)); f.err == nil {
		for _, step := range f.parsed.Flow.Functions {
			function := need(cluster.Key{Kind: definition.KindFunc, Name: step.Name})
			if function != nil && function.err == nil && function.parsed.Function.Connector != "" {
				need(cluster.Key{Kind: definition.KindConn, Name: function.parsed.Function.Connector})
			}
		}
	}
	made.digest = definition.Digest(made.documents)
	b, err := definition.BundleOf(made.documents, func(d definition.Document) (definition.Parsed, error) {
		read := made.needs[keyOf(d)]
		return read.parsed, read.err
	})
	if err != nil {
		made.reasons = lines(err)
		return made
	}
	made.revision = bundleRevision(b, made.id())
	return made
}

// id names the revision that the candidate is.
func (c *candidate) id() batch.Revision { return batch.Revision{Number: c.number, Digest: c.digest} }

// settled is the state of a flow that runs on the candidate's revision, which must not be nil.
func (c *candidate) settled() string {
	if c.revision.enabled {
		return cluster.StateActive
	}
	return cluster.StateDisabled
}

// ownMistakes are what is wrong with a function's or connector's document, whoever needs it.
func (c *desiredState) ownMistakes(d definition.Document) []string {
	read := c.documents[keyOf(d)]
	if read.err != nil {
		return lines(read.err)
	}
	f := read.parsed.Function
	if f == nil || f.Connector == "" || c.documents[cluster.Key{Kind: definition.KindConn, Name: f.Connector}] != nil {
		return nil // should the connector be wrong, its own status says so
	}
	_, err := definition.NewSet([]definition.Document{d})
	return lines(err)
}

// lines are the single mistakes of an error that joins several.
func lines(err error) []string {
	if mistakes, ok := errors.AsType[definition.Mistakes](err); ok {
		out := make([]string, len(mistakes))
		for i, m := range mistakes {
			out[i] = m.Error()
		}
		return out
	}
	return []string{err.Error()}
}

package leader

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// compiled is what documents ask for, flow by flow: a mistake concerns those flows only that need the document. It does not
// change once made.
type DesiredState struct {
	documents map[cluster.Key]*readDocument
	Flows     map[string]*Candidate
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
func (c *DesiredState) FlowsOf(d definition.Document) (flows []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Flows)) {
		if slices.ContainsFunc(c.Flows[name].Documents, func(o definition.Document) bool { return flowstate.KeyOf(o) == flowstate.KeyOf(d) }) {
			flows = append(flows, name)
		}
	}
	return flows
}

// candidate is what the documents ask for of one flow.
type Candidate struct {
	number       int64
	digest       batch.Digest        // of documents
	Revision     *flowstate.Revision // nil when the documents are wrong
	Documents    []definition.Document
	Reasons      []string
	breaksIntake bool // rules of intake

	// needs are the documents that it was made of, nil for one that is not there.
	needs map[cluster.Key]*readDocument
}

// compile reads what the documents ask for. Documents that before has as well, and flows whose documents are all the same
// there, are taken from it: what a change does not concern costs a comparison. before may be nil; else it was made with the same
// limit for a flow's steps.
func CompileDocuments(docs []definition.Document, before *DesiredState, steps int) *DesiredState {
	if before == nil {
		before = &DesiredState{}
	}
	c := &DesiredState{documents: make(map[cluster.Key]*readDocument, len(docs)), Flows: map[string]*Candidate{}}
	for _, d := range docs {
		key := flowstate.KeyOf(d)
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
		made := before.Flows[d.Name]
		if made == nil || !c.has(made.needs) {
			made = c.candidate(d)
		}
		c.Flows[d.Name] = made
	}
	return c
}

// has reports whether the documents are those of c.
func (c *DesiredState) has(needs map[cluster.Key]*readDocument) bool {
	for key, read := range needs {
		if c.documents[key] != read {
			return false
		}
	}
	return true
}

// candidate gathers what a flow needs, and compiles it.
func (c *DesiredState) candidate(flow definition.Document) *Candidate {
	made := &Candidate{needs: map[cluster.Key]*readDocument{}}
	need := func(key cluster.Key) *readDocument {
		read, known := made.needs[key]
		if known {
			return read
		}
		read = c.documents[key]
		made.needs[key] = read
		if read != nil {
			made.Documents = append(made.Documents, read.document)
			made.number = max(made.number, read.document.Revision)
			made.breaksIntake = made.breaksIntake || len(read.intake) > 0
		}
		return read
	}
	// Documents that can't be read name nothing that they need; BundleOf says what is wrong with them.
	if f := need(flowstate.KeyOf(flow)); f.err == nil {
		for _, step := range f.parsed.Flow.Functions {
			function := need(cluster.Key{Kind: definition.KindFunc, Name: step.Name})
			if function != nil && function.err == nil && function.parsed.Function.Connector != "" {
				need(cluster.Key{Kind: definition.KindConn, Name: function.parsed.Function.Connector})
			}
		}
	}
	made.digest = definition.Digest(made.Documents)
	b, err := definition.BundleOf(made.Documents, func(d definition.Document) (definition.Parsed, error) {
		read := made.needs[flowstate.KeyOf(d)]
		return read.parsed, read.err
	})
	if err != nil {
		made.Reasons = lines(err)
		return made
	}
	made.Revision = flowstate.FromBundle(b, made.ID())
	return made
}

// ID names the revision that the candidate is.
func (c *Candidate) ID() batch.Revision { return batch.Revision{Number: c.number, Digest: c.digest} }

// settled is the state of a flow that runs on the candidate's revision, which must not be nil.
func (c *Candidate) settled() string {
	if c.Revision.Enabled {
		return cluster.StateActive
	}
	return cluster.StateDisabled
}

// ownMistakes are what is wrong with a function's or connector's document, whoever needs it.
func (c *DesiredState) OwnMistakes(d definition.Document) []string {
	read := c.documents[flowstate.KeyOf(d)]
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

// Reads reports whether a stored document of the same kind and name has the same text, and that text could be parsed.
func (c *DesiredState) Reads(d definition.Document) bool {
	known := c.documents[flowstate.KeyOf(d)]
	return known != nil && known.err == nil && bytes.Equal(known.document.YAML, d.YAML)
}

// IntakeMistakes lists the rules of intake that a stored document breaks.
func (c *DesiredState) IntakeMistakes(d definition.Document) []string {
	return c.documents[flowstate.KeyOf(d)].intake
}

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

// DesiredState is what the documents in etcd ask for: one Candidate, by name, for each flow that has a document. A mistake in a document
// concerns only the flows that need that document. A DesiredState does not change once it is made.
type DesiredState struct {
	documents map[cluster.Key]*readDocument
	Flows     map[string]*Candidate
}

// readDocument is a document with the result of parsing it: either parsed, or err.
type readDocument struct {
	document definition.Document
	parsed   definition.Parsed
	err      error
	intake   []string // the rules of intake that it breaks, as sentences; they hold for new documents only
}

// is reports whether d equals the document that was read, so that parsing d would give the same result.
func (r *readDocument) is(d definition.Document) bool {
	o := r.document
	return o.Kind == d.Kind && o.Name == d.Name && o.Revision == d.Revision && o.Path == d.Path && o.Line == d.Line && bytes.Equal(o.YAML, d.YAML)
}

// FlowsOf returns the names of the flows that need the document with d's kind and name, in order.
func (c *DesiredState) FlowsOf(d definition.Document) (flows []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Flows)) {
		if slices.ContainsFunc(c.Flows[name].Documents, func(o definition.Document) bool { return flowstate.KeyOf(o) == flowstate.KeyOf(d) }) {
			flows = append(flows, name)
		}
	}
	return flows
}

// Candidate is the revision of one flow that the documents ask for, or the reasons why they make none.
type Candidate struct {
	number       int64
	digest       batch.Digest        // digest of Documents
	Revision     *flowstate.Revision // nil means that the documents are wrong; Reasons says why
	Documents    []definition.Document
	Reasons      []string
	breaksIntake bool // one of its documents breaks a rule of intake

	// needs are the documents that the flow needs, by kind and name; nil for a document that does not exist.
	needs map[cluster.Key]*readDocument
}

// CompileDocuments makes the DesiredState of documents. docs are all documents in etcd, and steps is the most steps that a new flow may
// have. before is an earlier result, made with the same steps, or nil: documents and candidates that have not changed are taken from it,
// which saves compiling them again.
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

// has reports whether c has exactly the documents in needs, which are those of a candidate. Then the candidate need not be compiled again.
func (c *DesiredState) has(needs map[cluster.Key]*readDocument) bool {
	for key, read := range needs {
		if c.documents[key] != read {
			return false
		}
	}
	return true
}

// candidate makes the Candidate of a flow's document: it gathers the documents that the flow needs, and compiles them.
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
	// A document that can't be read does not tell which documents it needs. BundleOf says what is wrong with it.
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

// ID returns the number and digest of the candidate's revision. A candidate without a revision has an ID, too.
func (c *Candidate) ID() batch.Revision { return batch.Revision{Number: c.number, Digest: c.digest} }

// settledState returns the state that the flow has once the candidate's revision is its active one: active, or disabled if the flow is
// switched off. The candidate must have a revision.
func (c *Candidate) settledState() string {
	if c.Revision.Enabled {
		return cluster.StateActive
	}
	return cluster.StateDisabled
}

// OwnMistakes returns what is wrong with the document of a function or connector, even if no flow needs it; nil means nothing. The document
// must be in c.
func (c *DesiredState) OwnMistakes(d definition.Document) []string {
	read := c.documents[flowstate.KeyOf(d)]
	if read.err != nil {
		return lines(read.err)
	}
	f := read.parsed.Function
	if f == nil || f.Connector == "" || c.documents[cluster.Key{Kind: definition.KindConn, Name: f.Connector}] != nil {
		return nil // if the connector's document is wrong, its own status says so
	}
	_, err := definition.NewSet([]definition.Document{d})
	return lines(err)
}

// lines returns the mistakes in an error, one string for each; an error of another kind is one mistake.
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

// Reads reports whether c has a document with d's kind, name and text, and could parse it.
func (c *DesiredState) Reads(d definition.Document) bool {
	known := c.documents[flowstate.KeyOf(d)]
	return known != nil && known.err == nil && bytes.Equal(known.document.YAML, d.YAML)
}

// IntakeMistakes returns a sentence for each rule of intake that the document with d's kind and name breaks. The document must be in c.
func (c *DesiredState) IntakeMistakes(d definition.Document) []string {
	return c.documents[flowstate.KeyOf(d)].intake
}

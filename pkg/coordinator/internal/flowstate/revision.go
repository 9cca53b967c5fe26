package flowstate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/expr"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Revision is one revision of a flow, with everything that the coordinator needs to know of its documents. It does not change once it is
// made.
type Revision struct {
	Number     int64
	Digest     batch.Digest // digest of its documents
	Accepted   time.Time    // when a leader made it active, by that leader's clock; zero means never
	Enabled    bool
	ShardKey   string
	Copies     int             // number of lanes that the flow has in a worker; 0 means the worker's default
	Keys       *batch.KeyField // reads ShardKey from a row; nil means that the flow has no shard key
	Functions  []string        // the functions that a worker must have registered to run it
	Connectors []ConnectorKey  // the connectors that it needs
	// Expressions is the version of the language of expressions that a worker must speak to run it; 0 for a flow without expressions.
	Expressions int
	steps       []string // the functions in the flow's order, each as often as it stands in the flow
	Message     *pb.Definition
}

// ID is the revision's name: number and digest.
func (r *Revision) ID() batch.Revision { return batch.Revision{Number: r.Number, Digest: r.Digest} }

// Steps returns the functions in the order of the flow, each as often as it stands in the flow. The caller must not change the list.
func (r *Revision) Steps() []string { return r.steps }

// Has reports whether a function stands in the flow more than use times, so that the flow has a step for that use: uses are counted from 0.
func (r *Revision) Has(function string, use uint32) bool {
	for _, name := range r.steps {
		if name != function {
			continue
		}
		if use == 0 {
			return true
		}
		use--
	}
	return false
}

// FromHistory makes a Revision of an entry in the history. It fails if the entry's documents can't be read.
func FromHistory(h cluster.HistoryEntry) (*Revision, error) {
	b, err := definition.NewBundle(h.Documents)
	if err != nil {
		return nil, fmt.Errorf("read revision %d of flow %s from the history: %w", h.Revision, h.Flow, err)
	}
	r := FromBundle(b, h.Name())
	r.Accepted = h.Accepted
	return r, nil
}

// FromBundle makes a Revision of a bundle, which is a flow's documents, parsed and checked. name is the revision's number and digest.
// Accepted stays zero.
func FromBundle(b *definition.Bundle, name batch.Revision) *Revision {
	r := &Revision{
		Number: name.Number, Digest: name.Digest, Enabled: b.Flow.Enabled, ShardKey: b.Flow.ShardKey, Copies: b.Flow.Copies,
		Message: &pb.Definition{Flow: b.Flow.Name, Revision: name.Number, Digest: wire.FromDigest(name.Digest)},
	}
	for _, f := range b.Flow.Functions {
		r.steps = append(r.steps, f.Name)
	}
	for _, name := range b.FunctionNames() {
		if !b.Functions[name].Declared() { // workers need no code for a function that is made of its document
			r.Functions = append(r.Functions, name)
		}
		if b.Functions[name].HasExpressions() {
			r.Expressions = expr.Version
		}
	}
	if r.ShardKey != "" {
		keys := batch.NewKeyField(r.ShardKey)
		r.Keys = &keys
	}
	for _, d := range b.Documents() {
		r.Message.Documents = append(r.Message.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML, Revision: d.Revision})
		if d.Kind == definition.KindConn {
			r.Connectors = append(r.Connectors, ConnectorKey{d.Name, definition.Digest([]definition.Document{d})})
		}
	}
	return r
}

// Fresh returns a copy of the revision in whose Message the fresh documents are marked: those of docs for which is returns true. Workers
// check the rules of intake for marked documents only. docs must be all documents of the revision. If no document is fresh, Fresh returns r
// itself.
func (r *Revision) Fresh(is func(definition.Document) bool, docs []definition.Document) *Revision {
	marked := map[cluster.Key]bool{}
	for _, d := range docs {
		if is(d) {
			marked[KeyOf(d)] = true
		}
	}
	if len(marked) == 0 {
		return r
	}
	out := *r
	out.Message = &pb.Definition{Flow: r.Message.GetFlow(), Revision: r.Message.GetRevision(), Digest: r.Message.GetDigest()}
	for _, d := range r.Message.GetDocuments() {
		fresh := marked[cluster.Key{Kind: definition.Kind(d.GetKind()), Name: d.GetName()}]
		out.Message.Documents = append(out.Message.Documents, &pb.Document{
			Kind: d.GetKind(), Name: d.GetName(), Yaml: d.GetYaml(), Revision: d.GetRevision(), Fresh: fresh,
		})
	}
	return &out
}

// Revisions are some revisions of one flow, in the order in which they were added. The elements of a slice do not change; to add one, a new
// slice is made (Flow.Keep).
type Revisions []*Revision

// Find returns the revision with that number and digest; nil means that there is none. If the name has no digest, it returns the revision
// with that number that was added last.
func (all Revisions) Find(name batch.Revision) *Revision {
	for _, r := range slices.Backward(all) {
		if r.ID().Is(name) {
			return r
		}
	}
	return nil
}

// ConnectorKey names one version of a connector: the connector's name, and the digest of its document.
type ConnectorKey struct {
	Name   string
	Digest batch.Digest // digest of the connector's document
}

// KeyOf returns a document's kind and name, which is its key in etcd.
func KeyOf(d definition.Document) cluster.Key { return cluster.Key{Kind: d.Kind, Name: d.Name} }

// CompareKeys orders documents by kind and then by name. It returns a negative number if a comes before b, a positive one if b comes before
// a, and 0 if they are equal.
func CompareKeys(a, b cluster.Key) int { return strings.Compare(a.String(), b.String()) }

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
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// revision is one accepted revision of a flow.
type Revision struct {
	Number     int64
	Digest     batch.Digest // of its documents
	Accepted   time.Time    // when a leader switched to it, by that leader's clock; zero before that
	Enabled    bool
	ShardKey   string
	Copies     int             // lanes in a worker; 0: as many as the worker says
	Keys       *batch.KeyField // reads shardKey; nil without one
	Functions  []string        // those that workers must have registered
	Connectors []ConnectorKey  // what it needs of connectors
	steps      []string        // the functions in the flow's order, each as often as it stands there
	Message    *pb.Definition
}

// ID names the revision.
func (r *Revision) ID() batch.Revision { return batch.Revision{Number: r.Number, Digest: r.Digest} }

// has reports whether a function stands in the flow more than use times.
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

// newRevision reads a revision from the history.
func FromHistory(h cluster.HistoryEntry) (*Revision, error) {
	b, err := definition.NewBundle(h.Documents)
	if err != nil {
		return nil, fmt.Errorf("read revision %d of flow %s from the history: %w", h.Revision, h.Flow, err)
	}
	r := FromBundle(b, h.Name())
	r.Accepted = h.Accepted
	return r, nil
}

func FromBundle(b *definition.Bundle, name batch.Revision) *Revision {
	r := &Revision{
		Number: name.Number, Digest: name.Digest, Enabled: b.Flow.Enabled, ShardKey: b.Flow.ShardKey, Copies: b.Flow.Copies,
		Message: &pb.Definition{Flow: b.Flow.Name, Revision: name.Number, Digest: wire.FromDigest(name.Digest)},
	}
	for _, f := range b.Flow.Functions {
		r.steps = append(r.steps, f.Name)
	}
	for _, name := range b.FunctionNames() {
		if f := b.Functions[name]; f.Save == nil && f.Load == nil { // else its document says all
			r.Functions = append(r.Functions, name)
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

// fresh is the revision with its documents marked that are, as workers are asked for the first time. r itself if none is.
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

// revisions are some of one flow, that which was taken in last at the end. A slice does not change once it is shown.
type Revisions []*Revision

// find is the revision of that name; nil for none. A name without a digest is that of the last one with its number.
func (all Revisions) Find(name batch.Revision) *Revision {
	for _, r := range slices.Backward(all) {
		if r.ID().Is(name) {
			return r
		}
	}
	return nil
}

// connectorKey names what one document makes of a connector.
type ConnectorKey struct {
	Name   string
	Digest batch.Digest // of the document
}

func KeyOf(d definition.Document) cluster.Key { return cluster.Key{Kind: d.Kind, Name: d.Name} }

// CompareKeys orders documents' keys by kind and then by name.
func CompareKeys(a, b cluster.Key) int { return strings.Compare(a.String(), b.String()) }

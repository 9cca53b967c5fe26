package coordinator

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// catalog is what the coordinator knows of flows, and whom it reaches. It does not change: a new one takes its place.
type fleetSnapshot struct {
	reachability
	flows map[string]*flowEntry
}

// flowEntry is one flow of the catalog.
type flowEntry struct {
	name string
	// active is the revision that new batches run on; nil while there is none.
	active    *revision
	revisions revisions // those that a batch may name, active included
	status    cluster.FlowStatus
	mark      cluster.Mark // of status and active in etcd
	since     time.Time    // since when its rows are counted
}

// maxRevisions is how many revisions of a flow stay in memory: those that batches are likely to name.
const maxRevisions = cluster.HistoryKeep

// keep takes in a revision and lets the others go that were taken in longest ago. The fleet recalls one that is asked for again.
// Of two revisions of the same number the history has the one that is taken in: the other is gone.
func (e *flowEntry) keep(r *revision) {
	kept := slices.DeleteFunc(slices.Clone(e.revisions), func(o *revision) bool { return o.number == r.number })
	for i := 0; i < len(kept) && len(kept) >= maxRevisions; {
		if e.active != nil && kept[i].id() == e.active.id() {
			i++
			continue
		}
		kept = slices.Delete(kept, i, i+1)
	}
	e.revisions = append(kept, r)
}

// revisions are some of one flow, that which was taken in last at the end. A slice does not change once it is shown.
type revisions []*revision

// find is the revision of that name; nil for none. A name without a digest is that of the last one with its number.
func (all revisions) find(name batch.Revision) *revision {
	for _, r := range slices.Backward(all) {
		if r.id().Is(name) {
			return r
		}
	}
	return nil
}

// revision is one accepted revision of a flow.
type revision struct {
	number    int64
	digest    batch.Digest // of its documents
	accepted  time.Time    // when a leader switched to it, by that leader's clock; zero before that
	enabled   bool
	shardKey  string
	copies    int             // lanes in a worker; 0: as many as the worker says
	keys      *batch.KeyField // reads shardKey; nil without one
	functions []string        // those that workers must have registered
	conns     []connectorKey  // what it needs of connectors
	steps     []string        // the functions in the flow's order, each as often as it stands there
	message   *pb.Definition
}

// id names the revision.
func (r *revision) id() batch.Revision { return batch.Revision{Number: r.number, Digest: r.digest} }

// has reports whether a function stands in the flow more than use times.
func (r *revision) has(function string, use uint32) bool {
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
func newRevision(h cluster.HistoryEntry) (*revision, error) {
	b, err := definition.NewBundle(h.Documents)
	if err != nil {
		return nil, fmt.Errorf("read revision %d of flow %s from the history: %w", h.Revision, h.Flow, err)
	}
	r := bundleRevision(b, h.Name())
	r.accepted = h.Accepted
	return r, nil
}

func bundleRevision(b *definition.Bundle, name batch.Revision) *revision {
	r := &revision{
		number: name.Number, digest: name.Digest, enabled: b.Flow.Enabled, shardKey: b.Flow.ShardKey, copies: b.Flow.Copies,
		message: &pb.Definition{Flow: b.Flow.Name, Revision: name.Number, Digest: wire.FromDigest(name.Digest)},
	}
	for _, f := range b.Flow.Functions {
		r.steps = append(r.steps, f.Name)
	}
	for _, name := range b.FunctionNames() {
		if f := b.Functions[name]; f.Save == nil && f.Load == nil { // else its document says all
			r.functions = append(r.functions, name)
		}
	}
	if r.shardKey != "" {
		keys := batch.NewKeyField(r.shardKey)
		r.keys = &keys
	}
	for _, d := range b.Documents() {
		r.message.Documents = append(r.message.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML, Revision: d.Revision})
		if d.Kind == definition.KindConn {
			r.conns = append(r.conns, connectorKey{d.Name, definition.Digest([]definition.Document{d})})
		}
	}
	return r
}

// fresh is the revision with its documents marked that are, as workers are asked for the first time. r itself if none is.
func (r *revision) fresh(is func(definition.Document) bool, docs []definition.Document) *revision {
	marked := map[cluster.Key]bool{}
	for _, d := range docs {
		if is(d) {
			marked[keyOf(d)] = true
		}
	}
	if len(marked) == 0 {
		return r
	}
	out := *r
	out.message = &pb.Definition{Flow: r.message.GetFlow(), Revision: r.message.GetRevision(), Digest: r.message.GetDigest()}
	for _, d := range r.message.GetDocuments() {
		fresh := marked[cluster.Key{Kind: definition.Kind(d.GetKind()), Name: d.GetName()}]
		out.message.Documents = append(out.message.Documents, &pb.Document{
			Kind: d.GetKind(), Name: d.GetName(), Yaml: d.GetYaml(), Revision: d.GetRevision(), Fresh: fresh,
		})
	}
	return &out
}

// active is what new batches of the flow run on.
func (c *fleetSnapshot) active(flow string) (*revision, error) {
	e := c.flows[flow]
	if e == nil {
		return nil, batch.Errorf(batch.CodeUnknownFlow, "there is no flow %q%s", flow, c.alternatives())
	}
	switch r := e.active; {
	case r != nil && r.enabled:
		return r, nil
	case r != nil:
		return nil, errDisabled(flow)
	case e.status.State == cluster.StateRejected:
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "no revision of flow %s was ever accepted: %s", flow, strings.Join(e.status.Reasons, "; "))
	case len(e.status.Reasons) > 0:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: %s", flow, strings.Join(e.status.Reasons, "; "))
	default:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: it waits for its workers' acknowledgement", flow)
	}
}

// runs reports whether a flow runs with the document as it is given.
func (c *fleetSnapshot) runs(given definition.Document) bool {
	for _, e := range c.flows {
		if e.active != nil && slices.ContainsFunc(e.active.message.GetDocuments(), func(d *pb.Document) bool {
			return d.GetKind() == string(given.Kind) && d.GetName() == given.Name && bytes.Equal(d.GetYaml(), given.YAML)
		}) {
			return true
		}
	}
	return false
}

func errDisabled(flow string) error {
	return batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set status: 1 in its document to enable it", flow)
}

func (c *fleetSnapshot) alternatives() string {
	if len(c.flows) == 0 {
		return ": none is defined yet; kisgrid apply -f DIR defines some"
	}
	names := make([]string, 0, len(c.flows))
	for name := range c.flows {
		names = append(names, name)
	}
	slices.Sort(names)
	more := ""
	if len(names) > 10 {
		more = fmt.Sprintf(" and %d more", len(names)-10)
		names = names[:10]
	}
	return "; there are " + strings.Join(names, ", ") + more
}

// board shows the newest catalog to whoever asks, from any goroutine.
type snapshotBoard struct {
	mu      sync.Mutex
	current *fleetSnapshot // guarded by mu
	changed chan struct{}  // guarded by mu; closed when current is replaced
}

func newSnapshotBoard() *snapshotBoard {
	return &snapshotBoard{current: &fleetSnapshot{}, changed: make(chan struct{})}
}

func (b *snapshotBoard) load() *fleetSnapshot {
	c, _ := b.watch()
	return c
}

// watch is the newest catalog, and a channel that is closed when there is a newer one.
func (b *snapshotBoard) watch() (*fleetSnapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed
}

func (b *snapshotBoard) publish(c *fleetSnapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = c
	close(b.changed)
	b.changed = make(chan struct{})
}

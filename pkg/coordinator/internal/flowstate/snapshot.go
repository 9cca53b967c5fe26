package flowstate

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// catalog is what the coordinator knows of flows, and whom it reaches. It does not change: a new one takes its place.
type Snapshot struct {
	Reachability
	Flows map[string]*Flow
}

// flowEntry is one flow of the catalog.
type Flow struct {
	Name string
	// active is the revision that new batches run on; nil while there is none.
	Active    *Revision
	Revisions Revisions // those that a batch may name, active included
	Status    cluster.FlowStatus
	Mark      cluster.Mark // of status and active in etcd
	Since     time.Time    // since when its rows are counted
}

// maxRevisions is how many revisions of a flow stay in memory: those that batches are likely to name.
const MaxRevisions = cluster.HistoryKeep

// keep takes in a revision and lets the others go that were taken in longest ago. The fleet recalls one that is asked for again.
// Of two revisions of the same number the history has the one that is taken in: the other is gone.
func (e *Flow) Keep(r *Revision) {
	kept := slices.DeleteFunc(slices.Clone(e.Revisions), func(o *Revision) bool { return o.Number == r.Number })
	for i := 0; i < len(kept) && len(kept) >= MaxRevisions; {
		if e.Active != nil && kept[i].ID() == e.Active.ID() {
			i++
			continue
		}
		kept = slices.Delete(kept, i, i+1)
	}
	e.Revisions = append(kept, r)
}

// active is what new batches of the flow run on.
func (c *Snapshot) Active(flow string) (*Revision, error) {
	e := c.Flows[flow]
	if e == nil {
		return nil, batch.Errorf(batch.CodeUnknownFlow, "there is no flow %q%s", flow, c.alternatives())
	}
	switch r := e.Active; {
	case r != nil && r.Enabled:
		return r, nil
	case r != nil:
		return nil, Disabled(flow)
	case e.Status.State == cluster.StateRejected:
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "no revision of flow %s was ever accepted: %s", flow, strings.Join(e.Status.Reasons, "; "))
	case len(e.Status.Reasons) > 0:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: %s", flow, strings.Join(e.Status.Reasons, "; "))
	default:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: it waits for its workers' acknowledgement", flow)
	}
}

// runs reports whether a flow runs with the document as it is given.
func (c *Snapshot) RunsDocument(given definition.Document) bool {
	for _, e := range c.Flows {
		if e.Active != nil && slices.ContainsFunc(e.Active.Message.GetDocuments(), func(d *pb.Document) bool {
			return d.GetKind() == string(given.Kind) && d.GetName() == given.Name && bytes.Equal(d.GetYaml(), given.YAML)
		}) {
			return true
		}
	}
	return false
}

func Disabled(flow string) error {
	return batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set status: 1 in its document to enable it", flow)
}

func (c *Snapshot) alternatives() string {
	if len(c.Flows) == 0 {
		return ": none is defined yet; kisgrid apply -f DIR defines some"
	}
	names := make([]string, 0, len(c.Flows))
	for name := range c.Flows {
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
type Board struct {
	mu      sync.Mutex
	current *Snapshot     // guarded by mu
	changed chan struct{} // guarded by mu; closed when current is replaced
}

func NewBoard() *Board {
	return &Board{current: &Snapshot{}, changed: make(chan struct{})}
}

func (b *Board) Load() *Snapshot {
	c, _ := b.Watch()
	return c
}

// watch is the newest catalog, and a channel that is closed when there is a newer one.
func (b *Board) Watch() (*Snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed
}

func (b *Board) Publish(c *Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = c
	close(b.changed)
	b.changed = make(chan struct{})
}

// on reports whether new batches are taken.
func (e *Flow) TakesBatches() bool { return e != nil && e.Active != nil && e.Active.Enabled }

// reach is whom this coordinator reaches.
type Reachability struct {
	Sessions    int                   // that are up
	Lost        int                   // workers not reached for a lease time
	Unreached   int                   // workers not reached for a lease time, or never
	Unreachable []cluster.Unreachable // by id; those that were tried in vain, and have no session
	// namesakes are workers with a session under whose names others have registered since, by id.
	SharingName []string
	// cutOff: it reaches fewer than half of the workers, and another coordinator reaches more, or it reaches none at all.
	CutOff bool
	// outdone: it is cut off, and another coordinator reaches more.
	OthersReachMore bool
}

// await waits until the catalog is as is says; false when ctx is done first.
func (b *Board) Await(ctx context.Context, is func(*Snapshot) bool) bool {
	for {
		now, changed := b.Watch()
		if is(now) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

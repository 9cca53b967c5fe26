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

// Snapshot is a coordinator's knowledge of all flows at one moment, and of the workers that it reaches. It does not change: the fleet
// publishes a new one after each change.
type Snapshot struct {
	Reachability
	Flows map[string]*Flow
	// Paused are the flows that an operator has paused, by name: they take no new batches. It has flows that don't exist, too.
	Paused map[string]cluster.Control
}

// Flow is what a snapshot has of one flow: its status in etcd, and the revisions that batches run on.
type Flow struct {
	Name string
	// Active is the revision that new batches run on; nil means that there is none.
	Active    *Revision
	Revisions Revisions // the revisions that are kept in memory because batches may name them, the active one included
	Status    cluster.FlowStatus
	Mark      cluster.Mark // identifies the flow's status and active revision as they stand in etcd; it changes whenever they do
	Since     time.Time    // the time since when this coordinator counts the flow's rows
}

// MaxRevisions is the most revisions of a flow that stay in memory: those that batches are likely to name. Others are read from the
// history.
const MaxRevisions = cluster.HistoryKeep

// Keep adds a revision to the flow's Revisions, and drops those that were added longest ago, except the active one, if there are more than
// MaxRevisions. A revision with the same number as r is dropped, too, because the history does not have it any more.
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

// Active returns the revision that new batches of the flow run on. The error says why there is none: the flow is paused, or one of the
// reasons of Runs, which has knows, too.
func (c *Snapshot) Active(flow string, knows func(flow string) bool) (*Revision, error) {
	r, err := c.Runs(flow, knows)
	if why, paused := c.Paused[flow]; paused && err == nil {
		return nil, Paused(flow, why)
	}
	return r, err
}

// Runs returns the flow's active revision, also while the flow is paused. The error says why there is none: the flow is unknown, switched
// off, or has no active revision. If it is unknown, the error names flows that there are, of those for which knows is true; nil means none.
func (c *Snapshot) Runs(flow string, knows func(flow string) bool) (*Revision, error) {
	e := c.Flows[flow]
	if e == nil {
		return nil, batch.Errorf(batch.CodeUnknownFlow, "there is no flow %q%s", flow, c.alternatives(knows))
	}
	switch r := e.Active; {
	case r != nil && r.Enabled:
		return r, nil
	case r != nil:
		return nil, Disabled(flow)
	case e.Status.State == cluster.StateRejected:
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "no revision of flow %s was ever accepted: %s; apply documents that can run", flow, strings.Join(e.Status.Reasons, "; "))
	case len(e.Status.Reasons) > 0:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: %s; kisgrid rollout status %s waits until one is", flow, strings.Join(e.Status.Reasons, "; "), flow)
	default:
		return nil, batch.Errorf(batch.CodeNoCapableWorker, "no revision of flow %s is active yet: it waits for its workers' acknowledgement; kisgrid rollout status %s waits until one is", flow, flow)
	}
}

// RunsDocument reports whether the active revision of any flow has exactly this document: the same kind, name and text.
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

// Disabled returns the error that refuses a batch because its flow is switched off (status: 0 in its document). Its code is FLOW_DISABLED.
func Disabled(flow string) error {
	return batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set status: 1 in its document to enable it", flow)
}

// Paused returns the error that refuses a batch because somebody has paused its flow. Its code is FLOW_DISABLED, which clients of all builds
// know: no row of the batch ran, and it may be submitted again later.
func Paused(flow string, why cluster.Control) error {
	text := "flow " + flow + " is paused"
	if why.By != "" {
		text += " by " + why.By
	}
	if !why.At.IsZero() {
		text += " since " + why.At.UTC().Format(time.RFC3339)
	}
	if why.Reason != "" {
		text += " (" + why.Reason + ")"
	}
	return batch.Errorf(batch.CodeFlowDisabled, "%s: submit the batch again when it is resumed; kisgrid resume %s does that", text, flow)
}

// alternatives returns the end of an error about an unknown flow: which flows there are, at most 10 of them by name.
func (c *Snapshot) alternatives(knows func(flow string) bool) string {
	if len(c.Flows) == 0 {
		return ": none is defined yet; kisgrid apply -f DIR defines some"
	}
	names := make([]string, 0, len(c.Flows))
	for name := range c.Flows {
		if knows != nil && knows(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ": kisgrid get flows lists those there are"
	}
	slices.Sort(names)
	more := ""
	if len(names) > 10 {
		more = fmt.Sprintf(" and %d more", len(names)-10)
		names = names[:10]
	}
	return "; there are " + strings.Join(names, ", ") + more
}

// Board holds the newest snapshot, which the coordinator's fleet publishes. Any goroutine may use it.
type Board struct {
	mu      sync.Mutex
	current *Snapshot     // guarded by mu
	changed chan struct{} // guarded by mu: closed, and replaced by a new channel, when current is replaced
}

// NewBoard makes a board whose snapshot is empty.
func NewBoard() *Board {
	return &Board{current: &Snapshot{}, changed: make(chan struct{})}
}

// Load returns the newest snapshot.
func (b *Board) Load() *Snapshot {
	c, _ := b.Watch()
	return c
}

// Watch returns the newest snapshot, and a channel that is closed when a newer one is published.
func (b *Board) Watch() (*Snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current, b.changed
}

// Publish makes c the newest snapshot, and closes the channels that Watch has returned. c must not change afterwards.
func (b *Board) Publish(c *Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = c
	close(b.changed)
	b.changed = make(chan struct{})
}

// TakesBatches reports whether new batches of the flow are taken: it has an active revision that is not switched off. e may be nil.
func (e *Flow) TakesBatches() bool { return e != nil && e.Active != nil && e.Active.Enabled }

// Reachability is how many workers a coordinator reaches, which it does not reach, and what follows from that.
type Reachability struct {
	Sessions    int                   // how many sessions are up
	Lost        int                   // how many workers have not been reached for a lease or longer
	Unreached   int                   // how many workers count as not reached: the lost ones, and those that were tried and never reached
	Unreachable []cluster.Unreachable // the workers that were tried in vain and have no session, in the order of their ids
	// SharingName are the ids of workers that have a session although another worker has registered under their name since, in order.
	SharingName []string
	// CutOff says that the coordinator takes no batches: it reaches fewer than half of the workers, and another coordinator reaches more,
	// or it reaches none at all.
	CutOff bool
	// OthersReachMore says that the coordinator is cut off and another coordinator reaches more workers.
	OthersReachMore bool
}

// Await blocks until the function is returns true for the newest snapshot, and then returns true. It returns false if ctx is done first.
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

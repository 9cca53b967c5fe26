package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Get returns the resources of one kind, which is flows, functions, connectors, workers or coordinators, in the order of their names. If
// the request has a name, it returns only the resource of that name, or an error if there is none.
func (a *admin) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	now, err := a.readStoredState(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	all, err := a.list(ctx, in, now)
	if err != nil {
		return nil, wire.Status(err)
	}
	out := &pb.GetResponse{}
	if now.away != "" {
		out.KnownUnixMilliseconds, out.Away = now.asOf.UnixMilli(), now.away
	}
	if all, err = a.visible(ctx, in.GetKind(), now, all); err != nil {
		return nil, wire.Status(err)
	}
	for _, r := range all {
		if in.GetName() == "" || in.GetName() == r.GetName() {
			out.Resources = append(out.Resources, r)
		}
	}
	if in.GetName() != "" && len(out.GetResources()) == 0 {
		return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "there is no %s %q: kisgrid get %s lists them", strings.TrimSuffix(in.GetKind(), "s"), in.GetName(), in.GetKind()))
	}
	slices.SortFunc(out.GetResources(), func(a, b *pb.Resource) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

// list returns all resources of the kind that is asked for, such as "flows", in any order. It fails for an unknown kind.
func (a *admin) list(ctx context.Context, in *pb.GetRequest, now storedState) ([]*pb.Resource, error) {
	switch kind := in.GetKind(); kind {
	case "flows":
		return a.flows(ctx, now, in.GetName())
	case "functions":
		return a.ofKind(ctx, definition.KindFunc, now)
	case "connectors":
		return a.ofKind(ctx, definition.KindConn, now)
	case "workers":
		return a.workers(ctx), nil
	case "coordinators":
		var all []*pb.Resource
		for id, c := range a.Fleet.Coordinators() {
			all = append(all, resource("coordinator", id, c, nil))
		}
		return all, nil
	default:
		return nil, batch.Errorf(batch.CodeNotFound, "there is no kind %q: get flows, functions, connectors, workers or coordinators", kind)
	}
}

// visible returns the resources that the caller may see, of those of a kind. A status of a function or connector then names only flows that
// the caller may see.
func (a *admin) visible(ctx context.Context, kind string, now storedState, all []*pb.Resource) ([]*pb.Resource, error) {
	who := access.From(ctx)
	if who.MayAll(access.View) {
		return all, nil
	}
	switch kind {
	case "flows":
		return slices.DeleteFunc(all, func(r *pb.Resource) bool { return !mayDefineOrView(who, r.GetName()) }), nil
	case "functions", "connectors":
	default:
		return all, nil
	}
	select {
	case a.checking <- struct{}{}:
	case <-ctx.Done():
		return nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
	}
	defer func() { <-a.checking }()
	stored := leader.CompileDocuments(now.docs, a.lastDesired, a.MaxSteps)
	var seen []*pb.Resource
	for _, r := range all {
		d := definition.Document{Kind: definition.Kind(r.GetKind()), Name: r.GetName()}
		if !maySee(who, d, stored) {
			continue
		}
		var v DocumentView
		if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
			return nil, fmt.Errorf("read the status of %s %s: %w", r.GetKind(), r.GetName(), err)
		}
		v.Flows = slices.DeleteFunc(v.Flows, func(flow string) bool { return !mayDefineOrView(who, flow) })
		v.Of, v.Applied = len(v.Flows), min(v.Applied, len(v.Flows))
		v.Reasons = nil // reasons name flows
		shown := resource(r.GetKind(), r.GetName(), v, nil)
		shown.Document = r.GetDocument()
		seen = append(seen, shown)
	}
	return seen, nil
}

// resource makes the message about a resource. status is converted to JSON. document may be nil, and is left out if it has no text.
func resource(kind, name string, status any, document *definition.Document) *pb.Resource {
	r := &pb.Resource{Kind: kind, Name: name}
	text, err := json.Marshal(status)
	if err != nil {
		panic(fmt.Sprintf("the status of %s %s is not JSON: %v", kind, name, err)) // the status is one of this program's types, which all are JSON
	}
	r.Status = text
	if document != nil && document.YAML != nil {
		r.Document = &pb.Document{Kind: string(document.Kind), Name: document.Name, Yaml: document.YAML, Revision: document.Revision}
	}
	return r
}

// FlowView is the status of a flow as Get returns it, in JSON.
type FlowView struct {
	// FlowStatus is the status in etcd. Its state is cluster.StateUnserved instead of active if no worker can run the flow, and
	// cluster.StateDegraded if one of its connectors can't be used.
	cluster.FlowStatus
	// Unserved has the reasons why no worker can run the flow now, as far as this coordinator sees. It is empty if a worker can, or if the
	// flow is not to run.
	Unserved []string `json:"unserved,omitempty"`
	// Degraded has, by connector name and worker id, the reason why a connector that the flow needs can't be used now. Rows that need them
	// wait.
	Degraded map[string]map[string]string `json:"degraded,omitempty"`
	// Paused says who has paused the flow and why; nil means that it is not paused. The state of an active flow is cluster.StatePaused then.
	Paused *cluster.Control `json:"paused,omitempty"`
	// ShardKey is the shard key of the active revision. If there is no active revision, it is that of the flow's document. Empty means that
	// the flow has no shard key.
	ShardKey string `json:"shard_key,omitempty"`
	// Wants is the shard key that the flow's document asks for, if that differs from ShardKey; otherwise nil. ShardKeyUnread says that no
	// revision is active and the document can't be read, so that the shard key is not known.
	Wants          *string `json:"shard_key_wanted,omitempty"`
	ShardKeyUnread bool    `json:"shard_key_unread,omitempty"`
	// Chain has the steps of the flow's document, in their order, if the flow is asked for by its name and its document can be read.
	Chain []ChainStep `json:"chain,omitempty"`
	// Rows counts the rows that came in through this coordinator, by outcome, and those in flight.
	Rows    map[string]uint64 `json:"rows"`
	Counted Counted           `json:"counted"`
	// Cluster has the rows of all coordinators; nil means that the coordinator's build does not tell.
	Cluster *ClusterRows `json:"cluster,omitempty"`
}

// Counted says which coordinator has counted the Rows of a FlowView, and since when. Each coordinator counts only the rows that clients
// submit to it.
type Counted struct {
	// By is the id of the coordinator that counts, and At its address. Since is when the count began.
	By    string    `json:"by"`
	At    string    `json:"at"`
	Since time.Time `json:"since"`
}

// setShardKey sets ShardKey, Wants and ShardKeyUnread, from the flow's document d and its entry e in the snapshot. e may be nil.
func (v *FlowView) setShardKey(d definition.Document, e *flowstate.Flow) {
	runs := e != nil && e.Active != nil
	if runs {
		v.ShardKey = e.Active.ShardKey
		if v.WantedRevision() == v.ActiveRevision() {
			return
		}
	}
	wanted, read := definition.ShardKeyOf(d)
	switch {
	case !read:
		v.ShardKeyUnread = !runs && d.YAML != nil
	case !runs:
		v.ShardKey = wanted
	case wanted != v.ShardKey:
		v.Wants = &wanted
	}
}

// flows returns the resources of all flows that have a document, each with a FlowView. That of the flow named has its chain.
func (a *admin) flows(ctx context.Context, now storedState, named string) ([]*pb.Resource, error) {
	docs := now.docs
	var names []string
	for _, d := range docs {
		if d.Kind == definition.KindFlow {
			names = append(names, d.Name)
		}
	}
	unserved, ok := a.Fleet.Unserved(ctx, names)
	conns, alive := a.Fleet.Connectors(ctx)
	if !ok || !alive {
		return nil, refuse.Stopped()
	}
	c, ledgers, everywhere := a.Board.Load(), a.Rows.Ledgers(ctx), a.clusterRows(ctx)
	var all []*pb.Resource
	for i := range docs {
		d := &docs[i]
		if d.Kind != definition.KindFlow {
			continue
		}
		v := FlowView{FlowStatus: cluster.FlowStatus{Flow: d.Name, Wanted: d.Revision, State: cluster.StateApplying}, Rows: rowCounts(ledgers[d.Name]), Counted: Counted{By: a.ID, At: a.Address, Since: a.Started}, Cluster: everywhere(d.Name)}
		if e := c.Flows[d.Name]; e != nil {
			v.FlowStatus, v.Counted.Since = e.Status, e.Since
		}
		v.setShardKey(*d, c.Flows[d.Name])
		if d.Name == named {
			v.Chain = chainOf(*d, docs)
		}
		if v.Unserved = unserved[d.Name]; len(v.Unserved) > 0 && v.State == cluster.StateActive {
			v.State = cluster.StateUnserved
		}
		if e := c.Flows[d.Name]; e != nil {
			v.Degraded = flowstate.DownBy(conns.Degraded, e)
		}
		if len(v.Degraded) > 0 && v.State == cluster.StateActive {
			v.State = cluster.StateDegraded
		}
		if why, paused := c.Paused[d.Name]; paused {
			v.Paused = &why
			if e := c.Flows[d.Name]; e.TakesBatches() {
				v.State = cluster.StatePaused
			}
		}
		all = append(all, resource("flow", d.Name, v, d))
	}
	return all, nil
}

// rowCounts converts a ledger to FlowView.Rows: the number of rows by the outcome's name, and those with the keys in and in_flight.
func rowCounts(l scheduler.Ledger) map[string]uint64 {
	counts := map[string]uint64{"in": l.In, "in_flight": l.InFlight()}
	for o := batch.Done; o <= batch.Failed; o++ {
		counts[o.String()] = l.Outcomes[o]
	}
	return counts
}

// DocumentView is the status of a function or connector as Get returns it, in JSON.
type DocumentView struct {
	cluster.DocumentStatus
	// Down has, by worker id, the reason why a connector's store can't be used now. Rows that need the store wait there, and the state of
	// the connector is cluster.StateDegraded instead of active.
	Down map[string]string `json:"down,omitempty"`
}

// ofKind returns the resources of all functions or of all connectors, as kind says, each with a DocumentView.
func (a *admin) ofKind(ctx context.Context, kind definition.Kind, now storedState) ([]*pb.Resource, error) {
	docs, statuses := now.docs, now.statuses
	var down map[string]map[string]string
	if kind == definition.KindConn {
		conns, ok := a.Fleet.Connectors(ctx)
		if !ok {
			return nil, refuse.Stopped()
		}
		down = flowstate.DownBy(conns.Degraded, nil)
	}
	var all []*pb.Resource
	for i := range docs {
		d := &docs[i]
		if d.Kind != kind {
			continue
		}
		s := statuses[flowstate.KeyOf(*d)]
		if now.away == "" && s.Wanted != d.Revision { // the leader has not looked at this version of the document yet
			s.Wanted, s.State, s.Reasons = d.Revision, cluster.StateApplying, nil
			s.Flows = append([]string{}, s.Flows...)
		}
		v := DocumentView{DocumentStatus: s, Down: down[d.Name]}
		if len(v.Down) > 0 && v.State == cluster.StateActive {
			v.State = cluster.StateDegraded
		}
		all = append(all, resource(string(kind), d.Name, v, d))
	}
	return all, nil
}

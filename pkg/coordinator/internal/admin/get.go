package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Get lists resources of one kind, or one by its name.
func (a *admin) Get(ctx context.Context, in *pb.GetRequest) (*pb.GetResponse, error) {
	now, err := a.storedState(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	all, err := a.list(ctx, in.GetKind(), now)
	if err != nil {
		return nil, wire.Status(err)
	}
	out := &pb.GetResponse{}
	if now.away != "" {
		out.KnownUnixMilliseconds, out.Away = now.asOf.UnixMilli(), now.away
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

func (a *admin) list(ctx context.Context, kind string, now storedState) ([]*pb.Resource, error) {
	switch kind {
	case "flows":
		return a.flows(ctx, now)
	case "functions":
		return a.ofKind(ctx, definition.KindFunc, now)
	case "connectors":
		return a.ofKind(ctx, definition.KindConn, now)
	case "workers":
		var all []*pb.Resource
		for id, w := range a.Fleet.Workers(ctx) {
			all = append(all, resource("worker", id, w, nil))
		}
		return all, nil
	case "coordinators":
		var all []*pb.Resource
		for id, c := range a.Fleet.Coordinators() {
			all = append(all, resource("coordinator", id, c, nil))
		}
		return all, nil
	}
	return nil, batch.Errorf(batch.CodeNotFound, "there is no kind %q: get flows, functions, connectors, workers or coordinators", kind)
}

func resource(kind, name string, status any, document *definition.Document) *pb.Resource {
	r := &pb.Resource{Kind: kind, Name: name}
	text, err := json.Marshal(status)
	if err != nil {
		panic(fmt.Sprintf("the status of %s %s is not JSON: %v", kind, name, err)) // our own types always are
	}
	r.Status = text
	if document != nil && document.YAML != nil {
		r.Document = &pb.Document{Kind: string(document.Kind), Name: document.Name, Yaml: document.YAML, Revision: document.Revision}
	}
	return r
}

// FlowView is the status of a flow as Get tells it.
type FlowView struct {
	// FlowStatus is what stands in etcd, but for the state of an active flow that no worker can run: that is cluster.StateUnserved.
	cluster.FlowStatus
	// Unserved is why no worker can run the flow now, as far as this coordinator sees; empty while one can, and while the flow is
	// off.
	Unserved []string `json:"unserved,omitempty"`
	// Degraded are, by connector and worker, why connectors that the flow needs are of no use now. Rows that need them wait. The
	// state of an active flow is then cluster.StateDegraded, unless it is unserved.
	Degraded map[string]map[string]string `json:"degraded,omitempty"`
	// ShardKey is that of the active revision, and where there is none what the flow's document says.
	ShardKey string `json:"shard_key,omitempty"`
	// Wants is the shard key that the document asks for, where that is another one. ShardKeyUnread: the document can't be read.
	Wants          *string `json:"shard_key_wanted,omitempty"`
	ShardKeyUnread bool    `json:"shard_key_unread,omitempty"`
	// Rows are those that came in through one coordinator process, by outcome and in flight.
	Rows    map[string]uint64 `json:"rows"`
	Counted Counted           `json:"counted"`
}

// Counted says whose counts they are: each coordinator counts the rows that come in through it.
type Counted struct {
	// By is the coordinator's id, At its address. Since is when it began.
	By    string    `json:"by"`
	At    string    `json:"at"`
	Since time.Time `json:"since"`
}

// setShardKey fills in what is known of the shard key.
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

func (a *admin) flows(ctx context.Context, now storedState) ([]*pb.Resource, error) {
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
	c, ledgers := a.Board.Load(), a.Rows.Ledgers(ctx)
	var all []*pb.Resource
	for i := range docs {
		d := &docs[i]
		if d.Kind != definition.KindFlow {
			continue
		}
		v := FlowView{FlowStatus: cluster.FlowStatus{Flow: d.Name, Wanted: d.Revision, State: cluster.StateApplying}, Rows: rowCounts(ledgers[d.Name]), Counted: Counted{By: a.ID, At: a.Address, Since: a.Started}}
		if e := c.Flows[d.Name]; e != nil {
			v.FlowStatus, v.Counted.Since = e.Status, e.Since
		}
		v.setShardKey(*d, c.Flows[d.Name])
		if v.Unserved = unserved[d.Name]; len(v.Unserved) > 0 && v.State == cluster.StateActive {
			v.State = cluster.StateUnserved
		}
		if e := c.Flows[d.Name]; e != nil {
			v.Degraded = flowstate.DownBy(conns.Degraded, e)
		}
		if len(v.Degraded) > 0 && v.State == cluster.StateActive {
			v.State = cluster.StateDegraded
		}
		all = append(all, resource("flow", d.Name, v, d))
	}
	return all, nil
}

func rowCounts(l scheduler.Ledger) map[string]uint64 {
	counts := map[string]uint64{"in": l.In, "in_flight": l.InFlight()}
	for o := batch.Done; o <= batch.Failed; o++ {
		counts[o.String()] = l.Outcomes[o]
	}
	return counts
}

// DocumentView is the status of a function's or connector's document as Get tells it.
type DocumentView struct {
	cluster.DocumentStatus
	// Down is, of a connector, by worker why its store is of no use there now. Rows that need it wait. The state of an active
	// connector is then cluster.StateDegraded.
	Down map[string]string `json:"down,omitempty"`
}

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
		if now.away == "" && s.Wanted != d.Revision { // the leader has not come to it yet
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

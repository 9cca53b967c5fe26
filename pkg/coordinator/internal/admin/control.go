package admin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Pause makes a flow take no new batches, or take them again. The flow must exist. If it does not, only a resume succeeds, and only if the
// flow's name is paused, so that what a deleted flow left behind can be removed.
func (a *admin) Pause(ctx context.Context, in *pb.PauseRequest) (*pb.PauseResponse, error) {
	c := a.Board.Load()
	_, paused := c.Paused[in.GetFlow()]
	if c.Flows[in.GetFlow()] == nil && (!paused || !in.GetResume()) {
		_, err := c.Runs(in.GetFlow(), access.From(ctx).Knows) // says which flows there are
		return nil, wire.Status(err)
	}
	changed, err := a.control(ctx, cluster.ControlledFlow, in.GetFlow(), in.GetReason(), in.GetResume())
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.PauseResponse{Changed: changed}, nil
}

// Cordon makes a worker get no new rows, or get them again. The worker is named by its name or by its id, and must be there. A name that is
// cordoned and has no worker any more can be uncordoned.
func (a *admin) Cordon(ctx context.Context, in *pb.CordonRequest) (*pb.CordonResponse, error) {
	name, found := "", false
	for _, w := range a.Fleet.Workers(ctx) {
		if w.ID == in.GetWorker() || w.Name == in.GetWorker() {
			name, found = w.Name, true
		}
	}
	if _, cordoned := a.Fleet.Cordoned(ctx)[in.GetWorker()]; !found && cordoned && in.GetUncordon() {
		name, found = in.GetWorker(), true
	}
	if !found {
		return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "there is no worker %q: kisgrid get workers lists them", in.GetWorker()))
	}
	changed, err := a.control(ctx, cluster.ControlledWorker, name, in.GetReason(), in.GetUncordon())
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.CordonResponse{Name: name, Changed: changed}, nil
}

// maxReason is the limit for the bytes of the reason of a Pause or Cordon.
const maxReason = 1024

// control writes to etcd that a flow is paused or a worker cordoned, or removes that. changed is false if it was so already.
func (a *admin) control(ctx context.Context, kind cluster.Controlled, name, reason string, remove bool) (changed bool, err error) {
	if len(reason) > maxReason {
		return false, batch.Errorf(batch.CodeBadDocument, "the reason has %d bytes, over the limit of %d: give a shorter one", len(reason), maxReason)
	}
	action, flows := "cordon worker", []string(nil)
	if remove {
		action = "uncordon worker"
	}
	if kind == cluster.ControlledFlow {
		action, flows = "pause", []string{name}
		if remove {
			action = "resume"
		}
	}
	detail := reason
	if flows == nil {
		detail = strings.TrimSpace(name + " " + reason)
	}
	a.Auditor.record(ctx, action, detail, flows...)
	if remove {
		return a.Store.SetControl(ctx, kind, name, nil)
	}
	return a.Store.SetControl(ctx, kind, name, &cluster.Control{Reason: reason, By: access.From(ctx).Name, At: time.Now().UTC().Truncate(time.Millisecond)})
}

// WorkerView is the record of a worker as Get returns it, in JSON.
type WorkerView struct {
	cluster.Worker
	// Cordoned says that the worker gets no new rows, and how far it has come with those that it has; nil means that it is not cordoned.
	Cordoned *CordonView `json:"cordoned,omitempty"`
}

// CordonView says who has cordoned a worker and why, and how many rows it still has.
type CordonView struct {
	cluster.Control
	// Rows are the rows that the worker has not answered, by the id of the coordinator that sent them. A coordinator is missing as long as
	// it has not told that it sends the worker no new rows.
	Rows map[string]int64 `json:"rows"`
	// NotTold are the ids of the coordinators that are missing in Rows. One of an earlier build never tells.
	NotTold []string `json:"not_told,omitempty"`
	// Drained says that every coordinator has told, and that the worker has no row any more.
	Drained bool `json:"drained"`
}

// workers returns the resources of all live workers, each with a WorkerView.
func (a *admin) workers(ctx context.Context) []*pb.Resource {
	var all []*pb.Resource
	cordoned, coordinators := a.Fleet.Cordoned(ctx), a.Fleet.Coordinators()
	for id, w := range a.Fleet.Workers(ctx) {
		v := WorkerView{Worker: w}
		if c, is := cordoned[w.Name]; is {
			v.Cordoned = cordonView(c, id, coordinators)
		}
		all = append(all, resource("worker", id, v, nil))
	}
	return all
}

// cordonView makes the view of a worker's cordon c out of what the coordinators tell.
func cordonView(c cluster.Control, worker string, coordinators map[string]cluster.Coordinator) *CordonView {
	v := &CordonView{Control: c, Rows: map[string]int64{}, Drained: len(coordinators) > 0}
	for _, id := range slices.Sorted(maps.Keys(coordinators)) {
		told, has := coordinators[id].Cordoned[worker]
		if !has || !told.Since.Equal(c.At) {
			v.NotTold, v.Drained = append(v.NotTold, id), false
			continue
		}
		v.Rows[id] = told.Rows
		v.Drained = v.Drained && told.Rows == 0
	}
	return v
}

package admin

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/figures"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Figures returns what the Book has of the flows that the caller may see, and the workers, coordinators and connectors. Nobody else is asked
// for it.
func (a *admin) Figures(ctx context.Context, in *pb.FiguresRequest) (*pb.FiguresResponse, error) {
	step := time.Duration(in.GetStepSeconds()) * time.Second
	if step != 0 && !slices.Contains(figures.Steps(), step) {
		return nil, wire.Status(batch.Errorf(batch.CodeBadMessage, "there is no history in steps of %d seconds: ask for one of %v, or for 0, which means none", in.GetStepSeconds(), figures.Steps()))
	}
	who, c := access.From(ctx), a.Board.Load()
	var flows []string
	for name := range c.Flows {
		if (in.GetFlow() == "" || name == in.GetFlow()) && who.May(access.View, name) {
			flows = append(flows, name)
		}
	}
	if in.GetFlow() != "" && len(flows) == 0 {
		return nil, wire.Status(batch.Errorf(batch.CodeNotFound, "there is no flow %q: kisgrid get flows lists them", in.GetFlow()))
	}
	slices.Sort(flows)
	q := figures.Question{
		Sees: func(flow string) bool { _, there := slices.BinarySearch(flows, flow); return there },
		Keys: func(flow string) bool {
			return !in.GetWithoutFunctions() && who.May(access.Rows, flow) && len(who.Masks(flow)) == 0
		},
		Step: step, WithoutFunctions: in.GetWithoutFunctions(),
	}
	if since := in.GetSinceUnixMilliseconds(); since > 0 {
		q.Since = time.UnixMilli(since)
	}
	out := a.Book.Read(time.Now(), q)
	out.Workers, out.Coordinators = a.workerFigures(ctx), a.coordinatorFigures()
	if len(flows) > 0 {
		report, ok := a.Fleet.Connectors(ctx, flows...)
		if !ok {
			return nil, wire.Status(refuse.Stopped())
		}
		out.Connectors = connectorFigures(report)
	}
	return out, nil
}

// ShareFigures returns the counts of this coordinator that have changed since the mark that the request has.
func (a *admin) ShareFigures(_ context.Context, in *pb.ShareFiguresRequest) (*pb.ShareFiguresResponse, error) {
	return a.Book.Share(time.Now(), in.GetAfter()), nil
}

// workerFigures returns the live workers, by id.
func (a *admin) workerFigures(ctx context.Context) []*pb.WorkerFigure {
	workers, windows := a.Fleet.Workers(ctx), a.Book.Windows()
	var all []*pb.WorkerFigure
	for _, id := range slices.Sorted(maps.Keys(workers)) {
		w := workers[id]
		f := &pb.WorkerFigure{Id: id, Name: w.Name, Build: w.Build, Lanes: uint32(max(0, w.Lanes)), Window: windows[id]}
		if f.GetWindow() == nil {
			f.Reason = "it has told this coordinator no figures: they have no session with each other, or the worker's build does not tell any"
		}
		all = append(all, f)
	}
	return all
}

// coordinatorFigures returns the registered coordinators, by id.
func (a *admin) coordinatorFigures() []*pb.CoordinatorFigure {
	coordinators, missing := a.Fleet.Coordinators(), a.Book.Missing()
	var all []*pb.CoordinatorFigure
	for _, id := range slices.Sorted(maps.Keys(coordinators)) {
		c := coordinators[id]
		all = append(all, &pb.CoordinatorFigure{Id: id, Address: c.Address, Build: c.Build, Reason: missing[id]})
	}
	return all
}

// connectorFigures returns the connectors of a report, by name and worker.
func connectorFigures(r flowstate.ConnectorReport) []*pb.ConnectorFigure {
	var all []*pb.ConnectorFigure
	for state, some := range map[string][]flowstate.ConnectorStatus{"connected": r.Connected, "opening": r.Opening, "degraded": r.Degraded, "unknown": r.Unknown} {
		for _, s := range some {
			f := &pb.ConnectorFigure{Connector: s.Name, Worker: s.Worker, State: state}
			if state == "degraded" {
				f.Reason = s.Reason
			}
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(x, y *pb.ConnectorFigure) int {
		return cmp.Or(cmp.Compare(x.GetConnector(), y.GetConnector()), cmp.Compare(x.GetWorker(), y.GetWorker()), cmp.Compare(x.GetState(), y.GetState()))
	})
	return all
}

// ClusterRows has the rows of a flow in the whole cluster, as the answering coordinator knows them.
type ClusterRows struct {
	// Rows counts rows as FlowView.Rows does, in all coordinators, also those that have ended since Since. A batch that is sent again to
	// another coordinator counts there, too.
	Rows map[string]uint64 `json:"rows"`
	// PerSecond is how many rows came in, and ended with each outcome, in each of the last 15 seconds.
	PerSecond map[string]float64 `json:"per_second"`
	// OldestSeconds is for how long the oldest row without an outcome has waited; 0 means that there is none.
	OldestSeconds float64 `json:"oldest_seconds,omitempty"`
	// Parked is how many rows are parked in workers.
	Parked uint64 `json:"parked,omitempty"`
	// Coordinators is how many coordinators' rows are in the sum; Missing has the others, with the reasons.
	Coordinators int               `json:"coordinators"`
	Missing      map[string]string `json:"missing,omitempty"`
	// Since is when the answering coordinator began to count.
	Since time.Time `json:"since"`
}

// clusterRows returns a function that returns the rows of a flow in the whole cluster, as they are now.
func (a *admin) clusterRows(ctx context.Context) func(flow string) *ClusterRows {
	a.CountOwn(ctx)
	all := map[string]*pb.FlowFigure{}
	missing := a.Book.Missing()
	coordinators := max(1, len(a.Fleet.Coordinators())-len(missing))
	got := a.Book.Read(time.Now(), figures.Question{Sees: func(string) bool { return true }, WithoutFunctions: true})
	for _, f := range got.GetFlows() {
		all[f.GetFlow()] = f
	}
	return func(flow string) *ClusterRows {
		f := all[flow] // nil means that the flow has had no rows
		rows, rates := f.GetRows(), f.GetPerSecond()
		return &ClusterRows{
			Rows: map[string]uint64{
				"in": rows.GetIn(), "in_flight": f.GetInFlight(), batch.Done.String(): rows.GetDone(), batch.Filtered.String(): rows.GetFiltered(),
				batch.Aborted.String(): rows.GetAborted(), batch.Dead.String(): rows.GetDead(), batch.Failed.String(): rows.GetFailed(),
			},
			PerSecond: map[string]float64{
				"in": rates.GetIn(), batch.Done.String(): rates.GetDone(), batch.Filtered.String(): rates.GetFiltered(),
				batch.Aborted.String(): rates.GetAborted(), batch.Dead.String(): rates.GetDead(), batch.Failed.String(): rates.GetFailed(),
			},
			OldestSeconds: float64(f.GetOldestMilliseconds()) / 1000, Parked: f.GetParkedRows(), Coordinators: coordinators, Missing: missing,
			Since: time.UnixMilli(got.GetCountsSinceUnixMilliseconds()).UTC(),
		}
	}
}

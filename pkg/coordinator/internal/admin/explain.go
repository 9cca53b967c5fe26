package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Explain answers two questions about a shard key: where a row with it would go now, and where the rows with it are that have no outcome.
//
//  1. The scheduler searches for the key's rows in this coordinator. It knows which of them were sent to which worker.
//  2. These workers are asked what the rows wait for. They also name rows that other coordinators have sent them: rows of one key run one after
//     the other, so these may be in front.
//  3. Both are put together. Rows that were answered meanwhile are left out.

const (
	// explainsAtOnce is the most calls of Explain that search for rows at the same time; further ones wait.
	explainsAtOnce = 4
	// explainMost is the most rows that one answer of Explain lists.
	explainMost = 1000
	// workersAsked is the most workers that are asked for one answer of Explain. A key usually has one worker, and two during a hand-over.
	workersAsked = 8
)

// Explain says which worker would get a row with the shard key in the request now, and why. If the caller asks for it, it also lists the
// key's rows that have no outcome, and where they are.
func (a *admin) Explain(ctx context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	out, err := a.explain(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	return out, nil
}

// explain does what Explain does. Its errors are not converted for gRPC yet.
func (a *admin) explain(ctx context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	who := access.From(ctx)
	r, err := a.Board.Load().Runs(in.GetFlow(), who.Knows)
	if err != nil {
		return nil, err
	}
	if r.ShardKey == "" {
		return &pb.ExplainResponse{Revision: r.Number, Reason: "the flow has no shard key: each batch goes whole to the least loaded worker"}, nil
	}
	hash, err := r.Keys.HashValue([]byte(in.GetKey()))
	if err != nil {
		return nil, err
	}
	select {
	case a.explaining <- struct{}{}:
		defer func() { <-a.explaining }()
	case <-ctx.Done():
		return nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
	}
	e := explanation{rows: a.Rows, most: int(min(in.GetMost(), explainMost)), now: time.Now()}
	if !in.GetRows() {
		e.most = 0
	} else {
		a.Auditor.record(ctx, "read where rows are", "", in.GetFlow()) // the key has contents of rows, so it is left out
	}
	masks := who.Masks(in.GetFlow())
	e.keysHidden = len(masks) > 0 // keys of stores are made of any fields
	hidden := !who.May(access.Rows, in.GetFlow()) || access.MasksField(masks, r.ShardKey)
	if hidden && in.GetRows() {
		return nil, batch.Errorf(batch.CodePermissionDenied, "%q can't see the rows of a key of flow %q, because the field %s is masked", who.Name, in.GetFlow(), r.ShardKey)
	}
	s := &scheduler.Search{Flow: in.GetFlow(), Key: hash, Most: e.most}
	if err := a.Rows.Find(ctx, s); err != nil {
		return nil, err
	}
	e.search = s
	lanes := uint32(r.Copies)
	if lanes == 0 {
		lanes = uint32(a.Fleet.Workers(ctx)[s.Worker].Lanes)
	}
	e.out = &pb.ExplainResponse{
		Slot: uint32(s.Slot), Worker: s.Worker, Reason: s.Reason, Revision: s.Revision, Lanes: lanes, Lane: uint32(uint64(s.Slot) * uint64(lanes) / keyslot.Count),
		Sent: uint64(s.Sent), Queued: uint64(s.Queued), Held: uint64(s.Held),
	}
	if hidden { // otherwise the counts would tell whether a row with the key is under way
		e.out.Sent, e.out.Queued, e.out.Held = 0, 0, 0
	}
	if e.out.Looked = in.GetRows(); e.out.GetLooked() {
		e.ask(ctx)
		if err := e.assemble(ctx); err != nil {
			return nil, err
		}
		if others := len(a.Fleet.Coordinators()) - 1; others > 0 {
			e.unknown("%d other coordinators may have rows of the key that are on their way to a worker: ask each of them with --server", others)
		}
	}
	return e.out, nil
}

// explanation gathers the answer of one call of Explain: where the rows of a key are. The goroutine of the call owns it.
type explanation struct {
	rows   Rows
	most   int
	now    time.Time
	search *scheduler.Search
	// keysHidden says that the caller may not see the keys of stores that rows wait for.
	keysHidden bool
	answers    map[string]*pb.Located // the workers' answers, by worker
	out        *pb.ExplainResponse
}

// unknown adds a sentence to the answer that tells what the answer can't say. format and args are as in fmt.Sprintf.
func (e *explanation) unknown(format string, args ...any) {
	e.out.Unknown = append(e.out.Unknown, fmt.Sprintf(format, args...))
}

// ask asks the workers that have rows of the key, or would get new ones, where these rows are, and keeps their answers.
func (e *explanation) ask(ctx context.Context) {
	ids := map[string]bool{}
	if e.search.Worker != "" {
		ids[e.search.Worker] = true
	}
	for at := range e.search.Counts {
		if at.Where == scheduler.AtWorker {
			ids[at.Worker] = true
		}
	}
	workers := slices.Sorted(maps.Keys(ids))
	if len(workers) > workersAsked {
		e.unknown("%d workers have rows of the key, and %d of them were asked what their rows wait for", len(workers), workersAsked)
		workers = workers[:workersAsked]
	}
	answers, silent := e.rows.Locate(ctx, workers, &pb.Locate{Flow: e.search.Flow, Key: e.search.Key, Most: uint32(e.most)})
	e.answers = answers
	e.out.Unknown = append(e.out.Unknown, silent...)
}

// workerRow names a row that this coordinator sent to a worker: by the worker's id, the part's number, and the row's place in the part.
type workerRow struct {
	worker string
	part   uint64
	row    uint32
}

// assemble puts together the rows that the scheduler found and the answers of the workers. Rows that were answered meanwhile are left out
// of the list. It fails if ctx is done or the scheduler has ended.
func (e *explanation) assemble(ctx context.Context) error {
	known := map[workerRow]scheduler.Found{}
	open := make([]bool, len(e.search.Rows))
	if !e.rows.Inspect(ctx, func(s *scheduler.Scheduler) { // rows that were answered since the search are left out
		for id, said := range e.answers {
			for _, r := range said.GetRows() {
				if f, ok := s.At(id, r.GetPart(), r.GetPartRow()); ok && r.GetPart() > 0 {
					known[workerRow{id, r.GetPart(), r.GetPartRow()}] = f
				}
			}
		}
		for i := range e.search.Rows {
			f := &e.search.Rows[i]
			open[i] = f.Where != scheduler.AtWorker || f.Open()
		}
	}) {
		return refuse.Stopped()
	}
	for _, id := range slices.Sorted(maps.Keys(e.answers)) {
		e.addWorkerRows(id, known)
	}
	for i := range e.search.Rows {
		f := &e.search.Rows[i]
		if !open[i] {
			continue
		}
		if f.Where == scheduler.AtWorker {
			if _, said := known[workerRow{f.Worker, f.Part.Number, f.PartRow}]; said {
				continue
			}
		}
		e.add(e.rowPlace(f))
	}
	e.count()
	e.out.GivenUp = uint64(e.search.GivenUp)
	if e.search.Unsettled {
		e.unknown("rows of the flow were going from worker to worker all the time: those on their way were not looked at; ask again")
	}
	return nil
}

// addWorkerRows adds to the answer the rows that a worker has listed. known has, of the listed rows that this coordinator sent, those that
// still have no answer; the others of this coordinator are left out.
func (e *explanation) addWorkerRows(id string, known map[workerRow]scheduler.Found) {
	for _, r := range e.answers[id].GetRows() {
		if r.GetPart() > 0 {
			f, ok := known[workerRow{id, r.GetPart(), r.GetPartRow()}]
			if !ok {
				continue // it was answered meanwhile
			}
			r.GivenUp = givenUp(&f)
		}
		r.Part, r.PartRow = 0, 0
		if e.keysHidden {
			r.Key = ""
		}
		e.add(r)
	}
}

// add adds a row to the answer's list, unless the list has e.most rows already.
func (e *explanation) add(r *pb.RowPlace) {
	if len(e.out.GetRows()) < e.most {
		e.out.Rows = append(e.out.Rows, r)
	}
}

// givenUp returns why no client waits for a row any more: "cancelled" or "over". It returns "" if a client does.
func givenUp(f *scheduler.Found) string {
	switch {
	case !f.GivenUp:
		return ""
	case f.Cancelled:
		return "cancelled"
	}
	return "over"
}

// places has the names that the scheduler's places of rows have in answers.
var places = map[scheduler.Where]string{
	scheduler.AtWorker: "at_worker", scheduler.SetAside: "set_aside", scheduler.Queued: "queued", scheduler.HeldBack: "held_back",
	scheduler.NoWorker: "no_worker",
}

// rowPlace describes where a row is that the scheduler found and that no worker has listed.
func (e *explanation) rowPlace(f *scheduler.Found) *pb.RowPlace {
	r := &pb.RowPlace{
		Where: places[f.Where], Worker: f.Worker, From: f.From, Batch: wire.FromID(e.rows.BatchID(f.Batch)), Row: f.Row, GivenUp: givenUp(f),
		ForMilliseconds: wire.Milliseconds(e.now.Sub(f.Since)),
	}
	if f.Where == scheduler.AtWorker && e.toldAll(f.Worker) {
		r.Where = "travelling"
	}
	return r
}

// toldAll reports whether the worker has answered with fewer rows than it was allowed to list, so that it has listed all its rows of the
// key.
func (e *explanation) toldAll(worker string) bool {
	said := e.answers[worker]
	return said != nil && len(said.GetRows()) < e.most
}

// count adds to the answer how many rows are at each place. Rows that the scheduler has sent to a worker, and that the worker does not
// report, count as travelling.
func (e *explanation) count() {
	add := func(where, worker string, rows uint64, others bool) {
		if rows > 0 {
			e.out.Counts = append(e.out.Counts, &pb.PlaceCount{Where: where, Worker: worker, Rows: rows, Others: others})
		}
	}
	for at, n := range e.search.Counts {
		said := e.answers[at.Worker]
		if at.Where != scheduler.AtWorker || said == nil {
			add(places[at.Where], at.Worker, uint64(n), false)
			continue
		}
		has := uint64(0)
		for _, c := range said.GetCounts() {
			if !c.GetOthers() {
				has += c.GetRows()
			}
		}
		add("travelling", at.Worker, uint64(n)-min(has, uint64(n)), false)
	}
	for id, said := range e.answers {
		for _, c := range said.GetCounts() {
			add(c.GetWhere(), id, c.GetRows(), c.GetOthers())
		}
	}
	slices.SortFunc(e.out.GetCounts(), func(a, b *pb.PlaceCount) int {
		return cmp.Or(cmp.Compare(a.GetWorker(), b.GetWorker()), cmp.Compare(a.GetWhere(), b.GetWhere()), compareOthers(a, b))
	})
}

// compareOthers orders two counts for sorting: counts of rows from other coordinators come last.
func compareOthers(a, b *pb.PlaceCount) int {
	switch {
	case a.GetOthers() == b.GetOthers():
		return 0
	case b.GetOthers():
		return -1
	}
	return 1
}

package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Explain says where a row with a shard key would go, and where those are that have no outcome. The scheduler finds the rows that
// this coordinator has, and which workers were sent them. These are asked what their rows wait for; they also know the rows that
// other coordinators sent them, which may be what others of the key wait for.

const (
	// explainsAtOnce bounds the calls that look for rows.
	explainsAtOnce = 4
	// explainMost bounds the rows that one answer tells of.
	explainMost = 1000
	// workersAsked bounds the workers that are asked for one answer. A key has one worker, or two during a hand-over.
	workersAsked = 8
)

// Explain says where a row with this shard key would go now, and why, and where the key's rows are.
func (a *admin) Explain(ctx context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	out, err := a.explain(ctx, in)
	if err != nil {
		return nil, wire.Status(err)
	}
	return out, nil
}

func (a *admin) explain(ctx context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	r, err := a.Board.Load().Active(in.GetFlow())
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
	if e.out.Looked = in.GetRows(); e.out.GetLooked() {
		e.ask(ctx)
		if err := e.tell(ctx); err != nil {
			return nil, err
		}
		if others := len(a.Fleet.Coordinators()) - 1; others > 0 {
			e.unknown("%d other coordinators may have rows of the key that are on their way to a worker: ask each of them with --server", others)
		}
	}
	return e.out, nil
}

// explanation gathers where the rows of a key are. Its call's goroutine owns it.
type explanation struct {
	rows   Rows
	most   int
	now    time.Time
	search *scheduler.Search
	said   map[string]*pb.Located // by worker
	out    *pb.ExplainResponse
}

func (e *explanation) unknown(format string, args ...any) {
	e.out.Unknown = append(e.out.Unknown, fmt.Sprintf(format, args...))
}

// ask asks the workers that have rows of the key, or would get them, where their rows are.
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
	e.said = answers
	e.out.Unknown = append(e.out.Unknown, silent...)
}

// workerRow is a row that a worker has told of, as far as it is this coordinator's.
type workerRow struct {
	worker string
	part   uint64
	row    uint32
}

// tell puts together what the scheduler found and what workers said.
func (e *explanation) tell(ctx context.Context) error {
	known := map[workerRow]scheduler.Found{}
	open := make([]bool, len(e.search.Rows))
	if !e.rows.Inspect(ctx, func(s *scheduler.Scheduler) { // what was answered meanwhile is no more
		for id, said := range e.said {
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
	for _, id := range slices.Sorted(maps.Keys(e.said)) {
		e.tellWorker(id, known)
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
		e.add(e.place(f))
	}
	e.count()
	e.out.GivenUp = uint64(e.search.GivenUp)
	if e.search.Unsettled {
		e.unknown("rows of the flow were going from worker to worker all the time: those on their way were not looked at; ask again")
	}
	return nil
}

// tellWorker tells of the rows that a worker says it has.
func (e *explanation) tellWorker(id string, known map[workerRow]scheduler.Found) {
	for _, r := range e.said[id].GetRows() {
		if r.GetPart() > 0 {
			f, ok := known[workerRow{id, r.GetPart(), r.GetPartRow()}]
			if !ok {
				continue // it has been answered
			}
			r.GivenUp = givenUp(&f)
		}
		r.Part, r.PartRow = 0, 0
		e.add(r)
	}
}

func (e *explanation) add(r *pb.RowPlace) {
	if len(e.out.GetRows()) < e.most {
		e.out.Rows = append(e.out.Rows, r)
	}
}

// givenUp says why nobody waits for a row any more; empty: somebody does.
func givenUp(f *scheduler.Found) string {
	switch {
	case !f.GivenUp:
		return ""
	case f.Cancelled:
		return "cancelled"
	}
	return "over"
}

// places are what the places of the scheduler are called.
var places = map[scheduler.Where]string{
	scheduler.AtWorker: "at_worker", scheduler.SetAside: "set_aside", scheduler.Queued: "queued", scheduler.HeldBack: "held_back",
	scheduler.NoWorker: "no_worker",
}

// place is where the scheduler has a row that no worker told of.
func (e *explanation) place(f *scheduler.Found) *pb.RowPlace {
	r := &pb.RowPlace{
		Where: places[f.Where], Worker: f.Worker, From: f.From, Batch: wire.FromID(e.rows.BatchID(f.Batch)), Row: f.Row, GivenUp: givenUp(f),
		ForMilliseconds: wire.Milliseconds(e.now.Sub(f.Since)),
	}
	if f.Where == scheduler.AtWorker && e.saysAll(f.Worker) {
		r.Where = "travelling"
	}
	return r
}

// saysAll reports whether a worker has told of each row that it has.
func (e *explanation) saysAll(worker string) bool {
	said := e.said[worker]
	return said != nil && len(said.GetRows()) < e.most
}

// count counts all rows by where they are. Of a worker that says so, what it does not have is on its way there or back.
func (e *explanation) count() {
	add := func(where, worker string, rows uint64, others bool) {
		if rows > 0 {
			e.out.Counts = append(e.out.Counts, &pb.PlaceCount{Where: where, Worker: worker, Rows: rows, Others: others})
		}
	}
	for at, n := range e.search.Counts {
		said := e.said[at.Worker]
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
	for id, said := range e.said {
		for _, c := range said.GetCounts() {
			add(c.GetWhere(), id, c.GetRows(), c.GetOthers())
		}
	}
	slices.SortFunc(e.out.GetCounts(), func(a, b *pb.PlaceCount) int {
		return cmp.Or(cmp.Compare(a.GetWorker(), b.GetWorker()), cmp.Compare(a.GetWhere(), b.GetWhere()), compareOthers(a, b))
	})
}

// compareOthers puts the rows of other coordinators last.
func compareOthers(a, b *pb.PlaceCount) int {
	switch {
	case a.GetOthers() == b.GetOthers():
		return 0
	case b.GetOthers():
		return -1
	}
	return 1
}

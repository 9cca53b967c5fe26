package coordinator

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// redriving is a coordinator with a store and one worker, whose redrives a test watches from inside.
type redriving struct {
	*rig
	t     *testing.T
	admin pb.AdminServer
	store *deadletter.Store
	s     *workerSession
}

// newRedriving keeps letters of flow S with these rows, a shard key each.
func newRedriving(t *testing.T, budget int64, rows ...string) *redriving {
	t.Helper()
	store, err := deadletter.Open(deadletter.Config{URL: "redis://" + miniredis.RunT(t).Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := newRig(t, func(c *Config) { c.DeadLetters, c.Budget = store, budget })
	_, s := r.join("w")
	revision := r.sharded()
	r.owns("S", 1)
	var letters []*deadletter.Letter
	for i, row := range rows {
		letters = append(letters, &deadletter.Letter{
			ID: batch.NewStreamID(), Sequence: 1, Flow: "S", Revision: revision, Function: "echo", Code: batch.CodeFunctionError, Reason: "it was bad",
			Row: []byte(row), Origin: batch.RowID{Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}}, ShardKey: "id", Key: uint64(i),
		})
	}
	if _, err := store.Keep(t.Context(), "S", letters); err != nil {
		t.Fatal(err)
	}
	c := r.c
	return &redriving{rig: r, t: t, store: store, s: s, admin: admin.New(admin.Config{
		ID: c.id, Auditor: c.auditor, Letters: store, Board: c.board, Fleet: c.fleet, Rows: c.loop, Budget: c.ingest.budget, Limits: c.config.Limits, Draining: c.draining,
		Runner: &letterRunner{loop: c.loop, board: c.board, letters: c.letters, budget: c.ingest.budget, limits: c.config.Limits},
	})}
}

// events is the server's side of a call whose answers a test takes one by one.
type events[E any] struct {
	grpc.ServerStream
	ctx  context.Context
	take func(*E) error
}

func (e events[E]) Context() context.Context { return e.ctx }
func (e events[E]) Send(m *E) error          { return e.take(m) }

// byAnybody returns the context that a call has where there is no access file, so that its caller may do everything.
func (r *redriving) byAnybody() (called context.Context) {
	r.t.Helper()
	info := &grpc.UnaryServerInfo{FullMethod: pb.Admin_RedriveDead_FullMethodName}
	_, err := access.Intercept(nil, accessRules).Unary(r.t.Context(), &pb.RedriveDeadRequest{}, info, func(ctx context.Context, _ any) (any, error) {
		called = ctx
		return nil, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return called
}

// run redrives all letters, has the worker answer each as answer says, and returns the last progress.
func (r *redriving) run(parts int, answer func(*pb.Part), results func(*pb.Columns) error) (*pb.DeadProgress, error) {
	r.t.Helper()
	var last *pb.DeadProgress
	ended := make(chan error, 1)
	progress := func(p *pb.DeadProgress) error { last = p; return nil }
	filter, ctx := &pb.DeadFilter{Flow: "S"}, r.byAnybody()
	go func() {
		if results == nil {
			ended <- r.admin.RedriveDead(&pb.RedriveDeadRequest{Filter: filter}, events[pb.DeadProgress]{ctx: ctx, take: progress})
			return
		}
		ended <- r.admin.RedriveDeadWithResults(&pb.RedriveDeadWithResultsRequest{Filter: filter}, events[pb.RedriveEvent]{ctx: ctx, take: func(e *pb.RedriveEvent) error {
			if c := e.GetResults(); c != nil {
				return results(c)
			}
			return progress(e.GetProgress())
		}})
	}()
	for range parts {
		answer(r.s.part())
	}
	err := <-ended
	return last, err
}

func (r *redriving) letters() int {
	r.t.Helper()
	left, _, err := r.store.Page(r.t.Context(), "S", "", "+", 100)
	if err != nil {
		r.t.Fatal(err)
	}
	return len(left)
}

// passOn answers a part of one row, for which the flow passes on these rows.
func (r *redriving) passOn(p *pb.Part, rows ...string) {
	var c batch.Columns
	for _, row := range rows {
		c.Append([]byte(row))
	}
	r.s.result(&pb.Result{Part: p.GetNumber(), Last: true, Output: wire.FromOutput(batch.Output{Rows: c, Origins: make([]uint32, len(rows))})})
}

// TestResultsBeforeLettersGo tells what a flow passes on while the letter is there still: a redrive that breaks there leaves it.
func TestResultsBeforeLettersGo(t *testing.T) {
	t.Parallel()
	r := newRedriving(t, 0, `{"id":1}`, `{"id":2}`)
	echo := func(p *pb.Part) {
		if !p.GetOutput() {
			t.Error("the worker is not asked for output")
		}
		row := string(p.GetColumns().GetData())
		r.passOn(p, row, row)
	}
	broken := batch.Errorf(batch.CodeUnavailable, "nobody reads")
	if _, err := r.run(2, echo, func(*pb.Columns) error { return broken }); batch.CodeOf(wire.FromStatus(err)) != broken.Code || r.letters() != 2 {
		t.Fatalf("the redrive ended with %v, and %d letters are left", err, r.letters())
	}
	var got []string
	told, err := r.run(2, echo, func(c *pb.Columns) error {
		if r.letters() == 0 {
			t.Error("each letter is gone before the results of the last one are told")
		}
		for rows, i := wire.ToColumns(c), 0; i < rows.Len(); i++ {
			got = append(got, string(rows.Row(i)))
		}
		return nil
	})
	all := strings.Join(got, " ")
	if err != nil || told.GetDone() != 2 || r.letters() != 0 || len(got) != 4 || strings.Count(all, `{"id":1} {"id":1}`) != 1 || strings.Count(all, `{"id":2} {"id":2}`) != 1 {
		t.Errorf("the redrive ended with %v, told %v and %q, and %d letters are left", err, told, got, r.letters())
	}
}

// TestResultsWithoutRoom lets go of results that the coordinator has no memory for. Their letters stay, and can be run again.
func TestResultsWithoutRoom(t *testing.T) {
	t.Parallel()
	const budget = 10 << 20
	r := newRedriving(t, budget, `{"id":1}`)
	large := strings.Repeat("x", 1<<20)
	told, err := r.run(1, func(p *pb.Part) { r.passOn(p, large, large, large, large) }, func(*pb.Columns) error {
		t.Error("results that there is no room for are told")
		return nil
	})
	if err != nil || told.GetLeft() != 1 || told.GetDone() != 0 || len(told.GetReasons()) != 1 || told.GetReasons()[0].GetCode() != pb.Code_CODE_BATCH_TOO_LARGE || r.letters() != 1 {
		t.Fatalf("the redrive ended with %v, told %v, and %d letters are left", err, told, r.letters())
	}
	pieces := 0
	told, err = r.run(1, func(p *pb.Part) { r.passOn(p, "1", "2") }, func(*pb.Columns) error { pieces++; return nil })
	if err != nil || told.GetDone() != 1 || pieces != 1 || r.letters() != 0 {
		t.Errorf("the redrive ended with %v, told %v in %d pieces, and %d letters are left", err, told, pieces, r.letters())
	}
	// Nobody who does not ask for results waits for room for them.
	r = newRedriving(t, budget, `{"id":1}`)
	if told, err = r.run(1, func(p *pb.Part) { r.passOn(p, large, large, large, large) }, nil); err != nil || told.GetDone() != 1 || r.letters() != 0 {
		t.Errorf("the redrive ended with %v, told %v, and %d letters are left", err, told, r.letters())
	}
}

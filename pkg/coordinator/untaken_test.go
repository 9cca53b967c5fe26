package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestUntakenAnswers lets a flow pass on far more than it takes, to a client that sends and reads nothing: what the coordinator
// holds for it is bounded by its budget, then the stream ends and says why. Another stream goes on, and the client may submit
// the batch again.
func TestUntakenAnswers(t *testing.T) {
	const budget, output, most = 4 << 20, 256 << 10, 1000
	r := newRig(t, func(c *Config) {
		c.Limits, c.Budget = batch.Limits{BatchRows: most, BatchBytes: 1 << 20, RowBytes: 1 << 20}, budget
	})
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	greedy, modest := r.open("S"), r.open("S")
	greedy.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	p := s.part()
	least := r.c.ingest.budget.remaining()
	open := func() int {
		streams, _ := r.c.ingest.windows()
		return streams
	}
	row := uint32(0)
	for ; row < most && open() == 2; row++ {
		s.result(&pb.Result{
			Part: p.GetNumber(), Finished: []*pb.Range{{First: row, Count: 1}}, Last: row == most-1,
			Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, output), Ends: []uint32{output}}, Origins: []uint32{row}},
		})
		least = min(least, r.c.ingest.budget.remaining())
	}
	until(t, "the stream of the client that reads nothing has ended", func() bool { return open() == 1 })
	t.Logf("ended after %d outputs of %d bytes; the budget of %d was down to %d", row, output, budget, least)
	if least < -2*output {
		t.Errorf("the budget was overdrawn by %d bytes, by outputs of %d", -least, output)
	}
	until(t, "the budget is back", func() bool { return r.c.ingest.budget.remaining() == budget-firstWindowBytes })
	wantCode(t, fromStatus(greedy.ends()), batch.CodeOverloaded, "too slowly")

	modest.submit(&pb.Submission{Sequence: 1, Rows: rows(1), Output: true})
	s.echo(s.part())
	if a := modest.answer(); len(a.GetOutput().GetOrigins()) != 1 {
		t.Errorf("another stream is answered %v", a)
	}
	again := r.openUnanswered(greedy.id, "S")
	again.submit(&pb.Submission{Sequence: 1, Rows: sequence(most)})
	s.done(s.part())
	for !again.answer().GetLast() {
	}
}

// TestUntakenCounts holds answers of two clients: only one that holds more than its allowance ends, once the budget is used up,
// and gives back all that it held.
func TestUntakenCounts(t *testing.T) {
	t.Parallel()
	b := newBudget(1000)
	ended := map[string]error{}
	holder := func(name string) *heldAnswers {
		return &heldAnswers{budget: b, allowance: 300, end: func(err error) { ended[name] = err }}
	}
	a, c := holder("a"), holder("c")
	a.hold(700, false)
	c.hold(300, false)
	a.take(100)
	c.hold(100, false)
	if len(ended) > 0 || b.remaining() != 0 {
		t.Fatalf("ended %v with %d left", ended, b.remaining())
	}
	if !c.allow(400) {
		t.Error("it holds all that is allowed, and does not say so")
	}
	c.take(400)
	c.hold(300, false)
	a.take(500)
	c.hold(800, false)
	if b.remaining() != 900 || len(ended) != 1 {
		t.Fatalf("ended %v with %d left, want c only and 900", ended, b.remaining())
	}
	wantCode(t, ended["c"], batch.CodeOverloaded, "submit the same batches again")
	c.take(100)
	c.hold(10_000, false)
	c.close()
	a.close()
	if b.remaining() != 1000 {
		t.Errorf("at the end %d are left", b.remaining())
	}
}

// deaf is a client that takes nothing.
type deaf struct {
	pb.Ingest_StreamServer
	ctx context.Context
}

func (d deaf) SendMsg(any) error {
	<-d.ctx.Done()
	return d.ctx.Err()
}

// TestOverdrawnClientThatTakesNothing: its stream ends when others wait for what it has overdrawn, and not before.
func TestOverdrawnClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBudget(2 * firstWindowBytes)
		first, second := openWindow(b), openWindow(b)
		large := size{1, 2 * firstWindowBytes}
		if err := first.spend(ctx, large); err != nil {
			t.Fatal(err)
		}
		s := &stream{ingest: &ingest{budget: b, coordinators: func() map[string]cluster.Coordinator { return nil }}, server: deaf{ctx: ctx}, window: first}
		sent, ended := make(chan error, 1), make(chan error, 1)
		go func() { sent <- s.write(nil) }()
		go func() { ended <- s.await(ctx, sent) }()
		time.Sleep(time.Hour)
		if len(ended) > 0 {
			t.Fatal("a slow client is ended although nobody waits for it")
		}
		admitted := make(chan error, 1)
		go func() { admitted <- second.spend(ctx, large) }()
		synctest.Wait()
		waits := time.Now()
		wantCode(t, <-ended, batch.CodeOverloaded, "too slowly")
		if took := time.Since(waits); took > 2*takePatience {
			t.Errorf("it took %s", took)
		}
		first.close() // as the end of the call does
		if err := <-admitted; err != nil {
			t.Errorf("who waited: %v", err)
		}
		second.close()
		if b.remaining() != b.size || b.overdrawn != 0 || b.waiting != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn, %d waiting", b.remaining(), b.size, b.overdrawn, b.waiting)
		}
	})
}

// floods answers a part row by row, each row's output of so many bytes, and dead rows for those that are odd.
func (s *workerSession) floods(p *pb.Part, bytes int) {
	n := uint32(len(p.GetColumns().GetEnds()))
	for row := range n {
		r := &pb.Result{Part: p.GetNumber(), Finished: []*pb.Range{{First: row, Count: 1}}, Last: row == n-1}
		if row%2 == 1 {
			r.NotDone = []*pb.RowOutcome{{Row: row, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_ERROR, Reason: "odd"}}
		}
		r.Output = &pb.Output{Rows: &pb.Columns{Data: make([]byte, bytes), Ends: []uint32{uint32(bytes)}}, Origins: []uint32{row}}
		s.result(r)
	}
}

// TestCallOverBudgetEndsOnce lets calls pass on more than an answer holds, than their caller takes, and than the coordinator's whole
// budget, alone and while others have used that up. Each runs once, and is answered with each row's outcome.
func TestCallOverBudgetEndsOnce(t *testing.T) {
	t.Parallel()
	const budget, most, output = 4 << 20, 64, 256 << 10
	r := newRig(t, func(c *Config) {
		c.Limits, c.Budget = batch.Limits{BatchRows: 1000, BatchBytes: 1 << 20, RowBytes: 1 << 20}, budget
	})
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	check := func(what string, a *pb.Answer) {
		t.Helper()
		if len(a.GetNotDone()) != most/2 || !a.GetLast() || a.GetRefused() != nil {
			t.Errorf("%s: answered with %d outcomes, the last %v, last %t, refused %v", what, len(a.GetNotDone()), a.GetNotDone()[len(a.GetNotDone())-1], a.GetLast(), a.GetRefused())
		}
		if a.GetOutput() != nil || a.GetOutputOmitted().GetCode() != pb.Code_CODE_BATCH_TOO_LARGE {
			t.Errorf("%s: output of %d rows, omitted %v", what, len(a.GetOutput().GetOrigins()), a.GetOutputOmitted())
		}
		quiet(t, what+": its rows run again", s.parts)
		until(t, what+": the budget is back", func() bool { return r.c.ingest.budget.remaining() == budget })
	}

	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	s.floods(s.part(), output) // four times the budget
	check("more than the budget", r.answered(call))

	// What does not fit into the answer is not held, so that it counts for nothing.
	b := r.c.ingest.budget
	call = r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: sequence(most + 1), Output: true})
	p := s.part()
	for row := range uint32(most) {
		s.result(&pb.Result{
			Part: p.GetNumber(), Finished: []*pb.Range{{First: row, Count: 1}},
			Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, output), Ends: []uint32{output}}, Origins: []uint32{row}},
		})
	}
	until(t, "what is left out is given back", func() bool { return b.remaining() > budget-output })
	s.result(&pb.Result{Part: p.GetNumber(), Last: true})
	if a := r.answered(call); len(a.GetNotDone()) != 0 || a.GetOutput() != nil || a.GetOutputOmitted() == nil {
		t.Errorf("a call of which one row is late is answered with %d outcomes, omitted %v", len(a.GetNotDone()), a.GetOutputOmitted())
	}

	// Others have used the budget up, and hold no more than they may.
	call = r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	p = s.part()
	others := b.remaining() - 1<<10
	if !b.reserve(others) {
		t.Fatal("the budget is not there")
	}
	s.floods(p, 8<<10) // would fit into an answer
	a := r.answered(call)
	b.release(others, false)
	check("others have used the budget up", a)
}

// TestStreamOverBudgetEndsOnce lets one batch of a stream pass on more than the coordinator's whole budget, to a client that takes
// nothing meanwhile. Ended and sent again it would come to the same: so its output goes, and its outcomes are told. A client of a
// build that would not understand that is ended.
func TestStreamOverBudgetEndsOnce(t *testing.T) {
	t.Parallel()
	const budget, most = 4 << 20, 128
	r := newRig(t, func(c *Config) {
		c.Limits, c.Budget = batch.Limits{BatchRows: 1000, BatchBytes: 1 << 20, RowBytes: 1 << 20}, budget
	})
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	id := batch.NewStreamID()
	c, err := r.tryOpenWith(&pb.Open{Flow: "S", Stream: id[:], TakesBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	s.floods(s.part(), 192<<10) // six times the budget, and more than the connection holds
	notDone, output, omitted := 0, 0, (*pb.Error)(nil)
	for last := false; !last; {
		a := c.answer()
		notDone, output, last = notDone+len(a.GetNotDone()), output+len(a.GetOutput().GetRows().GetData()), a.GetLast()
		omitted = a.GetOutputOmitted()
	}
	if notDone != most/2 || omitted.GetCode() != pb.Code_CODE_BATCH_TOO_LARGE {
		t.Errorf("answered with %d outcomes and %d bytes of output, omitted %v", notDone, output, omitted)
	}
	quiet(t, "its rows run again", s.parts)
	until(t, "the budget is back", func() bool { return r.c.ingest.budget.remaining() == budget-firstWindowBytes })
	c.submit(&pb.Submission{Sequence: 2, Rows: rows(1), Output: true})
	s.echo(s.part())
	if a := c.answer(); len(a.GetOutput().GetOrigins()) != 1 || a.GetOutputOmitted() != nil {
		t.Errorf("the next batch is answered %v", a)
	}
}

// TestWorkerIsToldWhatIsUntaken has a worker that waits for clients hear what they have not taken: in each session anew, and nothing any
// more once it is taken, or nobody wants it. What only a call or a redrive gathers counts for nothing. However much that is, no output
// is left out; a client that takes nothing is ended while others wait for the worker.
func TestWorkerIsToldWhatIsUntaken(t *testing.T) {
	t.Parallel()
	const budget, most, output, much = 64 << 20, 192, 192 << 10, 13 << 20 // a connection holds 16 MiB at the most
	r := newRig(t, func(c *Config) {
		c.Limits, c.Budget = batch.Limits{BatchRows: 1000, BatchBytes: 1 << 20, RowBytes: 1 << 20}, budget
	})
	w := r.newWorker("w", "echo")
	w.waits = "S"
	w.register()
	s := w.session().welcome(false, 0)
	if limit := s.hello.GetUntakenLimit(); limit != budget/2 {
		t.Errorf("the worker is told a limit of %d, want %d", limit, budget/2)
	}
	r.sharded()
	r.owns("S", 1)
	untaken := func(what string, is func(uint64) bool) {
		t.Helper()
		until(t, what, func() bool { return is(s.untakenOf("S")) })
	}
	none, some := func(n uint64) bool { return n == 0 }, func(n uint64) bool { return n > much }
	open := func() *clientStream {
		t.Helper()
		id := batch.NewStreamID()
		c, err := r.tryOpenWith(&pb.Open{Flow: "S", Stream: id[:], TakesBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	c := open()
	c.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	p := s.part()
	s.floods(p, output)
	untaken("it waits for its client", some)
	number := s.number
	s.breaks(errBroken)
	s = w.session()
	untaken("Hello tells what is untaken", some)
	s.welcome(true, p.GetNumber())
	s.number = number
	bytes, omitted := 0, (*pb.Error)(nil)
	for last := false; !last; {
		a := c.answer()
		bytes, omitted, last = bytes+len(a.GetOutput().GetRows().GetData()), a.GetOutputOmitted(), a.GetLast()
	}
	if bytes != most*output || omitted != nil {
		t.Errorf("%d bytes came of %d, omitted %v", bytes, most*output, omitted)
	}
	untaken("the client has taken all", none)
	c.cancel()

	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: sequence(8), Output: true})
	p = s.part()
	for row := range uint32(7) { // the call has to wait for the eighth
		s.result(&pb.Result{
			Part: p.GetNumber(), Finished: []*pb.Range{{First: row, Count: 1}},
			Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, 512<<10), Ends: []uint32{512 << 10}}, Origins: []uint32{row}},
		})
	}
	untaken("a call's output is nobody's to take", none)
	s.done(p)
	r.answered(call)

	c = open()
	c.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	s.floods(s.part(), output)
	untaken("it waits for a client that leaves", some)
	c.cancel()
	untaken("the client is gone", none)

	c = open()
	c.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	p = s.part()
	c.cancel()
	until(t, "the stream has ended", func() bool {
		r.c.ingest.mu.Lock()
		defer r.c.ingest.mu.Unlock()
		return len(r.c.ingest.streams) == 0
	})
	s.floods(p, output)
	untaken("nobody wants what comes of a batch that was given up", none)

	c = open()
	c.submit(&pb.Submission{Sequence: 1, Rows: sequence(most), Output: true})
	s.floods(s.part(), output)
	untaken("it waits for a client that takes nothing", some)
	call = r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1), Output: true})
	p = s.part()
	untaken("the client was ended, as a call waits", none)
	s.echo(p)
	if a := r.answered(call); len(a.GetOutput().GetOrigins()) != 1 {
		t.Errorf("the call is answered %v", a)
	}
	wantCode(t, fromStatus(c.ends()), batch.CodeOverloaded, "too slowly")
}

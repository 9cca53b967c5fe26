package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
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
	holder := func(name string) *untaken {
		return &untaken{budget: b, allowance: 300, end: func(err error) { ended[name] = err }}
	}
	a, c := holder("a"), holder("c")
	a.hold(700)
	c.hold(300)
	a.take(100)
	c.hold(100)
	if len(ended) > 0 || b.remaining() != 0 {
		t.Fatalf("ended %v with %d left", ended, b.remaining())
	}
	if !c.allow(400) {
		t.Error("it holds all that is allowed, and does not say so")
	}
	c.take(400)
	c.hold(300)
	a.take(500)
	c.hold(800)
	if b.remaining() != 900 || len(ended) != 1 {
		t.Fatalf("ended %v with %d left, want c only and 900", ended, b.remaining())
	}
	wantCode(t, ended["c"], batch.CodeOverloaded, "submit the same batches again")
	c.take(100)
	c.hold(10_000)
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
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := newBudget(2 * firstWindowBytes)
		first, second := openWindow(b), openWindow(b)
		large := size{1, 2 * firstWindowBytes}
		if err := first.spend(ctx, large); err != nil {
			t.Fatal(err)
		}
		s := &stream{server: deaf{ctx: ctx}, window: first}
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
		if b.remaining() != b.size || b.over != 0 || b.wait != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn, %d waiting", b.remaining(), b.size, b.over, b.wait)
		}
	})
}

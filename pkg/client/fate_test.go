package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// bench is the set-up for the calls of the table: two clients of one coordinator, and a stream of the second client.
type bench struct {
	t            *testing.T
	k            *coordinator
	first, other *client.Client
	stream       *client.Stream
	remote       *session
	busy         []*call // calls that are never answered
}

func newBench(t *testing.T, n *network) *bench {
	b := &bench{t: t, k: n.start("a:7700")}
	b.first = n.dial("passthrough:///a:7700", client.WithRetryFor(0))
	b.other = n.dial("passthrough:///a:7700", client.WithRetryFor(0))
	b.stream, b.remote = b.k.stream(b.other, 100, 1000)
	return b
}

// past is the history of a batch before the call that the table is about.
type past struct {
	name string
	ran  bool // rows of it may have run
	make func(b *bench) *client.Batch
}

// submitted submits a batch with the first client and has the coordinator do something.
func submitted(does func(c *call)) func(b *bench) *client.Batch {
	return func(b *bench) *client.Batch {
		rows := numbered(2)
		out := submit(b.t.Context(), b.first, "F", rows)
		does(<-b.k.calls)
		<-out
		return rows
	}
}

var pasts = []past{
	{"new", false, func(*bench) *client.Batch { return numbered(2) }},
	{"never left", false, func(b *bench) *client.Batch {
		rows := numbered(2)
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		_, err := b.first.Submit(ctx, "F", rows)
		wantError(b.t, err, batch.CodeCancelled, false)
		return rows
	}},
	{"refused", false, submitted(func(c *call) { c.refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"}) })},
	{"refused for good", false, submitted(func(c *call) { c.fail(wire.Status(batch.Errorf(batch.CodeUnknownFlow, "none"))) })},
	{"unanswered", true, submitted(func(c *call) { c.fail(status.Error(codes.Unavailable, "connection reset")) })},
	{"rows failed", true, submitted(func(c *call) { c.answer(&pb.Answer{NotDone: []*pb.RowOutcome{failedRow}, Last: true}) })},
	{"answered", true, submitted(func(c *call) { c.answer(&pb.Answer{Last: true}) })},
	{"given up", true, func(b *bench) *client.Batch {
		rows := submitted(func(c *call) { c.fail(status.Error(codes.Unavailable, "connection reset")) })(b)
		b.first.GiveUp(rows)
		return rows
	}},
	{"under way", true, func(b *bench) *client.Batch {
		rows := numbered(2)
		ctx, cancel := context.WithCancel(b.t.Context())
		out := submit(ctx, b.first, "F", rows)
		b.busy = append(b.busy, <-b.k.calls)
		b.t.Cleanup(func() { cancel(); <-out })
		return rows
	}},
	{"an id of the program's own", true, func(*bench) *client.Batch {
		rows := numbered(2)
		rows.Use(time.Now(), func() batch.ID { return batch.ID{Stream: batch.NewStreamID(), Sequence: 3} })
		return rows
	}},
}

// attempt is one call that ends in an error without anything of the batch running in it, if it comes so far as to be sent.
type attempt struct {
	name string
	call func(b *bench, rows *client.Batch) error
}

// answering calls Submit, and has the coordinator do something with the call, if it comes.
func answering(by func(b *bench) *client.Client, flow string, does func(c *call)) func(b *bench, rows *client.Batch) error {
	return func(b *bench, rows *client.Batch) error {
		out := submit(b.t.Context(), by(b), flow, rows)
		for {
			select {
			case c := <-b.k.calls:
				does(c)
			case r := <-out:
				return r.err
			}
		}
	}
}

func first(b *bench) *client.Client { return b.first }
func other(b *bench) *client.Client { return b.other }

func refusing(code batch.Code) func(*call) {
	return func(c *call) { c.refuse(&pb.Error{Code: pb.Code(code), Message: "no"}) }
}

// failing has a coordinator refuse a call with a status, before it ran anything.
func failing(code batch.Code) func(*call) {
	return func(c *call) { c.fail(wire.Status(batch.Errorf(code, "no"))) }
}

var attempts = []attempt{
	{"refused for now", answering(first, "F", refusing(batch.CodeShutdown))},
	{"refused for good", answering(first, "F", refusing(batch.CodeBatchTooLarge))},
	{"revision gone", answering(first, "F", failing(batch.CodeRevisionGone))},
	{"overloaded", answering(first, "F", failing(batch.CodeOverloaded))},
	{"mistyped flow", answering(first, "Typo", failing(batch.CodeUnknownFlow))},
	{"flow that can't be sent", answering(first, "F\xff", refusing(batch.CodeInternal))},
	{"another client", answering(other, "F", refusing(batch.CodeFlowDisabled))},
	{"another client, mistyped flow", answering(other, "Typo", failing(batch.CodeUnknownFlow))},
	{"context over", func(b *bench, rows *client.Batch) error {
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		_, err := b.first.Submit(ctx, "F", rows)
		return err
	}},
	{"no context", func(b *bench, rows *client.Batch) error {
		_, err := b.first.Submit(nil, "F", rows) //nolint:staticcheck // that is what is tried
		return err
	}},
	{"no option", func(b *bench, rows *client.Batch) error {
		_, err := b.other.Submit(b.t.Context(), "F", rows, nil)
		return err
	}},
	{"nobody there", func(b *bench, rows *client.Batch) error {
		b.k.network.mu.Lock()
		delete(b.k.network.listeners, "a:7700")
		b.k.network.mu.Unlock()
		lonely := b.k.network.dial("passthrough:///a:7700", client.WithRetryFor(0))
		_, err := lonely.Submit(b.t.Context(), "F", rows)
		return err
	}},
	{"closed client", func(b *bench, rows *client.Batch) error {
		gone := b.k.network.dial("passthrough:///a:7700")
		if err := gone.Close(); err != nil {
			b.t.Error(err)
		}
		_, err := gone.Submit(b.t.Context(), "F", rows)
		return err
	}},
	{"stream", func(b *bench, rows *client.Batch) error {
		p, err := b.stream.Send(b.t.Context(), rows)
		if err != nil {
			return err
		}
		m := b.remote.next()
		b.remote.answer(&pb.Answer{Sequence: m.Sequence, Refused: &pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"}, Last: true})
		_, err = p.Wait(b.t.Context())
		return err
	}},
	{"stream, context over", func(b *bench, rows *client.Batch) error {
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		_, err := b.stream.Send(ctx, rows)
		return err
	}},
	{"stream, no context", func(b *bench, rows *client.Batch) error {
		_, err := b.stream.Send(nil, rows) //nolint:staticcheck // that is what is tried
		return err
	}},
	{"stream, closed", func(b *bench, rows *client.Batch) error {
		_ = b.stream.Close()
		_, err := b.stream.Send(b.t.Context(), rows)
		return err
	}},
}

// TestErrorsTellWhetherTheBatchMayHaveRun: an error matches ErrUnanswered exactly if rows of the batch may have run. That holds
// for every call, client and reason. A text that matches never advises to run the rows in another batch.
func TestErrorsTellWhetherTheBatchMayHaveRun(t *testing.T) {
	for _, p := range pasts {
		for _, a := range attempts {
			t.Run(p.name+"/"+a.name, func(t *testing.T) {
				inNetwork(t, func(t *testing.T, n *network) {
					b := newBench(t, n)
					rows := p.make(b)
					err := a.call(b, rows)
					if err == nil {
						t.Fatal("the call ended without an error")
					}
					if errors.Is(err, client.ErrUnanswered) != p.ran {
						t.Errorf("%v matches ErrUnanswered: %t, and rows may have run: %t", err, !p.ran, p.ran)
					}
					if p.ran && (strings.Contains(err.Error(), "new batch") || strings.Contains(err.Error(), "split it")) {
						t.Errorf("%v advises to run rows again that may have run", err)
					}
					if again := a.call(b, rows); errors.Is(again, client.ErrUnanswered) != p.ran {
						t.Errorf("the second time: %v", again)
					}
				})
			})
		}
	}
}

// TestEndsOfCallsTellWhatRan ends calls with errors of coordinators and of gRPC. The rows may have run, unless the error says that they have not.
func TestEndsOfCallsTellWhatRan(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(0))
		for _, test := range []struct {
			err error
			ran bool
		}{
			{wire.Status(batch.Errorf(batch.CodeOverloaded, "the coordinator's budget of rows under way is used up")), false},
			{wire.Status(batch.Errorf(batch.CodeOverloaded, "the client takes its answers too slowly, and what waits for it has used up the coordinator's budget")), true},
			{status.Error(codes.ResourceExhausted, "4096 calls are under way, which is the server's limit (--max-calls): try again, or another server"), false},
			{status.Error(codes.ResourceExhausted, "grpc: trying to send message larger than max (30 vs. 20)"), true},
			{status.Error(codes.Internal, "grpc: failed to unmarshal the received message: too much"), false},
			{status.Error(codes.Internal, "stream terminated by RST_STREAM"), true},
			{status.Error(codes.Unknown, "a proxy's word"), true},
			{status.Error(codes.ResourceExhausted, "a proxy's limit"), true},
			{wire.Status(batch.Errorf(batch.CodeShutdown, "stopped")), true},
			{wire.Status(batch.Errorf(batch.CodeMissingKeys, "no keys")), false},
			{status.Error(codes.Canceled, "context canceled"), true},
			{unread(t), false},
		} {
			got := submit(t.Context(), c, "F", numbered(1))
			(<-k.calls).fail(test.err)
			if r := <-got; errors.Is(r.err, client.ErrUnanswered) != test.ran {
				t.Errorf("%v matches ErrUnanswered: %t", r.err, !test.ran)
			}
		}
	})
}

// unread is the error of a call that the coordinator ended before its message had come: gRPC's own, with our detail.
func unread(t *testing.T) error {
	s, err := status.New(codes.Canceled, "context canceled").WithDetails(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "nothing was done"})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// TestBatchesThatCannotBeSent: their errors say that no row of them ran, also if only the coordinator finds out that they are wrong.
func TestBatchesThatCannotBeSent(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700") // takes 4 MiB, as gRPC's servers do
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(0))
		s, _ := k.stream(c, 100, 1000)
		packed := func(encoding string) *client.Batch {
			return client.Pack(client.Columns{Data: []byte("1"), Ends: []uint32{1}, Encoding: encoding})
		}
		for _, test := range []struct {
			name string
			flow string
			make func() *client.Batch
			code batch.Code
		}{
			{"9 MiB", "F", func() *client.Batch { return client.Rows(strings.Repeat("x", 9<<20)) }, batch.CodeBatchTooLarge},
			{"1 M rows", "F", func() *client.Batch { return client.Rows(make([]int, 1<<20)...) }, batch.CodeBatchTooLarge},
			{"a flow that is no UTF-8", "F\xff", func() *client.Batch { return numbered(1) }, batch.CodeUnknownFlow},
			{"a flow with a long name", strings.Repeat("F", 5000), func() *client.Batch { return numbered(1) }, batch.CodeUnknownFlow},
			{"an encoding that is no UTF-8", "F", func() *client.Batch { return packed("js\xffon") }, batch.CodeBadColumns},
			{"an encoding with a long name", "F", func() *client.Batch { return packed(strings.Repeat("j", 65)) }, batch.CodeBadColumns},
			{"no rows", "F", func() *client.Batch { return client.Rows[int]() }, batch.CodeEmptyBatch},
			{"rows that end nowhere", "F", func() *client.Batch { return client.Pack(client.Columns{Data: []byte("1"), Ends: []uint32{2}}) }, batch.CodeBadColumns},
			{"rows without JSON", "F", func() *client.Batch { return client.Rows(make(chan int)) }, batch.CodeRowUnencodable},
			{"nil", "F", func() *client.Batch { return nil }, batch.CodeEmptyBatch},
		} {
			b := test.make()
			_, err := c.Submit(t.Context(), test.flow, b)
			wantError(t, err, test.code, false)
			if b != nil && len(b.ID().Stream) > 0 && test.code != batch.CodeBatchTooLarge && !b.ID().IsZero() {
				t.Errorf("%s: the batch got an id", test.name)
			}
			if test.flow != "F" {
				_, err := c.Stream(t.Context(), test.flow)
				wantError(t, err, test.code, false)
				continue
			}
			_, err = s.Send(t.Context(), b)
			if batch.CodeOf(err) != test.code && batch.CodeOf(err) != batch.CodeTooManyRows || errors.Is(err, client.ErrUnanswered) {
				t.Errorf("%s, on a stream: %v", test.name, err)
			}
		}
	})
}

// TestOneMistypedFlow: a flow that another client got wrong concerns that one call.
func TestOneMistypedFlow(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c, other := n.dial("passthrough:///a:7700"), n.dial("passthrough:///a:7700")
		s, remote := k.stream(c, 100, 1000)
		var left []*client.Batch
		for range 3 {
			p := send(t, s, numbered(1))
			remote.answer(&pb.Answer{Sequence: remote.next().Sequence, NotDone: []*pb.RowOutcome{failedRow}, Last: true})
			wait(t, p)
			left = append(left, p.Batch())
		}
		_, err := other.Submit(t.Context(), "Typo", left[0])
		wantError(t, err, batch.CodeBadBatchID, true)
		if !strings.Contains(err.Error(), `"F"`) || !strings.Contains(err.Error(), `"Typo"`) {
			t.Errorf("error %q does not name both flows", err)
		}
		for _, b := range left {
			exchange(t, other, k, b)
		}

		// Nor does a flow that nobody knows bind a batch, which the first client that sends it gets wrong.
		own := numbered(1)
		own.Use(time.Now(), func() batch.ID { return batch.ID{Stream: batch.NewStreamID(), Sequence: 1} })
		out := submit(t.Context(), other, "Typo", own)
		(<-k.calls).fail(wire.Status(batch.Errorf(batch.CodeUnknownFlow, "no such flow")))
		wantError(t, (<-out).err, batch.CodeUnknownFlow, true)
		exchange(t, other, k, own)
	})
}

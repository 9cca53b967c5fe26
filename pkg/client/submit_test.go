package client_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

type avg struct {
	ID  int     `json:"stu_id"`
	Avg float64 `json:"avg_score"`
}

// outcome is the result and error of a Submit that runs in a goroutine of its own.
type outcome struct {
	result *client.Result
	err    error
}

func submit(ctx context.Context, c *client.Client, flow string, b *client.Batch, opts ...client.SubmitOption) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		r, err := c.Submit(ctx, flow, b, opts...)
		out <- outcome{r, err}
	}()
	return out
}

func TestSubmitTellsHowEachRowEnded(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		b := client.Rows(avg{1, 10}, avg{2, 20}, avg{3, 30})
		got := submit(t.Context(), c, "F", b)
		call := <-k.calls

		m := call.Submission
		if call.Flow != "F" || len(call.Stream) != 16 || m.Sequence != 1 || m.Floor != 1 || m.Revision != 0 || !m.Output || m.ReportOnly || m.DeadlineMilliseconds != 0 {
			t.Errorf("request is %v", call.SubmitRequest)
		}
		if want := `{"stu_id":1,"avg_score":10}{"stu_id":2,"avg_score":20}{"stu_id":3,"avg_score":30}`; string(m.Rows.Data) != want {
			t.Errorf("rows are %s, want %s", m.Rows.Data, want)
		}
		call.answer(&pb.Answer{
			Sequence: 1, Revision: 42, Last: true,
			NotDone: []*pb.RowOutcome{
				{Row: 2, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_PANIC, Function: "G", Reason: "it panicked", Attempts: 3, Kept: true},
				{Row: 0, Outcome: pb.Outcome_OUTCOME_FILTERED, Code: pb.Code_CODE_DROPPED, Function: "V", Reason: "too small", Attempts: 1},
			},
			Output: &pb.Output{Rows: &pb.Columns{Data: []byte(`{"stu_id":2,"avg_score":21}`), Ends: []uint32{27}}, Origins: []uint32{1}},
		})

		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		want := []client.RowOutcome{
			{Row: 0, Outcome: client.Filtered, Code: batch.CodeDropped, Function: "V", Reason: "too small", Attempts: 1},
			{Row: 2, Outcome: client.Dead, Code: batch.CodeFunctionPanic, Function: "G", Reason: "it panicked", Attempts: 3, Kept: true},
		}
		if !slices.Equal(r.result.NotDone, want) {
			t.Errorf("not done: %+v, want %+v", r.result.NotDone, want)
		}
		stream := b.ID().Stream
		if r.result.Rows != 3 || r.result.Revision != 42 || r.result.BatchID != b.ID() || string(call.Stream) != string(stream[:]) || b.Revision() != 42 {
			t.Errorf("result is %+v of batch %s on revision %d", r.result, b.ID(), b.Revision())
		}
		out, err := client.Output[avg](r.result)
		if err != nil || !slices.Equal(out, []avg{{2, 21}}) {
			t.Errorf("output is %v, %v", out, err)
		}
	})
}

func TestSubmitOptionsTravel(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		for _, test := range []struct {
			name     string
			within   time.Duration // of the context; 0: none
			opts     []client.SubmitOption
			output   bool
			report   bool
			deadline uint64
		}{
			{name: "none", output: true},
			{name: "no output", opts: []client.SubmitOption{client.NoOutput()}},
			{name: "report only", opts: []client.SubmitOption{client.ReportOnly()}, output: true, report: true},
			{name: "timeout", opts: []client.SubmitOption{client.Timeout(1500 * time.Millisecond)}, output: true, deadline: 1500},
			{name: "context", within: 2 * time.Second, output: true, deadline: 2000},
			{name: "timeout is earlier", within: 2 * time.Second, opts: []client.SubmitOption{client.Timeout(time.Second)}, output: true, deadline: 1000},
			{name: "context is earlier", within: time.Second, opts: []client.SubmitOption{client.Timeout(2 * time.Second)}, output: true, deadline: 1000},
		} {
			ctx, cancel := t.Context(), func() {}
			if test.within > 0 {
				ctx, cancel = context.WithTimeout(ctx, test.within)
			}
			got := submit(ctx, c, "F", numbered(1), test.opts...)
			call := <-k.calls
			if m := call.Submission; m.Output != test.output || m.ReportOnly != test.report || m.DeadlineMilliseconds != test.deadline {
				t.Errorf("%s: submission is %v", test.name, m)
			}
			call.answer(&pb.Answer{Last: true})
			if r := <-got; r.err != nil {
				t.Errorf("%s: %v", test.name, r.err)
			}
			cancel()
		}
	})
}

func TestSubmitWaitsAsLongAsItIsTold(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		b := numbered(2)
		got := submit(t.Context(), c, "F", b)
		first := <-k.calls
		first.fail(wire.Status(&batch.Error{Code: batch.CodeOverloaded, Message: "full", RetryAfter: 3 * time.Second}))
		second := <-k.calls
		if waited := second.at.Sub(first.at); waited != 3*time.Second {
			t.Errorf("tried again after %s, want the 3 s that it was told", waited)
		}
		second.refuse(&pb.Error{Code: pb.Code_CODE_NO_CAPABLE_WORKER, Message: "none yet", RetryAfterMilliseconds: 500})
		third := <-k.calls
		if waited := third.at.Sub(second.at); waited != 500*time.Millisecond {
			t.Errorf("tried again after %s, want the 500 ms that it was told", waited)
		}
		if m := third.Submission; m.Sequence != 1 || !bytes.Equal(third.Stream, first.Stream) || m.AgeMilliseconds != 3500 || m.Floor != 1 {
			t.Errorf("third try is %v, want the first's id and an age of 3.5 s", m)
		}
		third.answer(&pb.Answer{Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
	})
}

// TestSubmitErrors checks for each error whether it leaves open that rows of the batch ran.
func TestSubmitErrors(t *testing.T) {
	for _, test := range []struct {
		name       string
		reply      func(c *call)
		code       batch.Code
		unanswered bool
		calls      string // one or more than one
	}{
		{"refused for good", func(c *call) { c.fail(wire.Status(batch.Errorf(batch.CodeUnknownFlow, "no such flow"))) }, batch.CodeUnknownFlow, false, "one"},
		{"refused in the answer", func(c *call) { c.refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"}) }, batch.CodeFlowDisabled, false, "one"},
		{"refused for now, always", func(c *call) { c.refuse(&pb.Error{Code: pb.Code_CODE_SHUTDOWN, Message: "bye"}) }, batch.CodeShutdown, false, "more"},
		{"overloaded, always", func(c *call) { c.fail(wire.Status(batch.Errorf(batch.CodeOverloaded, "full"))) }, batch.CodeOverloaded, false, "more"},
		{"another service", func(c *call) { c.fail(status.Error(codes.Unimplemented, "unknown service")) }, batch.CodeProtocolMismatch, false, "one"},
		{"stopped half way", func(c *call) { c.fail(wire.Status(batch.Errorf(batch.CodeShutdown, "stopped"))) }, batch.CodeShutdown, true, "more"},
		{"connection lost, always", func(c *call) { c.fail(status.Error(codes.Unavailable, "connection reset")) }, batch.CodeUnavailable, true, "more"},
		{"defect", func(c *call) { c.fail(wire.Status(batch.Errorf(batch.CodeInternal, "a defect"))) }, batch.CodeInternal, true, "one"},
		{"answer too large", func(c *call) {
			c.fail(status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"))
		}, batch.CodeBatchTooLarge, true, "one"},
		{"answer without sense", func(c *call) {
			c.answer(&pb.Answer{Last: true, NotDone: []*pb.RowOutcome{{Row: 9, Outcome: pb.Outcome_OUTCOME_DEAD}}})
		}, batch.CodeBadMessage, true, "one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				c := n.dial("passthrough:///a:7700", client.WithRetryFor(2*time.Second))
				b := numbered(2)
				got := submit(t.Context(), c, "F", b)
				calls := 0
				for {
					select {
					case call := <-k.calls:
						calls++
						test.reply(call)
						continue
					case r := <-got:
						wantError(t, r.err, test.code, test.unanswered)
						if !strings.Contains(r.err.Error(), b.ID().String()) || !strings.Contains(r.err.Error(), `"F"`) {
							t.Errorf("error %q does not name batch and flow", r.err)
						}
					}
					break
				}
				if (calls == 1) != (test.calls == "one") {
					t.Errorf("%d calls, want %s", calls, test.calls)
				}
			})
		})
	}
}

func TestDelaysGrow(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryDelay(100*time.Millisecond, 400*time.Millisecond))
		got := submit(t.Context(), c, "F", numbered(1))
		last := <-k.calls
		for _, millis := range []int64{100, 200, 400, 400, 400} {
			last.refuse(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "full"})
			next := <-k.calls
			middle := time.Duration(millis) * time.Millisecond
			if waited := next.at.Sub(last.at); waited < middle/2 || waited > middle*3/2+1 {
				t.Errorf("waited %s, want %s and a half at most to either side", waited, middle)
			}
			last = next
		}
		last.answer(&pb.Answer{Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
	})
}

func TestSubmitWithoutRetriesTriesOnce(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(0))
		got := submit(t.Context(), c, "F", numbered(1))
		(<-k.calls).refuse(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "full"})
		wantError(t, (<-got).err, batch.CodeOverloaded, false)
	})
}

func TestSubmitWithNobodyThere(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(10*time.Second))
		began := time.Now()
		_, err := c.Submit(t.Context(), "F", numbered(1))
		wantError(t, err, batch.CodeUnavailable, false)
		for _, text := range []string{"connection refused", "passthrough:///a:7700"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("error %q does not say %q", err, text)
			}
		}
		if took := time.Since(began); took > 10*time.Second || took < 5*time.Second {
			t.Errorf("gave up after %s, want about 10 s", took)
		}
	})
}

func TestSubmitTriesAnotherCoordinator(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		a, b := n.start("a:7700"), n.start("b:7700")
		c := n.dial("a,b")
		got := submit(t.Context(), c, "F", numbered(1))
		var first, second *call
		select {
		case first = <-a.calls:
			a.kill()
			second = <-b.calls
		case first = <-b.calls:
			b.kill()
			second = <-a.calls
		}
		if !bytes.Equal(first.Stream, second.Stream) || first.Submission.Sequence != second.Submission.Sequence {
			t.Errorf("the second call has another batch id: %v, %v", first, second)
		}
		second.answer(&pb.Answer{Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
	})
}

func TestLargeCallsWaitForEachOther(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		large := func() *client.Batch { return client.Rows(strings.Repeat("x", 3<<20)) }
		arrived := func() *call {
			t.Helper()
			synctest.Wait()
			select {
			case call := <-k.calls:
				return call
			default:
				return nil
			}
		}
		first := submit(t.Context(), c, "F", large())
		one := <-k.calls
		second := submit(t.Context(), c, "F", large())
		two := <-k.calls
		giveUp, cancel := context.WithCancel(t.Context())
		third, fourth := submit(giveUp, c, "F", large()), submit(t.Context(), c, "G", large())
		other := <-k.calls
		if other.Flow != "G" || arrived() != nil {
			t.Fatalf("flow %s has a third call under way", other.Flow)
		}
		cancel()
		if r := <-third; !errors.Is(r.err, context.Canceled) {
			t.Errorf("the call that gave up ended with %v", r.err)
		}
		fifth := submit(t.Context(), c, "F", large())
		if arrived() != nil {
			t.Fatal("a third call is under way")
		}
		one.answer(&pb.Answer{Sequence: one.Submission.Sequence, Revision: 1, Last: true})
		last := <-k.calls
		for _, call := range []*call{two, other, last} {
			call.answer(&pb.Answer{Sequence: call.Submission.Sequence, Revision: 1, Last: true})
		}
		for i, out := range []<-chan outcome{first, second, fourth, fifth} {
			if r := <-out; r.err != nil {
				t.Errorf("call %d: %v", i, r.err)
			}
		}
	})
}

// TestCallsOfSmallRowsWaitForEachOther: the ends and keys of small rows weigh more than the rows, and count.
func TestCallsOfSmallRowsWaitForEachOther(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		const rows, room = 1 << 16, (8 << 20) / (13 << 16) // a row is one digit
		var all []<-chan outcome
		for range room + 1 {
			all = append(all, submit(t.Context(), c, "F", client.Rows(make([]int, rows)...)))
		}
		var calls []*call
		for range room {
			calls = append(calls, <-k.calls)
		}
		synctest.Wait()
		select {
		case <-k.calls:
			t.Fatalf("more than %d calls are under way", room)
		default:
		}
		answer := func(c *call) {
			c.answer(&pb.Answer{Sequence: c.Submission.Sequence, Revision: 1, Last: true})
		}
		answer(calls[0])
		for _, c := range append(calls[1:], <-k.calls) {
			answer(c)
		}
		for _, out := range all {
			if r := <-out; r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

func TestSubmitEndsWithItsContext(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := c.Submit(ctx, "F", numbered(1))
		wantError(t, err, batch.CodeCancelled, false)

		b := numbered(1)
		ctx, cancel = context.WithCancel(t.Context())
		got := submit(ctx, c, "F", b)
		<-k.calls
		cancel()
		r := <-got
		wantError(t, r.err, batch.CodeCancelled, true)
		if !errors.Is(r.err, context.Canceled) {
			t.Errorf("error %v is not the context's", r.err)
		}

		// It says nothing new that this try was refused: the one before may have run.
		got = submit(t.Context(), c, "F", b)
		(<-k.calls).refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"})
		wantError(t, (<-got).err, batch.CodeFlowDisabled, true)

		// A deadline that passes before the next try ends the call at once.
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		got = submit(ctx, c, "F", numbered(1))
		(<-k.calls).refuse(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "full", RetryAfterMilliseconds: 20_000})
		wantError(t, (<-got).err, batch.CodeOverloaded, false)
		if !time.Now().Equal(began) {
			t.Errorf("waited %s for a try that could not come", time.Since(began))
		}
	})
}

func TestSubmitRefusesWhatCannotBe(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		c := n.dial("passthrough:///a:7700")
		_, err := c.Submit(t.Context(), "F", client.Rows[int]())
		wantError(t, err, batch.CodeEmptyBatch, false)
		_, err = c.Submit(t.Context(), "F", client.Rows(make(chan int)))
		wantError(t, err, batch.CodeRowUnencodable, false)
	})
}

func TestSubmitAfterClose(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		b := numbered(1)
		got := submit(t.Context(), c, "F", b)
		<-k.calls
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, (<-got).err, batch.CodeCancelled, true)
		_, err := c.Submit(t.Context(), "F", numbered(1))
		wantError(t, err, batch.CodeCancelled, false)
		if !strings.Contains(err.Error(), "the client was closed") {
			t.Errorf("error %q does not say why", err)
		}
		_, err = c.Stream(t.Context(), "F")
		wantError(t, err, batch.CodeCancelled, false)

		// Another client knows nothing of the batch: it asks under the same id, and lets the cluster forget nothing.
		other := n.dial("passthrough:///a:7700")
		got = submit(t.Context(), other, "F", b)
		call := <-k.calls
		if id := b.ID(); !bytes.Equal(call.Stream, id.Stream[:]) || call.Submission.Sequence != id.Sequence || call.Submission.Floor != 1 {
			t.Errorf("submission of batch %s is %v", id, call.SubmitRequest)
		}
		call.refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"})
		wantError(t, (<-got).err, batch.CodeFlowDisabled, true)

		// Close does not wait for the next try.
		got = submit(t.Context(), other, "F", b)
		(<-k.calls).refuse(&pb.Error{Code: pb.Code_CODE_OVERLOADED, Message: "full", RetryAfterMilliseconds: 20_000})
		synctest.Wait()
		began := time.Now()
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, (<-got).err, batch.CodeOverloaded, true)
		if took := time.Since(began); took > 0 {
			t.Errorf("the call ended %s after Close", took)
		}
	})
}

// exchange submits a batch, answers it, and returns the submission that the coordinator got.
func exchange(t *testing.T, c *client.Client, k *coordinator, b *client.Batch, outcomes ...*pb.RowOutcome) *pb.Submission {
	t.Helper()
	got := submit(t.Context(), c, "F", b)
	call := <-k.calls
	call.answer(&pb.Answer{Revision: 7, NotDone: outcomes, Last: true})
	if r := <-got; r.err != nil {
		t.Fatal(r.err)
	}
	return call.Submission
}

var (
	failedRow = &pb.RowOutcome{Row: 0, Outcome: pb.Outcome_OUTCOME_FAILED, Code: pb.Code_CODE_DEADLINE}
	deadRow   = &pb.RowOutcome{Row: 0, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_ERROR}
)

func TestFloorFollowsWhatIsOpen(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithResubmitWithin(time.Hour))
		want := func(m *pb.Submission, sequence, floor uint64, why string) {
			t.Helper()
			if m.Sequence != sequence || m.Floor != floor {
				t.Errorf("%s: sequence %d with floor %d, want %d with %d", why, m.Sequence, m.Floor, sequence, floor)
			}
		}
		want(exchange(t, c, k, numbered(1)), 1, 1, "the first")
		want(exchange(t, c, k, numbered(1), deadRow), 2, 2, "after one that is done")
		three := numbered(1)
		want(exchange(t, c, k, three, failedRow), 3, 3, "after a dead row, which is an end too")
		want(exchange(t, c, k, numbered(1)), 4, 3, "after a failed row")
		m := exchange(t, c, k, three)
		want(m, 3, 3, "the failed one again")
		if m.Revision != 7 {
			t.Errorf("the failed batch runs again on revision %d, want the 7 that it first ran on", m.Revision)
		}
		five := numbered(1)
		want(exchange(t, c, k, five, failedRow), 5, 5, "once that is done")
		want(exchange(t, c, k, numbered(1)), 6, 5, "after another failed row")
		c.GiveUp(five)
		want(exchange(t, c, k, numbered(1), failedRow), 7, 7, "once that is given up")
		time.Sleep(59 * time.Minute)
		want(exchange(t, c, k, numbered(1)), 8, 7, "within the time to submit it again")
		time.Sleep(2 * time.Minute)
		want(exchange(t, c, k, numbered(1)), 9, 9, "when that is over")

		// Under way, and given up meanwhile.
		ten := numbered(1)
		got := submit(t.Context(), c, "F", ten)
		call := <-k.calls
		c.GiveUp(ten)
		want(exchange(t, c, k, numbered(1)), 11, 10, "while one is under way")
		call.answer(&pb.Answer{NotDone: []*pb.RowOutcome{failedRow}, Last: true})
		<-got
		want(exchange(t, c, k, numbered(1)), 12, 12, "when it has ended")

		// Only a batch that may be accepted later stays open; one that will always be refused does not hold the floor.
		for _, code := range []pb.Code{pb.Code_CODE_BATCH_TOO_LARGE, pb.Code_CODE_FLOW_DISABLED} {
			got := submit(t.Context(), c, "F", numbered(1))
			(<-k.calls).refuse(&pb.Error{Code: code, Message: "no"})
			<-got
		}
		want(exchange(t, c, k, numbered(1)), 15, 14, "after two refused ones")
	})
}

func TestBatchesThatCannotBeSubmittedAgain(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithResubmitWithin(time.Hour))
		again := func(flow string, b *client.Batch, text string) {
			t.Helper()
			_, err := c.Submit(t.Context(), flow, b)
			wantError(t, err, batch.CodeBadBatchID, true)
			if !strings.Contains(err.Error(), text) {
				t.Errorf("error is %q, want %q in it", err, text)
			}
		}
		done := numbered(1)
		exchange(t, c, k, done)
		again("F", done, "was answered")

		failed := numbered(1)
		exchange(t, c, k, failed, failedRow)
		again("G", failed, "first submitted to flow \"F\"")
		c.GiveUp(failed)
		again("F", failed, "given up")

		old := numbered(1)
		exchange(t, c, k, old, failedRow)
		time.Sleep(61 * time.Minute)
		exchange(t, c, k, numbered(1))
		again("F", old, "too old")

		twice := numbered(1)
		got := submit(t.Context(), c, "F", twice)
		call := <-k.calls
		again("F", twice, "under way")
		call.answer(&pb.Answer{Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
	})
}

// TestCallThatTheCoordinatorCutsIsMadeAgain has a coordinator cancel calls as gRPC does, without a word of ours: the same batch comes
// again. One that the caller cancelled does not.
func TestCallThatTheCoordinatorCutsIsMadeAgain(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		got := submit(t.Context(), c, "F", client.Rows(avg{1, 10}))
		first := <-k.calls
		first.fail(status.Error(codes.Canceled, "context canceled"))
		again := <-k.calls
		if again.Submission.Sequence != first.Submission.Sequence || string(again.Stream) != string(first.Stream) {
			t.Errorf("the batch came again as %v, not as %v", again.SubmitRequest, first.SubmitRequest)
		}
		again.answer(&pb.Answer{Sequence: first.Submission.Sequence, Revision: 42, Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		got = submit(ctx, c, "F", client.Rows(avg{2, 20}))
		<-k.calls
		cancel()
		if r := <-got; !errors.Is(r.err, context.Canceled) {
			t.Errorf("a call that was cancelled here ended with %v", r.err)
		}
	})
}

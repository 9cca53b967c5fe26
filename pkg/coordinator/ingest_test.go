package coordinator

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestRefusals sends what can't run, by a stream and by a call: each says why, and a stream goes on with its credit.
func TestRefusals(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits = batch.Limits{BatchRows: 100} })
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	r.put(flowDocument("disabled", "", "echo", "status: 0"), flowDocument("nobody", "", "lost"), funcDocument("lost"))
	r.awaitSnapshot("the flows are known", func(c *flowstate.Snapshot) bool {
		d, n := c.Flows["disabled"], c.Flows["nobody"]
		return d != nil && d.Active != nil && n != nil && len(n.Status.Reasons) > 0
	})

	t.Run("flows", func(t *testing.T) {
		for flow, want := range map[string]struct {
			code batch.Code
			grpc codes.Code
			says string
		}{
			"X":        {batch.CodeUnknownFlow, codes.NotFound, "there are S, disabled, nobody"},
			"disabled": {batch.CodeFlowDisabled, codes.FailedPrecondition, "status: 1"},
			"nobody":   {batch.CodeNoCapableWorker, codes.Unavailable, "function lost is missing"},
		} {
			u := within(t, "an answer", r.call(t.Context(), flow, &pb.Submission{Sequence: 1, Rows: rows(1)}))
			if status.Code(u.err) != want.grpc {
				t.Errorf("flow %s: gRPC code %s, want %s", flow, status.Code(u.err), want.grpc)
			}
			wantCode(t, u.err, want.code, want.says)
			_, err := r.tryOpen(batch.NewStreamID(), flow)
			wantCode(t, err, want.code, want.says)
		}
	})
	t.Run("batches", func(t *testing.T) {
		c := r.open("S")
		credit := c.credit.GetRows()
		for i, want := range []struct {
			rows *pb.Columns
			code batch.Code
		}{
			{&pb.Columns{}, batch.CodeEmptyBatch},
			{sequence(101), batch.CodeTooManyRows},
			{&pb.Columns{Data: []byte("{}"), Ends: []uint32{1}}, batch.CodeBadColumns},
			{&pb.Columns{Data: []byte("{}"), Ends: []uint32{2}, Encoding: "avro"}, batch.CodeMissingKeys},
		} {
			c.submit(&pb.Submission{Sequence: uint64(i + 1), Rows: want.rows})
			a := c.answer()
			if a.GetRefused().GetCode() != pb.Code(want.code) || !a.GetLast() || a.GetSequence() != uint64(i+1) {
				t.Errorf("answered %v, want it refused as %v", a, want.code)
			}
			c.next()
			credit += uint32(len(want.rows.GetEnds()))
			if c.credit.GetRows() != credit {
				t.Errorf("%v: credit is %d, want %d", want.code, c.credit.GetRows(), credit)
			}
			u := within(t, "an answer", r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: want.rows}))
			wantCode(t, u.err, want.code, "")
		}
		c.submit(&pb.Submission{Sequence: 9, Rows: rows(1)})
		s.done(s.part())
		if a := c.answer(); a.GetSequence() != 9 || a.GetRefused() != nil {
			t.Errorf("the stream answers %v", a)
		}
	})
	t.Run("rows", func(t *testing.T) {
		a := r.answered(r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte(`{}{`), Ends: []uint32{2, 3}}}))
		if nd := a.GetNotDone(); len(nd) != 2 || nd[0].GetCode() != pb.Code_CODE_MISSING_SHARD_KEY || nd[1].GetCode() != pb.Code_CODE_ROW_UNDECODABLE {
			t.Errorf("answered %v", a)
		}
	})
	t.Run("ids", func(t *testing.T) {
		_, err := pb.NewIngestClient(r.conn).Submit(t.Context(), &pb.SubmitRequest{Flow: "S", Stream: []byte("short"), Submission: &pb.Submission{Sequence: 1, Rows: rows(1)}})
		wantCode(t, err, batch.CodeBadBatchID, "16")
		u := within(t, "an answer", r.call(t.Context(), "S", &pb.Submission{Rows: rows(1)}))
		wantCode(t, u.err, batch.CodeBadBatchID, "from 1")
	})
	quiet(t, "a refused batch reached the worker", s.parts)
}

func TestBadStreams(t *testing.T) {
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	id := batch.NewStreamID()
	for name, c := range map[string]struct {
		first *pb.StreamRequest
		code  batch.Code
		says  string
	}{
		"nothing":             {&pb.StreamRequest{}, batch.CodeBadMessage, "first message is Open"},
		"a submission":        {&pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: &pb.Submission{}}}, batch.CodeBadMessage, "first message is Open"},
		"a newer protocol":    {&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{ProtocolMin: 2, ProtocolMax: 4, Flow: "W", Stream: id[:]}}}, batch.CodeProtocolMismatch, "2 to 4"},
		"a protocol of none":  {&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{Flow: "W", Stream: id[:]}}}, batch.CodeProtocolMismatch, "0 to 0"},
		"an id that is short": {&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{ProtocolMin: 1, ProtocolMax: 1, Flow: "W", Stream: id[:3]}}}, batch.CodeBadBatchID, "16"},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := r.begin(c.first)
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, call.ends(), c.code, c.says)
		})
	}
	t.Run("opened twice in one call", func(t *testing.T) {
		c := r.open("W")
		_ = c.stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{}}})
		wantCode(t, c.ends(), batch.CodeBadMessage, "submissions only")
	})
	t.Run("credit overdrawn", func(t *testing.T) {
		c := r.open("W")
		c.submit(&pb.Submission{Sequence: 1, Rows: sequence(firstWindowRows + 5)})
		s.part()
		c.submit(&pb.Submission{Sequence: 2, Rows: rows(1)})
		wantCode(t, c.ends(), batch.CodeBadMessage, "without credit")
	})
	t.Run("a sequence under way", func(t *testing.T) {
		c := r.open("W")
		c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
		s.part()
		c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
		wantCode(t, c.ends(), batch.CodeBadBatchID, "under way on this stream already")
	})
	until(t, "no row is in flight", func() bool { l := r.ledger("W"); return l.InFlight() == 0 })
}

// TestReopened opens a stream again while the call before still stands: that one ends first, with its batches, so what is sent
// again comes after it.
func TestReopened(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	first := r.open("W")
	first.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	old := s.part()
	second := r.openAs(first.id, "W")
	second.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	again := s.part()
	wantCode(t, first.ends(), batch.CodeCancelled, "opened its stream")
	s.result(&pb.Result{Part: old.GetNumber(), Last: true, NotDone: []*pb.RowOutcome{{Outcome: pb.Outcome_OUTCOME_DEAD}}})
	s.done(again)
	if a := second.answer(); !a.GetLast() || len(a.GetNotDone()) != 0 {
		t.Errorf("answered %v, which is what the first call's batch came to", a)
	}
	r.awaitLedger("W", 2, map[batch.Outcome]uint64{batch.Failed: 1, batch.Done: 1})
	// And many at once: one is left, and none hangs.
	calls := make(chan *clientStream, 20)
	for range cap(calls) {
		go func() {
			c, err := r.tryOpen(first.id, "W")
			if err != nil {
				c = nil // another one was opened before this one had its turn
			}
			calls <- c
		}()
	}
	for range cap(calls) {
		if c := within(t, "a call opens or ends", calls); c != nil {
			defer c.cancel()
		}
	}
	until(t, "one call is left", func() bool {
		r.c.ingest.mu.Lock()
		defer r.c.ingest.mu.Unlock()
		return len(r.c.ingest.streams) == 1
	})
}

// TestClientLeaves ends calls without waiting for answers: their rows count as failed, and nothing is held for them.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	w.grant = &pb.Credit{Rows: 1, Bytes: 1 << 20} // one part
	s := w.register().session().welcome(false, 0)
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	for i := range 10 {
		c.submit(&pb.Submission{Sequence: uint64(i + 1), Rows: rows(1, 2)})
	}
	sent := s.part()
	until(t, "all have come in", func() bool { return r.ledger("W").In == 20 })
	c.cancel()
	r.awaitLedger("W", 20, map[batch.Outcome]uint64{batch.Failed: 20})

	ctx, cancel := context.WithCancel(t.Context())
	call := r.call(ctx, "W", &pb.Submission{Sequence: 1, Rows: rows(1, 2, 3)})
	until(t, "the call's rows came in", func() bool { return r.ledger("W").In == 23 })
	cancel()
	if u := within(t, "the call ends", call); status.Code(u.err) != codes.Canceled {
		t.Errorf("the call ended with %v", u.err)
	}
	r.awaitLedger("W", 23, map[batch.Outcome]uint64{batch.Failed: 23})
	s.done(sent)
	s.credit("W", 100, 1<<20)
	next := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(42)})
	if p := s.part(); texts(p.GetColumns())[0] != `{"id":42}` {
		t.Errorf("the worker got %v of a batch that nobody waits for", p)
	} else {
		s.done(p)
	}
	r.answered(next)
	until(t, "the budget is back", func() bool { return r.c.ingest.budget.remaining() == r.c.config.Budget })
}

// TestCloseSend lets a client end its side: it gets every answer, then a good end.
func TestCloseSend(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	p := s.part()
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.done(p)
	if a := c.answer(); !a.GetLast() {
		t.Errorf("answered %v", a)
	}
	if err := c.ends(); !errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
}

// TestUnaryBudget fills the budget with calls: the next is refused with a delay, and taken when one has ended.
func TestUnaryBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Limits = batch.Limits{BatchBytes: 512 << 10, BatchRows: 100}
		c.Budget = 1 << 20
	})
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	large := &pb.Columns{Data: []byte(`"` + strings.Repeat("x", 400<<10) + `"`), Ends: []uint32{400<<10 + 2}}
	first := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: large})
	p1 := s.part()
	second := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: large})
	p2 := s.part()
	u := within(t, "the third call", r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: large}))
	if status.Code(u.err) != codes.ResourceExhausted {
		t.Errorf("gRPC code %s", status.Code(u.err))
	}
	wantCode(t, u.err, batch.CodeOverloaded, "budget")
	var e *batch.Error
	if !errors.As(wire.FromStatus(u.err), &e) || e.RetryAfter <= 0 {
		t.Errorf("it names no delay: %v", u.err)
	}
	_, err := r.tryOpen(batch.NewStreamID(), "W")
	wantCode(t, err, batch.CodeOverloaded, "budget")
	s.done(p1)
	r.answered(first)
	fourth := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: large})
	s.done(s.part())
	r.answered(fourth)
	s.done(p2)
	r.answered(second)

	// Calls without rows to speak of cost as well.
	n := 0
	for r.c.ingest.budget.reserve(callCost(1, 1)) {
		n++
	}
	r.c.ingest.budget.release(int64(n)*callCost(1, 1), false)
	if n > 256 {
		t.Errorf("%d calls of one byte fit into a budget of 1 MiB", n)
	}
}

// TestStreamsBudget opens as many streams as the budget has room for, and has each overdraw its window: the coordinator takes in
// one such batch at a time, and all in the end. Idle streams shut out neither calls nor further streams.
func TestStreamsBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Budget = 10 << 20
		c.Limits.RowBytes = 8 << 20
	})
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	var streams []*clientStream
	for range 20 {
		c, err := r.tryOpen(batch.NewStreamID(), "W")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, c)
	}
	if left := r.c.ingest.budget.remaining(); left != 0 {
		t.Fatalf("20 streams leave %d bytes", left)
	}
	large := &pb.Columns{Data: make([]byte, 2<<20), Ends: []uint32{2 << 20}}
	for _, c := range streams[:4] {
		c.submit(&pb.Submission{Sequence: 1, Rows: large})
	}
	for range 4 {
		p := s.part()
		if left := r.c.ingest.budget.remaining(); left != -(2<<20 + batchCost - firstWindowBytes) {
			t.Errorf("%d bytes are left", left)
		}
		quiet(t, "another batch is let in beside it", s.parts)
		s.done(p)
	}
	for _, c := range streams[:4] {
		if a := c.answer(); !a.GetLast() {
			t.Errorf("answered %v", a)
		}
	}
	for i := range 20 {
		c, err := r.tryOpen(batch.NewStreamID(), "W")
		if err != nil {
			t.Fatalf("%d more streams than the budget has room for, all idle: %v", i+1, err)
		}
		streams = append(streams, c)
	}
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("1"), Ends: []uint32{1}}})
	s.done(s.part())
	r.answered(call)
	for _, c := range streams {
		c.cancel()
	}
	until(t, "the budget is back", func() bool { return r.c.ingest.budget.remaining() == r.c.config.Budget })
}

// TestOmittedOutput runs a batch whose output is too large for one message: a call gets the outcomes without it, a stream all.
func TestOmittedOutput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	answer := func() {
		p := s.part()
		for i := range uint32(3) {
			s.result(&pb.Result{
				Part: p.GetNumber(), Finished: []*pb.Range{{First: i, Count: 1}},
				Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, 5<<20), Ends: []uint32{5 << 20}}, Origins: []uint32{i}},
			})
		}
		s.result(&pb.Result{Part: p.GetNumber(), Last: true, NotDone: []*pb.RowOutcome{{Row: 3, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_ERROR}}})
	}
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Output: true, Rows: rows(1, 2, 3, 4)})
	answer()
	a := r.answered(call)
	if a.GetOutput() != nil || a.GetOutputOmitted().GetCode() != pb.Code_CODE_BATCH_TOO_LARGE || len(a.GetNotDone()) != 1 {
		t.Errorf("the call is answered without output: %t, omitted: %v, not done: %v", a.GetOutput() == nil, a.GetOutputOmitted(), a.GetNotDone())
	}
	c := r.open("W")
	c.submit(&pb.Submission{Sequence: 1, Output: true, Rows: rows(1, 2, 3, 4)})
	go answer()
	bytes := 0
	for last := false; !last; {
		a := c.answer()
		bytes, last = bytes+len(a.GetOutput().GetRows().GetData()), a.GetLast()
	}
	if bytes != 15<<20 {
		t.Errorf("the stream got %d bytes of output", bytes)
	}
	r.awaitLedger("W", 8, map[batch.Outcome]uint64{batch.Done: 6, batch.Dead: 2})
}

// TestDeadlines fails rows that have no outcome in time, at the worker or before any worker came.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	c.submit(&pb.Submission{Sequence: 1, DeadlineMilliseconds: 50, Rows: rows(1)})
	if p := s.part(); p.GetDeadlineMilliseconds() == 0 || p.GetDeadlineMilliseconds() > 50 {
		t.Errorf("the part says %d ms", p.GetDeadlineMilliseconds())
	}
	a := c.answer()
	if nd := a.GetNotDone(); !a.GetLast() || len(nd) != 1 || nd[0].GetOutcome() != pb.Outcome_OUTCOME_FAILED || nd[0].GetCode() != pb.Code_CODE_DEADLINE || !strings.Contains(nd[0].GetReason(), "again") {
		t.Errorf("answered %v", a)
	}
	w.kill()
	closed(t, "the key is removed", w.registration.Lost())
	c.submit(&pb.Submission{Sequence: 2, DeadlineMilliseconds: 50, Rows: rows(1)})
	if a := c.answer(); a.GetSequence() != 2 || a.GetNotDone()[0].GetCode() != pb.Code_CODE_DEADLINE {
		t.Errorf("answered %v", a)
	}
	c.submit(&pb.Submission{Sequence: 3, DeadlineMilliseconds: math.MaxUint64, Rows: rows(1)})
	until(t, "it waits for a worker", func() bool { l := r.ledger("W"); return l.In == 3 && l.InFlight() == 1 })
}

// TestNoWorker fails rows for which no worker comes.
func TestNoWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.NoWorker = 100 * time.Millisecond })
	w, _ := r.join("w")
	r.whole()
	w.kill()
	closed(t, "the key is removed", w.registration.Lost())
	a := r.answered(r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)}))
	if nd := a.GetNotDone(); len(nd) != 1 || nd[0].GetCode() != pb.Code_CODE_NO_CAPABLE_WORKER || !strings.Contains(nd[0].GetReason(), "flow W") {
		t.Errorf("answered %v", a)
	}
}

// TestSwitched changes a flow's shard key under an open stream: the stream is told, and new batches run on the new revision.
func TestSwitched(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	old := r.sharded()
	r.owns("S", 1)
	c := r.open("S")
	revision := r.activate(flowDocument("S", "other", "echo"))
	m := c.next().GetSwitched()
	if m.GetRevision() != revision || m.GetShardKey() != "other" {
		t.Fatalf("told %v", m)
	}
	c.submit(&pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte(`{"other":1}`), Ends: []uint32{11}}})
	p := s.part()
	if p.GetRevision() != revision {
		t.Errorf("the part runs on revision %d", p.GetRevision())
	}
	s.done(p)
	if a := c.answer(); a.GetRevision() != revision {
		t.Errorf("answered %v", a)
	}
	// A batch that first ran on the old revision does so again.
	c.submit(&pb.Submission{Sequence: 2, Revision: old, Rows: rows(1)})
	if p = s.part(); p.GetRevision() != old {
		t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), old)
	}
	s.done(p)
	if a := c.answer(); a.GetRevision() != old || len(a.GetNotDone()) != 0 {
		t.Errorf("answered %v", a)
	}
}

// TestDefinitions sends a session each revision once, before its first part.
func TestDefinitions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	revision := r.whole()
	r.owns("W", 1)
	for i := range 3 {
		call := r.call(t.Context(), "W", &pb.Submission{Sequence: uint64(i + 1), Rows: rows(1)})
		s.done(s.part())
		r.answered(call)
	}
	d := within(t, "the definition", s.definitions)
	names := []string{}
	for _, doc := range d.GetDocuments() {
		names = append(names, doc.GetKind()+" "+doc.GetName())
	}
	if d.GetRevision() != revision || !slices.Equal(names, []string{"flow W", "func echo"}) {
		t.Errorf("revision %d of %v", d.GetRevision(), names)
	}
	quiet(t, "it came again", s.definitions)
}

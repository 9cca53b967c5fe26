package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// viewing is a call of Tap as its caller sees it.
type viewing struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[pb.TapEvent]
	rows   []*pb.TappedRow
	notes  []string
	counts *pb.TapCounts
	end    *pb.TapEnd
	err    error
}

// tap begins a call of Tap.
func (r *rig) tap(ctx context.Context, in *pb.TapRequest) *viewing {
	r.t.Helper()
	stream, err := pb.NewAdminClient(r.conn).Tap(ctx, in)
	if err != nil {
		r.t.Fatal(err)
	}
	return &viewing{t: r.t, stream: stream}
}

// until reads events until seen returns true, or the call has ended.
func (v *viewing) until(what string, seen func() bool) {
	v.t.Helper()
	for v.err == nil && !seen() {
		var e *pb.TapEvent
		if e, v.err = v.stream.Recv(); v.err != nil {
			break
		}
		switch kind := e.GetKind().(type) {
		case *pb.TapEvent_Row:
			v.rows = append(v.rows, kind.Row)
		case *pb.TapEvent_Counts:
			v.counts = kind.Counts
		case *pb.TapEvent_Note:
			v.notes = append(v.notes, kind.Note.GetWorker()+": "+kind.Note.GetText())
		case *pb.TapEvent_End:
			v.end = kind.End
		}
	}
	if !seen() {
		v.t.Fatalf("%s was not seen: the call ended with %v", what, v.err)
	}
}

// ends reads the call to its end, and returns its error; nil for a good end.
func (v *viewing) ends() error {
	v.until("the end", func() bool { return v.err != nil })
	if errors.Is(v.err, io.EOF) {
		return nil
	}
	return wire.FromStatus(v.err)
}

// noted reports whether a note has a text.
func (v *viewing) noted(text string) func() bool {
	return func() bool { return strings.Contains(strings.Join(v.notes, "\n"), text) }
}

// TestTap: the question goes to each worker that knows it, also over a session that begins later; the answers and counts of all come together;
// workers that show nothing are named; the tap goes on when the flow changes, and ends at the limit.
func TestTap(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	w.taps = make(chan *pb.CoordinatorMessage, 10)
	s := w.register().session().welcome(false, 0)
	old, _ := r.join("old")
	r.sharded()
	r.owns("S", 2)
	v := r.tap(t.Context(), &pb.TapRequest{Flow: "S", Function: "echo", Where: "id > 1", Key: "101", Limit: 4})
	ask := within(t, "a tap", w.taps).GetTap()
	if ask.GetFlow() != "S" || ask.GetFunction() != "echo" || ask.GetWhere() != "id > 1" || !ask.GetHasKey() || len(ask.GetMasks()) > 0 {
		t.Errorf("the worker was asked %v", ask)
	}
	v.until("the old worker", v.noted(old.record.ID+": it is of an older build"))
	row := func(text string) *pb.TappedRow {
		return &pb.TappedRow{Worker: w.record.ID, Before: &pb.TappedText{Text: text}, Became: "passed"}
	}
	tell := func(s *workerSession, m *pb.Tapped) {
		s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Tapped{Tapped: m}})
	}
	tell(s, &pb.Tapped{Number: 999, Rows: []*pb.TappedRow{row("of nobody")}})
	tell(s, &pb.Tapped{Number: ask.GetNumber(), Rows: []*pb.TappedRow{row("1"), row("2")}, Passed: 10, Unmatched: 3, Failed: 1, Failure: "why"})
	v.until("counts", func() bool { return v.counts.GetPassed() == 10 && v.counts.GetShown() == 2 })
	if c := v.counts; c.GetUnmatched() != 3 || c.GetLeftOut() != 5 || c.GetFailed() != 1 || c.GetFailure() != "why" || c.GetWorkers() != 1 {
		t.Errorf("counted was %v", c)
	}

	s.breaks(errBroken)
	s = w.session().welcome(true, 0)
	again := within(t, "the tap again", w.taps).GetTap()
	if again.GetNumber() == ask.GetNumber() || again.GetWhere() != "id > 1" {
		t.Errorf("in the next session the worker was asked %v", again)
	}
	tell(s, &pb.Tapped{Number: ask.GetNumber(), Rows: []*pb.TappedRow{row("of the session before")}, Passed: 100})
	tell(s, &pb.Tapped{Number: again.GetNumber(), Rows: []*pb.TappedRow{row("3")}, Passed: 1})
	v.until("counts over both sessions", func() bool { return v.counts.GetPassed() == 11 && v.counts.GetShown() == 3 })

	revision := r.put(flowDocument("S", "id", "echo", "timeout: 7s"))
	v.until("the change", v.noted(fmt.Sprintf("revision %d now, and the tap goes on", revision)))
	tell(s, &pb.Tapped{Number: again.GetNumber(), Rows: []*pb.TappedRow{row("4"), row("too many")}, Passed: 3})
	if err := v.ends(); err != nil || v.end.GetWhy() != "limit" || len(v.rows) != 4 || v.rows[3].GetBefore().GetText() != "4" {
		t.Errorf("the call ended with %v, %v and the rows %v", err, v.end, v.rows)
	}
	if c := v.counts; c.GetPassed() != 13 && c.GetPassed() != 11 {
		t.Errorf("at the end counted was %v", c)
	}
	if m := within(t, "the end of the tap", w.taps).GetUntap(); m.GetNumber() != again.GetNumber() {
		t.Errorf("the worker was told %v", m)
	}
}

// TestTapEnds: by time; when the worker refuses it goes on, and says why; when the caller goes away the worker is told; when the flow is deleted;
// and with an error when the coordinator drains.
func TestTapEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	w.taps = make(chan *pb.CoordinatorMessage, 10)
	s := w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)

	v := r.tap(t.Context(), &pb.TapRequest{Flow: "S", Milliseconds: 1})
	if err := v.ends(); err != nil || v.end.GetWhy() != "time" {
		t.Errorf("it ended with %v, %v", err, v.end)
	}
	number := within(t, "a tap", w.taps).GetTap().GetNumber()
	if m := within(t, "its end", w.taps).GetUntap(); m.GetNumber() != number {
		t.Errorf("the worker was told %v", m)
	}

	ctx, leave := context.WithCancel(t.Context())
	v = r.tap(ctx, &pb.TapRequest{Flow: "S"})
	number = within(t, "a tap", w.taps).GetTap().GetNumber()
	leave()
	if m := within(t, "the end of the tap", w.taps).GetUntap(); m.GetNumber() != number {
		t.Errorf("when the caller left the worker was told %v", m)
	}
	_ = v.ends() // with whatever gRPC says of a call that was cancelled

	ctx, leave = context.WithCancel(t.Context())
	v = r.tap(ctx, &pb.TapRequest{Flow: "S", Milliseconds: 500, Limit: 10_000})
	number = within(t, "a tap", w.taps).GetTap().GetNumber()
	large := &pb.TappedRow{Before: &pb.TappedText{Text: strings.Repeat("x", 60_000)}, Became: "passed"}
	for range 50 { // the caller reads none of these
		s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Tapped{Tapped: &pb.Tapped{Number: number, Rows: []*pb.TappedRow{large, large, large, large}}}})
	}
	if m := within(t, "the end of the tap of a caller that does not read", w.taps).GetUntap(); m.GetNumber() != number {
		t.Errorf("the worker was told %v", m)
	}
	leave()
	_ = v.ends()

	v = r.tap(t.Context(), &pb.TapRequest{Flow: "S"})
	number = within(t, "a tap", w.taps).GetTap().GetNumber()
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Tapped{Tapped: &pb.Tapped{Number: number, Ended: wire.FromError(batch.Errorf(batch.CodeOverloaded, "too many"))}}})
	v.until("the refusal", v.noted("it shows no rows: OVERLOADED: too many"))
	if _, err := pb.NewAdminClient(r.conn).Delete(t.Context(), &pb.DeleteRequest{Documents: []*pb.DocumentName{{Kind: "flow", Name: "S"}}}); err != nil {
		t.Fatal(err)
	}
	if err := v.ends(); err != nil || v.end.GetWhy() != "flow" {
		t.Errorf("when the flow was deleted it ended with %v, %v", err, v.end)
	}

	r.whole()
	v = r.tap(t.Context(), &pb.TapRequest{Flow: "W"})
	v.until("the first counts", func() bool { return v.counts != nil })
	draining := make(chan error, 1)
	go func() { draining <- r.c.Drain(t.Context()) }()
	if err := v.ends(); batch.CodeOf(err) != batch.CodeShutdown {
		t.Errorf("when the coordinator drained it ended with %v", err)
	}
	if err := within(t, "the drain", draining); err != nil {
		t.Error(err)
	}
}

// TestTapRefused: questions that can't be asked.
func TestTapRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.join("w")
	r.sharded()
	r.whole()
	for _, c := range []struct {
		in   *pb.TapRequest
		code batch.Code
		says string
	}{
		{&pb.TapRequest{Flow: "None"}, batch.CodeUnknownFlow, "None"},
		{&pb.TapRequest{Flow: "S", Function: "ech"}, batch.CodeNotFound, "it has echo"},
		{&pb.TapRequest{Flow: "S", Where: "id >"}, batch.CodeBadDocument, "where"},
		{&pb.TapRequest{Flow: "S", Where: `"text"`}, batch.CodeBadDocument, "bool"},
		{&pb.TapRequest{Flow: "S", Where: strings.Repeat("(", tapWhereBytes+1)}, batch.CodeBadDocument, "limit"},
		{&pb.TapRequest{Flow: "W", Key: "1"}, batch.CodeBadDocument, "no shard key"},
		{&pb.TapRequest{Flow: "S", Key: "{"}, batch.CodeRowUndecodable, ""},
	} {
		if err := r.tap(t.Context(), c.in).ends(); batch.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v was answered with %v", c.in, err)
		}
	}
}

// tapWhereBytes is the limit of package admin for expressions.
const tapWhereBytes = 4096

// TestTapRights: fields that are hidden from the caller are hidden at the worker, a hidden key can't be looked for, the audit log notes each tap,
// and a tap ends when its caller loses the right.
func TestTapRights(t *testing.T) {
	t.Parallel()
	var f accessFile
	f.add("clear", "'*'", access.Rights())
	f.add("masked", "'*'", []access.Right{access.Rows, access.View}, "name", "id")
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	w := r.newWorker("w", "echo")
	w.taps = make(chan *pb.CoordinatorMessage, 10)
	w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)
	masked := f.as(t, "masked")
	if err := r.tap(masked, &pb.TapRequest{Flow: "S", Key: "101"}).ends(); batch.CodeOf(err) != batch.CodePermissionDenied {
		t.Errorf("to look for a hidden key was answered with %v", err)
	}
	v := r.tap(masked, &pb.TapRequest{Flow: "S", Where: `name == "x"`, Milliseconds: 1})
	if ask := within(t, "a tap", w.taps).GetTap(); strings.Join(ask.GetMasks(), ",") != "name,id" {
		t.Errorf("the worker was asked %v", ask)
	}
	if err := v.ends(); err != nil {
		t.Error(err)
	}
	until(t, "the audit log has the tap", func() bool {
		log, err := pb.NewAdminClient(r.conn).Audit(f.as(t, "clear"), &pb.AuditRequest{Flow: "S", Author: "masked"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range log.GetEntries() {
			if e.GetAction() == "tap rows" && !strings.Contains(e.GetDetail(), "name ==") {
				return true
			}
		}
		return false
	})
}

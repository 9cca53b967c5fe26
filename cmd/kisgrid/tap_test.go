package main

import (
	"strings"
	"testing"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tapServer is a coordinator that shows fixed events.
type tapServer struct {
	pb.UnimplementedAdminServer
	events []*pb.TapEvent
	err    error
	asked  chan *pb.TapRequest
}

func (s *tapServer) Tap(in *pb.TapRequest, out pb.Admin_TapServer) error {
	s.asked <- in
	for _, e := range s.events {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	return s.err
}

// tappedEvents are events of each kind.
func tappedEvents() []*pb.TapEvent {
	id := &pb.BatchID{Stream: []byte{0xab}, Sequence: 3}
	row := func(r *pb.TappedRow) *pb.TapEvent {
		r.Worker, r.Batch, r.Revision, r.AtUnixMicroseconds = "w-1", id, 7, 1_000_000
		return &pb.TapEvent{Kind: &pb.TapEvent_Row{Row: r}}
	}
	text := func(s string) *pb.TappedText { return &pb.TappedText{Text: s} }
	return []*pb.TapEvent{
		{Kind: &pb.TapEvent_Note{Note: &pb.TapNote{Worker: "w-2", Text: "it is of an older build"}}},
		row(&pb.TappedRow{Function: "F", Row: 1, Before: text(`{"n":9007199254740993}`), Became: "passed", After: []*pb.TappedText{text(`{"m":1}`), {Text: `{"m`, CutFrom: 70000}}, More: 2}),
		row(&pb.TappedRow{Function: "F", Use: 1, Row: 2, Before: text("{\"esc\x1b[31m"), Became: "dead", Code: pb.Code_CODE_FUNCTION_ERROR, Reason: "it is \x1b[2J over", Attempts: 2}),
		row(&pb.TappedRow{Function: "G", Row: 4294967295, Before: &pb.TappedText{Withheld: "its type"}, Became: "passed", Unchanged: true}),
		row(&pb.TappedRow{Function: "G", Row: 4, Before: text(`1`), Became: "jumped", To: "F", OfBatch: true}),
		{Kind: &pb.TapEvent_Counts{Counts: &pb.TapCounts{Passed: 100, Shown: 4, Unmatched: 90, Failed: 5, LeftOut: 6, Workers: 2, Failure: "a value is null"}}},
		{Kind: &pb.TapEvent_End{End: &pb.TapEnd{Why: "limit"}}},
	}
}

func TestTap(t *testing.T) {
	s := &tapServer{events: tappedEvents(), asked: make(chan *pb.TapRequest, 10)}
	server := serveAdmin(t, s)
	out, err := kisgrid("tap", "Flow", "F", "--server", server, "--where", "n > 1", "--key", "7", "--limit", "5", "--for", "1500ms")
	if err != nil {
		t.Fatal(err)
	}
	if in := <-s.asked; in.GetFlow() != "Flow" || in.GetFunction() != "F" || in.GetWhere() != "n > 1" || in.GetKey() != "7" || in.GetLimit() != 5 || in.GetMilliseconds() != 1500 {
		t.Errorf("asked was %v", in)
	}
	want := `worker w-2: it is of an older build
F  passed  (batch ab-3, row 1)
  {"n":9007199254740993}
  → {"m":1}
  → {"m… (70000 bytes in all)
  → and 2 more rows
F (its use 2)  dead FUNCTION_ERROR: it is ` // control characters are shown as such
	if !strings.HasPrefix(out, want) || strings.Contains(out, "\x1b") {
		t.Errorf("printed was\n%q\nnot\n%q", out, want)
	}
	for _, want := range []string{
		"G  passed unchanged  (batch ab-3)\n  (not shown: its type)\n",
		"G  jumped to F  (batch ab-3, row 4)\n  1\n  the function makes its rows of all rows together\n",
		"4 of 100 rows shown: 85 did not match, the expression failed for 5 (a value is null), 6 were left out; from 2 workers\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, err = kisgrid("tap", "Flow", "--server", server, "-o", "json")
	<-s.asked
	for _, want := range []string{
		`{"worker":"w-1","function":"F","use":0,"revision":7,"batch":"ab-3","row":1,"at":"1970-01-01T00:00:01Z","before":{"n":9007199254740993},"became":"passed","after":[{"m":1},"{\"m"],"more":2}` + "\n",
		`"before":null,"became":"passed","unchanged":true}` + "\n",
		`"code":"FUNCTION_ERROR"`, `"to":"F"`,
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s\n%v", want, out, err)
		}
	}
}

// TestTapOfAnOlderCoordinator says so.
func TestTapOfAnOlderCoordinator(t *testing.T) {
	server := serveAdmin(t, pb.UnimplementedAdminServer{})
	if _, err := kisgrid("tap", "Flow", "--server", server); err == nil || !strings.Contains(err.Error(), "older than taps") {
		t.Error(err)
	}
	if _, err := kisgrid("tap", "Flow", "--server", server, "--for", "0s"); err == nil || !strings.Contains(err.Error(), "1ms") {
		t.Error(err)
	}
}

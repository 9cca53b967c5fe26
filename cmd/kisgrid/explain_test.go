package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// explainServer is a coordinator that gives a fixed explanation.
type explainServer struct {
	pb.UnimplementedAdminServer
	answer *pb.ExplainResponse
	asked  chan *pb.ExplainRequest
}

func (s *explainServer) Explain(_ context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	s.asked <- in
	return s.answer, nil
}

// TestExplainPlaces checks the words for each place of a row and each wait, and the output for a coordinator of an earlier build.
func TestExplainPlaces(t *testing.T) {
	id := &pb.BatchID{Stream: []byte{0xab}, Sequence: 3}
	s := &explainServer{asked: make(chan *pb.ExplainRequest, 10), answer: &pb.ExplainResponse{
		Worker: "w", Lanes: 2, Looked: true, GivenUp: 2, Unknown: []string{"the weather"},
		Rows: []*pb.RowPlace{
			{Where: "parked", Wait: "key", Connector: "C", Key: "k", Worker: "w", Batch: id, Coordinator: "another", Broken: true, DueMilliseconds: 2500},
			{Where: "parked", Wait: "order", Worker: "w", Batch: id, Row: 1, GivenUp: "over"},
			{Where: "lane", Worker: "w", Batch: id, Row: 2, GivenUp: "cancelled", ForMilliseconds: 61000},
			{Where: "running", Worker: "w", Function: "F", RunRows: 7, Batch: id, Row: 3},
			{Where: "entering", Worker: "w", Batch: id, Row: 4},
			{Where: "parked", Wait: "retry", Attempt: 3, Worker: "w", Batch: id, Row: 5},
			{Where: "parked", Wait: "save", Connector: "C", Worker: "w", Batch: id, Row: 6},
			{Where: "parked", Wait: "store", Connector: "C", Worker: "w", Batch: id, Row: 7},
			{Where: "parked", Wait: "turn", Worker: "w", Batch: id, Row: 8},
			{Where: "travelling", Worker: "w", Batch: id, Row: 9},
			{Where: "at_worker", Worker: "w", Batch: id, Row: 10},
			{Where: "set_aside", Worker: "w", Batch: id, Row: 11},
			{Where: "queued", Worker: "w", Batch: id, Row: 12},
			{Where: "held_back", From: "old", Batch: id, Row: 13},
			{Where: "no_worker", Batch: id, Row: 14},
			{Where: "on the moon", Worker: "w", Batch: id, Row: 15}, // a place that only a later build knows
		},
		Counts: []*pb.PlaceCount{{Where: "parked", Worker: "w", Rows: 100}, {Where: "lane", Worker: "w", Rows: 5, Others: true}},
	}}
	server := serveAdmin(t, s)
	out, err := kisgrid("explain", "F", "7", "--server", server, "--limit", "33")
	if in := <-s.asked; err != nil || !in.GetRows() || in.GetMost() != 33 {
		t.Errorf("asked %v: %v", in, err)
	}
	for _, want := range []string{
		"rows of the key that have not ended: 105, 5 of them of other coordinators, 2 given up", "\n  100 parked in worker w\n", "\n  5 queued in worker w (of other coordinators)\n",
		`key "k" of connector C, for another 2.5s`, "of coordinator another, which has no session", "order: behind row 0 of batch ab-3", "its deadline passed",
		"1m1s", "its lane, behind row 1 of batch ab-3", "given up by its client", "lane 0, function F", "the end of its run, of 7 rows", "leave to run", "its function's attempt 3",
		"a Save through connector C", "connector C to answer", "what it waited for has happened", "on the way to worker w or back", "does not say more",
		"one key has a quarter", "room at the worker", "the slot's old owner, old,", "a worker that is ready", "on the moon w", "89 more rows", "not known: the weather",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("without %q it says\n%s", want, out)
		}
	}
	out, err = kisgrid("explain", "F", "7", "--server", server, "-o", "json")
	var v struct {
		Rows []explainedRow `json:"key_rows"`
	}
	if <-s.asked; err != nil || json.Unmarshal([]byte(out), &v) != nil || len(v.Rows) != 16 || v.Rows[1].Behind != "row 0 of batch ab-3" || v.Rows[9].Lane != nil || v.Rows[3].Lane == nil {
		t.Errorf("%v: as JSON it says\n%s", err, out)
	}
	s.answer = &pb.ExplainResponse{Worker: "w", Lanes: 2, Sent: 1}
	if out, err = kisgrid("explain", "F", "7", "--server", server); err != nil || !strings.Contains(out, "build is too old") || strings.Contains(out, "not ended: 0") {
		t.Errorf("%v: an old coordinator is told of as\n%s", err, out)
	}
}

package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// deadServer is a coordinator that notes the requests about dead letters.
type deadServer struct {
	pb.UnimplementedAdminServer
	old bool   // it is of a build without RedriveDeadWithResults
	row []byte // the row of the one letter that it lists; nil means that it lists none

	mu    sync.Mutex
	asked []string // guarded by mu
}

func (s *deadServer) note(verb string, f *pb.DeadFilter, dry bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := verb
	if dry {
		what += " dry"
	}
	for _, part := range []string{f.GetFlow(), f.GetFunction(), strings.Join(f.GetIds(), ",")} {
		if part != "" {
			what += " " + part
		}
	}
	s.asked = append(s.asked, what)
}

// take returns the requests since the last call of take.
func (s *deadServer) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *deadServer) RedriveDead(in *pb.RedriveDeadRequest, out pb.Admin_RedriveDeadServer) error {
	s.note("redrive", in.GetFilter(), in.GetDryRun())
	return out.Send(&pb.DeadProgress{Selected: 2, Done: 2})
}

func (s *deadServer) RedriveDeadWithResults(in *pb.RedriveDeadWithResultsRequest, out pb.Admin_RedriveDeadWithResultsServer) error {
	if s.old {
		return status.Error(codes.Unimplemented, "unknown method RedriveDeadWithResults for service kisgrid.v1.Admin")
	}
	s.note("results", in.GetFilter(), in.GetDryRun())
	var c batch.Columns
	c.Append([]byte(`{"n":1}`))
	c.Append([]byte(`{"n":2}`))
	for _, e := range []*pb.RedriveEvent{
		{Kind: &pb.RedriveEvent_Progress{Progress: &pb.DeadProgress{Selected: 2}}},
		{Kind: &pb.RedriveEvent_Results{Results: wire.FromColumns(c)}},
		{Kind: &pb.RedriveEvent_Progress{Progress: &pb.DeadProgress{Selected: 2, Done: 2}}},
	} {
		if e.GetResults() != nil && s.row != nil {
			e = &pb.RedriveEvent{Kind: &pb.RedriveEvent_Results{Results: &pb.Columns{Data: s.row, Ends: []uint32{uint32(len(s.row))}}}}
		}
		if err := out.Send(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *deadServer) ListDead(_ *pb.ListDeadRequest, out pb.Admin_ListDeadServer) error {
	return out.Send(&pb.DeadEvent{Kind: &pb.DeadEvent_Letter{Letter: &pb.DeadLetter{Id: "aa", Flow: "F", Row: s.row}}})
}

func (s *deadServer) DropDead(_ context.Context, in *pb.DropDeadRequest) (*pb.DropDeadResponse, error) {
	s.note("drop", in.GetFilter(), in.GetDryRun())
	return &pb.DropDeadResponse{}, nil
}

// Commands that change letters change all of them only with --all. An empty variable of a shell in the place of a value must not
// select all letters. A command that changes nothing needs no --all.
func TestAllLettersOnlyWhenTold(t *testing.T) {
	s := &deadServer{}
	server := serveAdmin(t, s)
	for _, verb := range []string{"redrive", "drop"} {
		for _, c := range []struct {
			args  []string
			asks  string // the request; empty means that none is sent
			error string
		}{
			{nil, "", "--all"},
			{[]string{"--flow", ""}, "", "--flow is empty"},
			{[]string{"--flow", "", "--function", "G"}, "", "--flow is empty"},
			{[]string{"--flow", "F", "--code="}, "", "--code is empty"},
			{[]string{"--all", "--since", ""}, "", "--since is empty"},
			{[]string{"--all"}, verb, ""},
			{[]string{"--dry-run"}, verb + " dry", ""},
			{[]string{"--flow", "F"}, verb + " F", ""},
			{[]string{"--flow", "F", "--function", "G"}, verb + " F G", ""},
			{[]string{"aa", "bb"}, verb + " aa,bb", ""},
		} {
			_, err := kisgrid(append([]string{"dead", verb, "--server", server}, c.args...)...)
			asked := strings.Join(s.take(), "; ")
			if asked != c.asks || (err == nil) != (c.error == "") || err != nil && !strings.Contains(err.Error(), c.error) {
				t.Errorf("dead %s %q asked for %q and ended with %v", verb, c.args, asked, err)
			}
		}
	}
}

func TestRedriveResults(t *testing.T) {
	s := &deadServer{}
	server := serveAdmin(t, s)
	for _, format := range []string{"", "json"} {
		out, log, err := apart("dead", "redrive", "--server", server, "--flow", "F", "--results", "-o", format)
		if err != nil || out != "{\"n\":1}\n{\"n\":2}\n" || format == "" && log != "2 letters: 2 done, 0 filtered, 0 aborted; 0 died again and stay, 0 could not be run and stay\n" ||
			format == "json" && strings.Count(log, `"selected"`) != 2 {
			t.Errorf("%v, printed\n%s\ntold\n%s", err, out, log)
		}
	}
	if asked := s.take(); !slices.Equal(asked, []string{"results F", "results F"}) {
		t.Errorf("asked for %q", asked)
	}
	if out, _, err := apart("dead", "redrive", "--server", server, "--flow", "F"); err != nil || !strings.HasPrefix(out, "2 letters: 2 done") {
		t.Errorf("%v, printed %s", err, out)
	}
	s.take()

	// A coordinator whose build can't send results must run nothing.
	s = &deadServer{old: true}
	out, _, err := apart("dead", "redrive", "--server", serveAdmin(t, s), "--flow", "F", "--results")
	if err == nil || !strings.Contains(err.Error(), "build is too old") || !strings.Contains(err.Error(), "--results") || out != "" || len(s.take()) != 0 {
		t.Errorf("an old coordinator: %v, printed %q", err, out)
	}
}

// A letter and the output of a redrive may be as long as the limit of a coordinator, which may be above the default.
func TestLongLetters(t *testing.T) {
	s := &deadServer{row: bytes.Repeat([]byte("7"), 24<<20)}
	server := serveAdmin(t, s)
	for what, args := range map[string][]string{
		"show":    {"show", "--row", "aa"},
		"results": {"redrive", "--flow", "F", "--results"},
	} {
		out, _, err := apart(append([]string{"dead"}, append(args, "--server", server)...)...)
		if got := strings.TrimSuffix(out, "\n"); err != nil || got != string(s.row) {
			t.Errorf("dead %s printed %d bytes of %d: %v", what, len(got), len(s.row), err)
		}
	}
}

// apart is kisgrid with standard output and standard error apart.
func apart(args ...string) (out, log string, err error) {
	var o, l bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&o)
	cmd.SetErr(&l)
	err = cmd.Execute()
	return o.String(), l.String(), err
}

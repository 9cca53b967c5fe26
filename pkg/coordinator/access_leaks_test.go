package coordinator

import (
	"context"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// openFor opens a stream for an identity, and returns the error with which it is refused, or nil when it is open. The stream ends with ctx.
func (r *rig) openFor(ctx context.Context, id batch.StreamID, flow string) (pb.Ingest_StreamClient, error) {
	r.t.Helper()
	stream, err := pb.NewIngestClient(r.conn).Stream(ctx)
	if err != nil {
		return nil, err
	}
	open := &pb.Open{Flow: flow, ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Stream: id[:]}
	_ = stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: open}}) // Recv says why
	for range 2 {                                                                // Opened and the first credit
		if _, err := stream.Recv(); err != nil {
			return nil, wire.FromStatus(err)
		}
	}
	return stream, nil
}

// openStreams returns the owners of the open streams.
func (r *rig) openStreams() map[streamKey]string {
	r.c.ingest.mu.Lock()
	defer r.c.ingest.mu.Unlock()
	owners := map[streamKey]string{}
	for key, s := range r.c.ingest.streams {
		owners[key] = s.owner
	}
	return owners
}

// TestUnknownFlowsTellNothing: the error about a flow that is not there names only flows on which the caller has some right.
func TestUnknownFlowsTellNothing(t *testing.T) {
	var f accessFile
	all := access.Rights()
	f.add("stranger", "Absent", all)
	f.add("neighbour", "Absent, W", []access.Right{access.Submit, access.View})
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	r.join("w")
	r.whole()
	r.sharded()
	calls := map[string]func(ctx context.Context) error{
		"Submit": func(ctx context.Context) error {
			id := batch.NewStreamID()
			_, err := pb.NewIngestClient(r.conn).Submit(ctx, &pb.SubmitRequest{Flow: "Absent", Stream: id[:], Submission: &pb.Submission{Sequence: 1, Rows: rows(1)}})
			return err
		},
		"Stream": func(ctx context.Context) error {
			_, err := r.openFor(ctx, batch.NewStreamID(), "Absent")
			return err
		},
		"Explain": func(ctx context.Context) error {
			_, err := pb.NewAdminClient(r.conn).Explain(ctx, &pb.ExplainRequest{Flow: "Absent", Key: "1"})
			return err
		},
		"Pause": func(ctx context.Context) error {
			_, err := pb.NewAdminClient(r.conn).Pause(ctx, &pb.PauseRequest{Flow: "Absent"})
			return err
		},
	}
	for name, call := range calls {
		err := wire.FromStatus(call(f.as(t, "stranger")))
		wantCode(t, err, batch.CodeUnknownFlow, "no flow")
		if strings.Contains(err.Error(), "; there are") {
			t.Errorf("%s tells of other flows: %v", name, err)
		}
		if name == "Pause" {
			continue // the neighbour may not
		}
		err = wire.FromStatus(call(f.as(t, "neighbour")))
		if wantCode(t, err, batch.CodeUnknownFlow, "there are W"); strings.Contains(err.Error(), "S") {
			t.Errorf("%s tells of other flows: %v", name, err)
		}
	}
}

// TestStreamOfAnotherCaller: a caller that has learned the id of another one's stream can't end it, neither with the same flow nor with another
// one.
func TestStreamOfAnotherCaller(t *testing.T) {
	var f accessFile
	f.add("owner", "W", []access.Right{access.Submit})
	f.add("rival", "'*'", []access.Right{access.Submit})
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	r.join("w")
	r.whole()
	r.sharded()
	id := batch.NewStreamID()
	ctx, cancel := context.WithCancel(f.as(t, "owner"))
	defer cancel()
	owned, err := r.openFor(ctx, id, "W")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the stream is open", func() bool { return len(r.openStreams()) == 1 })
	rival, err := r.openFor(f.as(t, "rival"), id, "W")
	if err == nil {
		_, err = rival.Recv()
	}
	wantCode(t, wire.FromStatus(err), batch.CodeBadBatchID, "another caller")
	if _, err := r.openFor(f.as(t, "rival"), id, "S"); err != nil {
		t.Errorf("a stream of another flow with the same id: %v", err)
	}
	until(t, "both streams are open", func() bool { return len(r.openStreams()) == 2 })
	if owner := r.openStreams()[streamKey{"W", id}]; owner != "owner" {
		t.Errorf("the stream is that of %q", owner)
	}
	if _, err := r.openFor(ctx, id, "W"); err != nil {
		t.Errorf("the owner can't open its stream again: %v", err)
	}
	for err = nil; err == nil; { // credit may come first
		_, err = owned.Recv()
	}
	if !strings.Contains(wire.FromStatus(err).Error(), "opened its stream") {
		t.Errorf("the first call ends with %v", err)
	}
}

// TestExplainHidesKeys: where a row waits, and for which key of a store, is hidden from callers from whom the shard key is hidden; keys of stores
// are hidden from all from whom a field is hidden.
func TestExplainHidesKeys(t *testing.T) {
	var f accessFile
	all := access.Rights()
	seeing := []access.Right{access.View, access.Rows}
	f.add("everything", "S", all)
	f.add("viewer", "S", []access.Right{access.View})
	f.add("masked", "S", seeing, "ID")
	f.add("partly", "S", seeing, "card")
	r := newRig(t, func(c *Config) { c.AccessFile = f.write(t) })
	w := r.newWorker("w", "echo")
	w.locate = func(l *pb.Locate) *pb.Located {
		place := &pb.RowPlace{Where: "parked", Worker: w.record.ID, Coordinator: "another", Wait: "key", Connector: "C", Key: "card-4111"}
		return &pb.Located{Number: l.GetNumber(), Rows: []*pb.RowPlace{place}, Counts: []*pb.PlaceCount{{Where: "parked", Rows: 1, Others: true}}}
	}
	s := w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)
	call := r.callOn(f.as(t, "everything"), batch.NewStreamID(), "S", &pb.Submission{Sequence: 1, Rows: same(1)})
	p := s.part()
	for who, want := range map[string]struct {
		code batch.Code // of the call that asks for rows
		sent uint64
		key  string
	}{
		"everything": {0, 1, "card-4111"},
		"partly":     {0, 1, ""},
		"masked":     {batch.CodePermissionDenied, 0, ""},
		"viewer":     {batch.CodePermissionDenied, 0, ""},
	} {
		admin := pb.NewAdminClient(r.conn)
		e, err := admin.Explain(f.as(t, who), &pb.ExplainRequest{Flow: "S", Key: "101"})
		if err != nil || e.GetSent()+e.GetQueued()+e.GetHeld() != want.sent {
			t.Errorf("%s is told %v, %v", who, e, err)
		}
		e, err = admin.Explain(f.as(t, who), &pb.ExplainRequest{Flow: "S", Key: "101", Rows: true, Most: 10})
		if batch.CodeOf(wire.FromStatus(err)) != want.code {
			t.Errorf("%s asks for rows: %v", who, err)
			continue
		}
		if want.code == 0 && (len(e.GetRows()) == 0 || e.GetRows()[0].GetKey() != want.key) {
			t.Errorf("%s sees the rows %v", who, e.GetRows())
		}
	}
	s.done(p)
	r.answered(call)
}

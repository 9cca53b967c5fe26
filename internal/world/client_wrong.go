package world

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// misbehave sends messages that the protocol forbids, again and again, while the client's rows last.
func (s *submitter) misbehave(l *clientLife) {
	settings := s.w.secured()
	settings.Network, settings.ProbeSilence = l.net, true
	address, dial, err := transport.Resolve(s.w.coordinators(s.c.To))
	if err != nil {
		s.w.note(s.c.Name, "%v", err)
		return
	}
	conn, err := transport.Dial(address, settings, dial...)
	if err != nil {
		s.w.note(s.c.Name, "%v", err)
		return
	}
	defer conn.Close()
	ingest := pb.NewIngestClient(conn)
	for !s.exhausted() && l.pause(time.Duration(1000+s.chance(5000))*time.Millisecond) {
		s.wrongCall(l, ingest)
	}
}

// wrongCall makes one call that a coordinator has to refuse, and notes how.
func (s *submitter) wrongCall(l *clientLife, ingest pb.IngestClient) {
	ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
	defer cancel()
	call := history.Call{At: s.w.rec.Now(), Verb: "wrong", Coordinator: s.c.To}
	err := func() error {
		stream := batch.NewStreamID()
		submission := func() *pb.Submission {
			var c batch.Columns
			c.Append([]byte(`{"key":"wrong","n":1}`))
			return &pb.Submission{Sequence: 1, Floor: 1, Rows: wire.FromColumns(c)}
		}
		switch s.chance(8) {
		case 0:
			call.Subject = "a submission without rows"
			m := submission()
			m.Rows = nil
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: s.c.Flow, Stream: stream[:], Submission: m})
			return err
		case 1:
			call.Subject = "a stream id of 3 bytes"
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: s.c.Flow, Stream: stream[:3], Submission: submission()})
			return err
		case 2:
			call.Subject = "ends that go back"
			m := submission()
			m.Rows.Ends = []uint32{9, 3, 21}
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: s.c.Flow, Stream: stream[:], Submission: m})
			return err
		case 3:
			call.Subject = "no submission"
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: s.c.Flow, Stream: stream[:]})
			return err
		case 4:
			call.Subject = "a flow that is not there"
			_, err := ingest.Submit(ctx, &pb.SubmitRequest{Flow: "Nowhere", Stream: stream[:], Submission: submission()})
			return err
		case 5:
			call.Subject = "a stream that begins with a submission"
			return s.wrongStream(ctx, ingest, &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: submission()}})
		case 6:
			call.Subject = "a stream of a protocol from the future"
			return s.wrongStream(ctx, ingest, &pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{
				ProtocolMin: 900, ProtocolMax: 901, Flow: s.c.Flow, Stream: stream[:], Floor: 1,
			}}})
		default:
			call.Subject = "a stream of empty messages"
			return s.wrongStream(ctx, ingest, &pb.StreamRequest{})
		}
	}()
	if l.ctx.Err() != nil {
		return
	}
	if err != nil {
		err = wire.FromStatus(err)
		call.Code, call.Error = batch.CodeOf(err), err.Error()
	}
	s.w.rec.Called(call)
}

// wrongStream opens a stream with a message, and returns the error with which it ends.
func (s *submitter) wrongStream(ctx context.Context, ingest pb.IngestClient, first *pb.StreamRequest) error {
	stream, err := ingest.Stream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(first); err != nil {
		_, err = stream.Recv()
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// rows are JSON rows with these ids.
func rows(ids ...int) *pb.Columns {
	var c batch.Columns
	for _, id := range ids {
		c.Append(fmt.Appendf(nil, `{"id":%d}`, id))
	}
	return wire.FromColumns(c)
}

// sequence are n rows, with the ids from 0.
func sequence(n int) *pb.Columns {
	ids := make([]int, n)
	for id := range ids {
		ids[id] = id
	}
	return rows(ids...)
}

// texts are the rows of columns, split.
func texts(c *pb.Columns) []string {
	columns := wire.ToColumns(c)
	out := make([]string, columns.Len())
	for i := range out {
		out[i] = string(columns.Row(i))
	}
	return out
}

// unary is a Submit under way.
type unary struct {
	answer *pb.Answer
	err    error
}

func (r *rig) call(ctx context.Context, flow string, in *pb.Submission) <-chan unary {
	stream := batch.NewStreamID()
	return r.callOn(ctx, stream, flow, in)
}

func (r *rig) callOn(ctx context.Context, stream batch.StreamID, flow string, in *pb.Submission) <-chan unary {
	out := make(chan unary, 1)
	go func() {
		response, err := pb.NewIngestClient(r.conn).Submit(ctx, &pb.SubmitRequest{Flow: flow, Stream: stream[:], Submission: in})
		out <- unary{response.GetAnswer(), err}
	}()
	return out
}

// answered waits for a call's answer.
func (r *rig) answered(c <-chan unary) *pb.Answer {
	r.t.Helper()
	u := within(r.t, "an answer", c)
	if u.err != nil {
		r.t.Fatal(u.err)
	}
	return u.answer
}

// clientStream is a client's Stream call.
type clientStream struct {
	t      *testing.T
	id     batch.StreamID
	stream pb.Ingest_StreamClient
	opened *pb.Opened
	cancel context.CancelFunc
	credit *pb.Credit // sum of all that came
}

// open opens a stream and reads up to the first credit.
func (r *rig) open(flow string) *clientStream { return r.openAs(batch.NewStreamID(), flow) }

func (r *rig) openAs(id batch.StreamID, flow string) *clientStream {
	r.t.Helper()
	s, err := r.tryOpen(id, flow)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) tryOpen(id batch.StreamID, flow string) (*clientStream, error) {
	r.t.Helper()
	return r.tryOpenWith(&pb.Open{Flow: flow, Stream: id[:]})
}

// openUnanswered opens a stream that has batches to send again.
func (r *rig) openUnanswered(id batch.StreamID, flow string) *clientStream {
	r.t.Helper()
	s, err := r.tryOpenWith(&pb.Open{Flow: flow, Stream: id[:], Unanswered: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) tryOpenWith(o *pb.Open) (*clientStream, error) {
	r.t.Helper()
	o.ProtocolMin, o.ProtocolMax = 1, 3
	s, err := r.begin(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: o}})
	if err != nil {
		return nil, err
	}
	s.id = batch.StreamID(o.GetStream())
	m, err := s.stream.Recv()
	if err != nil {
		return nil, err
	}
	if s.opened = m.GetOpened(); s.opened == nil {
		r.t.Fatalf("the first message is %v", m)
	}
	if m = s.next(); m.GetCredit() == nil {
		r.t.Fatalf("the second message is %v", m)
	}
	return s, nil
}

// begin opens a call with that first message.
func (r *rig) begin(first *pb.StreamRequest) (*clientStream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	stream, err := pb.NewIngestClient(r.conn).Stream(ctx)
	if err != nil {
		return nil, err
	}
	_ = stream.Send(first) // Recv says why
	return &clientStream{t: r.t, stream: stream, cancel: cancel, credit: &pb.Credit{}}, nil
}

func (s *clientStream) submit(in *pb.Submission) {
	s.t.Helper()
	if err := s.stream.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: in}}); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next message; credit is added up.
func (s *clientStream) next() *pb.StreamResponse {
	s.t.Helper()
	m, err := s.stream.Recv()
	if err != nil {
		s.t.Fatalf("the stream ended: %v", wire.FromStatus(err))
	}
	s.credit.Rows += m.GetCredit().GetRows()
	s.credit.Bytes += m.GetCredit().GetBytes()
	return m
}

// answer is the next answer that says more than on which revision its batch runs.
func (s *clientStream) answer() *pb.Answer {
	s.t.Helper()
	for {
		a := s.next().GetAnswer()
		if a.GetLast() || a.GetRefused() != nil || a.GetOutput() != nil || len(a.GetFinished())+len(a.GetNotDone()) > 0 {
			return a
		}
	}
}

// ends waits for the end of the call and returns why.
func (s *clientStream) ends() error {
	for {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
}

func fromStatus(err error) error { return wire.FromStatus(err) }

// applying is an Apply call.
type applying struct {
	t      *testing.T
	stream pb.Admin_ApplyClient
}

func (r *rig) apply(dry bool, docs ...definition.Document) *applying {
	r.t.Helper()
	in := &pb.ApplyRequest{DryRun: dry}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	stream, err := pb.NewAdminClient(r.conn).Apply(ctx, in)
	if err != nil {
		r.t.Fatal(err)
	}
	return &applying{r.t, stream}
}

func (a *applying) next() *pb.ApplyEvent {
	a.t.Helper()
	e, err := a.stream.Recv()
	if err != nil {
		a.t.Fatalf("apply ended: %v", wire.FromStatus(err))
	}
	return e
}

// ends reads to the end and returns why; nil for a good one.
func (a *applying) ends() error {
	for {
		if _, err := a.stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

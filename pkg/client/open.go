package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// open asks a coordinator to take the stream, and waits for its answer, for WithOpenTimeout at most. leaving is the session that a moving
// stream is to leave: then only a coordinator with less than its share of streams takes the stream, and open fails when that session ends.
// leaving is nil if the stream has no session.
func (s *Stream) open(leaving *session) (*session, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	attached := func() bool { return true }
	if leaving != nil {
		attached = context.AfterFunc(leaving.ctx, cancel)
	}
	timeout := s.client.options.open
	timer := time.AfterFunc(timeout, cancel)
	remote, response, err := s.ask(ctx, leaving != nil)
	opened := response.GetOpened()
	switch inTime, inSession := timer.Stop(), attached(); {
	case !inSession:
		err = batch.Errorf(batch.CodeUnavailable, "the connection from which the stream was to move has ended")
	case !inTime && s.ctx.Err() == nil:
		err = batch.Errorf(batch.CodeUnavailable, "no coordinator took the stream within %s", timeout)
	case err != nil:
		err = endError(err)
	case opened == nil:
		err = batch.Errorf(batch.CodeBadMessage, "the coordinator's first message is not Opened: check its address and its build")
	case opened.GetProtocol() != wire.Protocol:
		err = batch.Errorf(batch.CodeProtocolMismatch, "coordinator %s chose protocol %d, this client speaks %d: use builds that share one",
			opened.GetCoordinator(), opened.GetProtocol(), wire.Protocol)
	}
	active, defect := wire.ToRevision(opened.GetRevision(), opened.GetDigest())
	if err = cmp.Or(err, defect); err != nil {
		cancel()
		return nil, err
	}
	return &session{
		stream: s, remote: remote, opened: opened, active: active, ctx: ctx, cancel: cancel,
		over: make(chan struct{}), asked: make(chan int, 1),
	}, nil
}

// ask sends the first request of a gRPC stream and waits for the first response. moving says that the stream has a coordinator already and
// is to move.
func (s *Stream) ask(ctx context.Context, moving bool) (rpc, *pb.StreamResponse, error) {
	remote, err := s.client.ingest.Stream(ctx, maxAnswerOption)
	if err != nil {
		return nil, nil, s.client.unreachable(wire.FromStatus(err))
	}
	// The error of Send is ignored, because Recv then returns one that has the reason.
	_ = remote.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol,
		Flow: s.flow, Stream: s.producer.id[:], Floor: s.producer.floor(time.Now()), Unanswered: s.hasUnanswered(), Moving: moving,
		TakesBytes: maxAnswerBytes,
	}}})
	response, err := remote.Recv()
	return remote, response, err
}

// hasUnanswered reports whether a batch waits for its answer.
func (s *Stream) hasUnanswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unanswered) > 0
}

// endError turns the error with which gRPC reports that the coordinator ended a stream, or that its connection broke, into one with a
// code. gRPC reports an end without a reason as io.EOF.
func endError(err error) error {
	if errors.Is(err, io.EOF) {
		return batch.Errorf(batch.CodeUnavailable, "the coordinator ended the stream")
	}
	return wire.FromStatus(err)
}

package coordinator

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// whyClosed returns the error with which the coordinator refuses all batches now; nil means that it takes batches.
func (i *ingest) whyClosed() error {
	switch {
	case isClosed(i.draining):
		return refuse.Draining()
	case !isClosed(i.ready):
		return batch.Errorf(batch.CodeUnavailable, "this coordinator has just started and does not know the flows from etcd yet: try again, or submit to another coordinator")
	case i.board.Load().CutOff:
		return batch.Errorf(batch.CodeUnavailable, "this coordinator can't reach most workers: submit to another coordinator, the same batch if it was sent before")
	}
	return nil
}

// submission makes the submission of a batch that a client sent: it finds the batch's revision, checks the batch, and sets everything that
// the scheduler and the answers need. takes is how many bytes the client accepts in one message. single says that the batch came with the
// call Submit, and not on a stream. An error means that the whole batch is refused.
func (i *ingest) submission(ctx context.Context, flow string, stream batch.StreamID, in *pb.Submission, takes int, single bool) (*submission, error) {
	r, err := i.revisions.revision(ctx, flow, in, single)
	if err != nil {
		return nil, err
	}
	s, err := newSubmission(r, i.limits, flow, stream, in, time.Now())
	if err != nil {
		return nil, err
	}
	s.holdBack(&i.failed)
	if i.took != nil {
		s.took = i.took.WithLabelValues(flow)
	}
	s.fitAnswersTo(takes, i.limits)
	s.trace(i.tracer, in.GetTraceParent())
	s.letters, s.reportOnly, s.keepsDead = i.letters, in.GetReportOnly(), i.letters.store != nil && !in.GetReportOnly()
	return s, nil
}

// refused makes a submission that stands for a batch of a stream that was refused, so that its answer and its credit go to the client in
// the same way as for other batches. spent is the batch's size. The submission has no rows.
func refused(in *pb.Submission, spent size) *submission {
	return &submission{id: batch.ID{Sequence: in.GetSequence()}, spent: spent, ownTold: true}
}

// refusedCall returns what the method Submit returns for a batch that was refused before any row ran: a gRPC error, or an answer. Some
// codes, as a gRPC error, would leave open whether rows ran; a refusal with one of these goes into an answer.
func refusedCall(in *pb.Submission, err error) (*pb.SubmitResponse, error) {
	if !wire.LeavesOpen(batch.CodeOf(err)) {
		return nil, wire.Status(err)
	}
	return &pb.SubmitResponse{Answer: &pb.Answer{Sequence: in.GetSequence(), Refused: wire.FromError(err), Last: true}}, nil
}

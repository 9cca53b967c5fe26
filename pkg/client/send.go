package client

import (
	"errors"
	"io"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// leaveTimeout is how long a session waits for the coordinator to end the gRPC stream after the client has ended its half.
const leaveTimeout = time.Second

// send sends batches until the connection breaks, or until all are answered and the stream is closed or about to move. It returns an error
// only if gRPC has closed the connection because it could not send a batch. A broken connection is no error of send: receive returns the
// reason.
func (at *session) send() error {
	s := at.stream
	for {
		p, message, err := s.next()
		if err != nil {
			s.complete(p, err)
			continue
		}
		if p == nil {
			if s.finished() || s.readyToMove() {
				at.leave()
				return nil
			}
			select {
			case <-s.work:
				continue
			case <-at.over:
				return nil
			}
		}
		switch err := at.remote.Send(message); {
		case err == nil:
		case errors.Is(err, io.EOF) || s.ctx.Err() != nil:
			return nil
		default:
			// gRPC could not encode the message, would fail again the next time, and has ended the session over it.
			s.complete(p, wire.FromStatus(err))
			return batch.Errorf(batch.CodeUnavailable, "the connection was closed because a batch can't be sent: %w", err)
		}
	}
}

// next takes the first batch out of the outbox, if there is credit, and makes the message that sends it. On the way it ends batches whose
// Timeout is over. If the Pending is nil, there is nothing to send now. An error is about the returned batch, which can't be sent: it was
// within the limits of the coordinator that the stream had before, and is over those of this one.
func (s *Stream) next() (*Pending, *pb.StreamRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.outbox) > 0 && s.outbox[0].late(now) {
		s.endLate(s.outbox[0])
		s.outbox = s.outbox[1:]
	}
	if len(s.outbox) == 0 || s.moving || !s.credit.positive() {
		return nil, nil, nil
	}
	p := s.outbox[0]
	s.outbox[0] = nil // so that the batch can be collected when it is done
	s.outbox = s.outbox[1:]
	s.queued = s.queued.minus(sizeOf(&p.columns))
	if err := exceeds(&p.columns, s.limits); err != nil {
		pointOverLimit.Hit()
		return p, nil, err
	}
	if p.positioned() && !s.positions {
		return p, nil, errNoPositions()
	}
	s.credit = s.credit.minus(sizeOf(&p.columns))
	p.begin(s.revision)
	return p, &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: p.submission(s.producer.floor(now), now)}}, nil
}

// exceeds returns an error if the batch is over the limits of a coordinator for the bytes or the rows of a batch.
func exceeds(c *batch.Columns, l batch.Limits) error {
	l = l.WithDefaults()
	switch {
	case len(c.Data) > l.BatchBytes:
		return batch.Errorf(batch.CodeBatchTooLarge, "the batch has %d bytes, over the limit of %d bytes of the coordinator that the stream has now: "+
			"raise --max-batch-bytes there and submit the batch again, or send smaller ones", len(c.Data), l.BatchBytes)
	case c.Len() > l.BatchRows:
		return batch.Errorf(batch.CodeTooManyRows, "the batch has %d rows, over the limit of %d rows of the coordinator that the stream has now: "+
			"raise --max-batch-rows there and submit the batch again, or send smaller ones", c.Len(), l.BatchRows)
	}
	return nil
}

// leave tells the coordinator that nothing more will come, and waits for leaveTimeout until it ends the gRPC stream. Cancelling the stream
// at once would look like a failure there.
func (at *session) leave() {
	if at.remote.CloseSend() != nil {
		return // the connection is broken anyway
	}
	timer := time.NewTimer(leaveTimeout)
	defer timer.Stop()
	select {
	case <-at.over:
	case <-timer.C:
	}
}

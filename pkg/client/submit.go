package client

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Submit runs one batch and blocks until each of its rows has an outcome. Rows that are not done are in the result, not in
// the error. What was refused for now, and what broke on the way, is tried again under the same batch id, as long as ctx and
// WithRetryFor allow. An error that matches ErrUnanswered means that the batch may have taken effect, and that submitting b
// again tells; any other that nothing of it ran. A call waits while with it this client's calls to the flow would have more than
// 8 MiB under way, rows and 12 bytes beside each. One error comes beside a result, which is complete but for its output:
// CodeBatchTooLarge, where the output does not fit into one answer. A Stream has no such limit.
//
// A batch with failed rows may be submitted again too: all its rows run again. Batches that belong to an ended Stream of this
// client, or to another client, may be submitted here.
func (c *Client) Submit(ctx context.Context, flow string, b *Batch, opts ...SubmitOption) (_ *Result, err error) {
	p, err := newPending(ctx, b, opts)
	if err != nil {
		return nil, err
	}
	p.trace(ctx, c.options.tracer, flow)
	defer func() { p.endTrace(err) }()
	if p.columns.Len() == 0 {
		return nil, batch.Errorf(batch.CodeEmptyBatch, "the batch has no rows: send at least one")
	}
	producer := c.producer(flow, b.ID())
	if p.id, err = producer.begin(b, flow, time.Now()); err != nil {
		return nil, err
	}
	for tries := c.options.retries(); ; {
		nothingRan, err := c.try(ctx, flow, producer, p)
		if err == nil {
			producer.answered(p.id.Sequence, p.result)
			p.arrange()
			return p.result, p.omitted
		}
		if !nothingRan {
			producer.doubt(p.id.Sequence)
		}
		delay, again := tries.next(time.Now(), err)
		if again && batch.CodeOf(err).Retryable() && c.pause(ctx, delay) {
			continue
		}
		if code := batch.CodeOf(err); ctx.Err() != nil && (code == batch.CodeCancelled || code == batch.CodeDeadline) {
			err = ended(ctx, "the call ended") // gRPC's error does not match the context's
		}
		return nil, producer.failed(p.id.Sequence, fmt.Errorf("try %d: %w", tries.count, err))
	}
}

// retold is how often a call that was told of another revision is made again at once. Once is enough where coordinators agree;
// where they don't yet, the next tries have a pause between them.
const retold = 2

// try makes one call, and again at once where that was told of another revision: the one that the coordinator has from etcd,
// whichever number is the greater. Beside an error it tells whether it is certain that nothing of the batch ran.
func (c *Client) try(ctx context.Context, flow string, producer *producer, p *Pending) (nothingRan bool, err error) {
	for range 1 + retold {
		nothingRan, err = c.call(ctx, flow, producer, p)
		if batch.CodeOf(err) != batch.CodeRevisionChanged || c.revision(flow) == p.revision {
			return nothingRan, err
		}
	}
	return nothingRan, err
}

// revision is what new batches of the flow run on, as far as this client knows; zero: it does not.
func (c *Client) revision(flow string) batch.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revisions[flow]
}

func (c *Client) setRevision(flow string, revision batch.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revisions[flow] = revision
}

// callBytes bounds what calls to one flow have under way: a coordinator hangs up on who sends too much at a time, and unlike
// streams calls have no credit that tells. It is one batch of the greatest size by default.
const callBytes = 8 << 20

// callSize is what a call counts: its rows, and each one's end and key, which weigh more than small rows do.
func callSize(c *batch.Columns) int64 { return min(int64(len(c.Data)+12*c.Len()), callBytes) }

// room is where calls to a flow wait for each other. Other flows' don't: theirs may have what this one's wait for.
func (c *Client) room(flow string) *semaphore.Weighted {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms[flow] == nil {
		c.rooms[flow] = semaphore.NewWeighted(callBytes)
	}
	return c.rooms[flow]
}

func (c *Client) call(ctx context.Context, flow string, producer *producer, p *Pending) (nothingRan bool, err error) {
	room, takes := c.room(flow), callSize(&p.columns)
	if room.Acquire(ctx, takes) != nil {
		return true, ended(ctx, "not sent")
	}
	defer room.Release(takes)
	select {
	case <-c.closed:
		return true, errClientClosed
	case <-ctx.Done():
		return true, ended(ctx, "not sent")
	default:
	}
	p.begin(c.revision(flow))
	var to peer.Peer
	now := time.Now()
	response, err := c.ingest.Submit(ctx, &pb.SubmitRequest{
		Flow: flow, Stream: p.id.Stream[:], Submission: p.submission(producer.floor(now), now),
	}, grpc.Peer(&to))
	switch {
	case err == nil:
	case to.Addr == nil: // without a peer there was nobody to send to
		return true, c.unreachable(wire.FromStatus(err))
	case refused(err):
		return true, wire.FromStatus(err)
	default:
		p.pin()
		return false, wire.FromStatus(err)
	}
	answer := response.GetAnswer()
	revision, err := wire.ToRevision(answer.GetRevision(), answer.GetDigest())
	if err != nil {
		p.pin()
		return false, err
	}
	if r := answer.GetRefused(); r != nil {
		if batch.Code(r.GetCode()) == batch.CodeRevisionChanged {
			c.setRevision(flow, revision)
		}
		return true, wire.ToError(r)
	}
	p.batch.PinTo(revision)
	p.omitted = wire.ToError(answer.GetOutputOmitted())
	return false, p.add(answer, nil)
}

// pause waits before the next try. It does not when the context would be over by then.
func (c *Client) pause(ctx context.Context, delay time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return false
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.closed:
	}
	return false
}

// refused reports whether the error of a call is a coordinator's word that it ran nothing: one that carries our own code,
// unless that says that the coordinator stopped half way.
func refused(err error) bool {
	s, _ := status.FromError(err)
	if s.Code() == codes.Unimplemented {
		return true
	}
	for _, d := range s.Details() {
		e, ok := d.(*pb.Error)
		if !ok {
			continue
		}
		switch batch.Code(e.GetCode()) {
		case batch.CodeInternal, batch.CodeDeadline, batch.CodeCancelled, batch.CodeShutdown, batch.CodeUnavailable:
			return false
		}
		return true
	}
	return false
}

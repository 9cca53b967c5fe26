package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Submit runs one batch and blocks until each of its rows has an outcome, or ctx is over. Rows that are not done are in the
// result, not in the error. What was refused for now, and what broke on the way, is tried again under the same batch id, as
// long as ctx, Timeout and WithRetryFor allow. An error that matches ErrUnanswered means that the batch may have taken effect,
// in this call or an earlier one, and that submitting b again tells; any other that nothing of it ever ran. A call waits while
// with it this client's calls to the flow would have more than 8 MiB under way, rows and 12 bytes beside each. One error comes
// beside a result, which is complete but for its output: CodeBatchTooLarge, where the output does not fit into one answer. A
// Stream has no such limit.
//
// A batch with failed rows may be submitted again too: all its rows run again. Batches that belong to an ended Stream of this
// client, or to another client, may be submitted here.
func (c *Client) Submit(ctx context.Context, flow string, b *Batch, opts ...SubmitOption) (*Result, error) {
	if err := checkFlow(flow); err != nil {
		return nil, b.Judge(err)
	}
	if err := given(ctx, "Submit"); err != nil {
		return nil, b.Judge(err)
	}
	p, err := newPending(ctx, b, unlimited, opts)
	if err != nil {
		return nil, b.Judge(err)
	}
	p.trace(ctx, c.options.tracer, flow)
	f := c.enter(flow)
	defer c.leave(flow, f)
	if err := c.submit(ctx, flow, f, p); err != nil {
		err = b.Judge(err)
		p.endTrace(err)
		return nil, err
	}
	p.arrange()
	p.endTrace(p.omitted)
	return p.result, p.omitted
}

// submit makes calls until one is answered, or further ones make no sense.
func (c *Client) submit(ctx context.Context, flow string, f *calls, p *Pending) (err error) {
	if ctx.Err() != nil {
		return ended(ctx, "not sent")
	}
	producer := c.producerOf(f, p.batch.ID())
	if p.id, err = producer.begin(p.batch, flow, time.Now()); err != nil {
		return err
	}
	for tries := c.options.retries(); ; {
		nothingRan, err := c.try(ctx, flow, f, producer, p)
		if err == nil {
			producer.answered(p.batch, flow, p.result)
			c.forget(producer)
			return nil
		}
		if !nothingRan {
			p.batch.Doubt(flow)
		}
		delay, again := tries.next(time.Now(), err)
		if again = again && batch.CodeOf(err).Retryable(); again && p.late(time.Now().Add(delay)) {
			again, err = false, p.errLate(err)
		}
		if again && c.pause(ctx, delay) {
			continue
		}
		switch code := batch.CodeOf(err); {
		case ctx.Err() == nil:
		case code == batch.CodeCancelled || code == batch.CodeDeadline:
			err = ended(ctx, "the call ended") // gRPC's error does not match the context's
		default:
			err = fmt.Errorf("%w; it was not tried again: %w", err, context.Cause(ctx))
		}
		return producer.failed(p.batch, flow, fmt.Errorf("try %d: %w", tries.count, err), false)
	}
}

// retold is how often a call that was told of another revision is made again at once. Once is enough where coordinators agree;
// where they don't yet, the next tries have a pause between them.
const retold = 2

// try makes one call, and again at once where that was told of another revision: the one that the coordinator has from etcd,
// whichever number is the greater. Beside an error it tells whether it is certain that nothing of the batch ran.
func (c *Client) try(ctx context.Context, flow string, f *calls, producer *producer, p *Pending) (nothingRan bool, err error) {
	for range 1 + retold {
		nothingRan, err = c.call(ctx, flow, f, producer, p)
		if batch.CodeOf(err) != batch.CodeRevisionChanged || c.revision(f) == p.revision {
			return nothingRan, err
		}
	}
	return nothingRan, err
}

// errStale ends a call whose batch has not left when its Timeout is over: it is not to run any more.
var errStale = errors.New("the batch's Timeout is over")

func (c *Client) call(ctx context.Context, flow string, f *calls, producer *producer, p *Pending) (nothingRan bool, err error) {
	on := new(trip)
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, tripKey{}, on))
	defer cancel(nil)
	if p.timed {
		defer time.AfterFunc(time.Until(p.deadline), func() {
			if on.left.Load() == 0 {
				cancel(errStale)
			}
		}).Stop()
	}
	defer func() {
		if err != nil && nothingRan && errors.Is(context.Cause(ctx), errStale) {
			err = p.errLate(err)
		}
	}()
	takes := callSize(&p.columns)
	if f.room.Acquire(ctx, takes) != nil {
		return true, ended(ctx, "not sent")
	}
	defer f.room.Release(takes)
	select {
	case <-c.closed:
		return true, errClientClosed
	case <-ctx.Done():
		return true, ended(ctx, "not sent")
	default:
	}
	now := time.Now()
	if p.late(now) {
		return true, p.errLate(nil)
	}
	p.begin(c.revision(f))
	response, err := c.ingest.Submit(ctx, &pb.SubmitRequest{
		Flow: flow, Stream: p.id.Stream[:], Submission: p.submission(producer.floor(now), now),
		TakesBytes: takesBytes,
	}, takesMost)
	left := on.left.Load()
	if left > 0 {
		p.batch.Sent()
	}
	switch {
	case err == nil:
	case left == 0:
		return true, c.unreachable(wire.FromStatus(err))
	case on.answered.Load():
		p.pin()
		return false, unreadable(wire.FromStatus(err))
	case refused(err, left):
		return true, wire.FromStatus(err)
	default:
		p.pin()
		return false, c.cutShort(ctx, wire.FromStatus(err))
	}
	answer := response.GetAnswer()
	revision, err := wire.ToRevision(answer.GetRevision(), answer.GetDigest())
	if err != nil {
		p.pin()
		return false, err
	}
	if r := answer.GetRefused(); r != nil {
		if batch.Code(r.GetCode()) == batch.CodeRevisionChanged {
			c.setRevision(f, revision)
		}
		return true, wire.ToError(r)
	}
	p.batch.PinTo(revision)
	return false, p.add(answer, nil)
}

// cutShort is the error of a call that was cancelled. Where nobody did so here the coordinator has, such as one that shuts down and
// waits for no call whose message is still on its way: that is as good as a broken connection, and the call is made again.
func (c *Client) cutShort(ctx context.Context, err error) error {
	select {
	case <-c.closed:
		return err
	default:
	}
	if batch.CodeOf(err) != batch.CodeCancelled || ctx.Err() != nil {
		return err
	}
	return batch.Errorf(batch.CodeUnavailable, "the coordinator ended the call: %w", err)
}

// unreadable is the error of a call whose answer came and could not be taken: splitting the batch would run its rows again.
func unreadable(err error) error {
	if batch.CodeOf(err) != batch.CodeBatchTooLarge {
		return err
	}
	return batch.Errorf(batch.CodeBatchTooLarge, "the answer is over the limit for what this client takes in one message: submit the same batch again with NoOutput, or on a Stream: %w", err)
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

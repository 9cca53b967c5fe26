package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Submit runs one batch. It blocks until each row has an outcome, or ctx is over. Rows that are not done are in the result, not in the
// error. A call that was refused for now, or whose connection broke, is repeated under the same batch id, as long as ctx, Timeout
// and WithRetryFor allow. An error that matches ErrUnanswered means that the batch may have taken effect, in this call or an earlier
// one, and that submitting b again tells; any other error means that no row of it ever ran.
//
// A call waits while this client's calls to the flow would have more than 8 MiB under way with it, counting the rows and 12 bytes for
// each. One error comes beside a result: CodeBatchTooLarge, if the output does not fit into one answer. The result is then complete
// except for its output. A Stream has no such limit.
//
// A batch with failed rows may be submitted again, too: all its rows run again. Batches that belong to an ended Stream of this client, or
// to another client, may also be submitted here.
func (c *Client) Submit(ctx context.Context, flow string, b *Batch, opts ...SubmitOption) (*Result, error) {
	if err := checkFlow(flow); err != nil {
		return nil, b.Judge(err)
	}
	if err := checkContext(ctx, "Submit"); err != nil {
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

// submit gives the batch its id and repeats calls until one is answered, until an error comes that another call would not change, or until
// ctx, Timeout or WithRetryFor leave no time for another call.
func (c *Client) submit(ctx context.Context, flow string, f *flowCalls, p *Pending) (err error) {
	if ctx.Err() != nil {
		return contextError(ctx, "not sent")
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
			pointRepeated.Hit()
			continue
		}
		switch code := batch.CodeOf(err); {
		case ctx.Err() == nil:
		case code == batch.CodeCancelled || code == batch.CodeDeadline:
			err = contextError(ctx, "the call ended") // because gRPC's error does not match the context's
		default:
			err = fmt.Errorf("%w; the call was not repeated: %w", err, context.Cause(ctx))
		}
		return producer.failed(p.batch, flow, fmt.Errorf("try %d: %w", tries.count, err), false)
	}
}

// revisionTries is how often try repeats a call at once because the coordinator named another revision than the call did. Once would be
// enough if all coordinators had the same active revision. While they don't, further tries have a pause between them.
const revisionTries = 2

// try makes one call. It repeats the call at once, up to revisionTries times, if the coordinator refused it because it has another revision
// than the call named. The new call names that one, even if its number is lower. If err is not nil, nothingRan says that certainly no row
// of the batch ran in these calls.
func (c *Client) try(ctx context.Context, flow string, f *flowCalls, producer *producer, p *Pending) (nothingRan bool, err error) {
	for range 1 + revisionTries {
		nothingRan, err = c.call(ctx, flow, f, producer, p)
		if batch.CodeOf(err) != batch.CodeRevisionChanged || c.revision(f) == p.revision {
			return nothingRan, err
		}
		pointRevision.Hit()
	}
	return nothingRan, err
}

// errTimeoutOver is the cause with which a call is cancelled if the batch's Timeout is over before its request has left this process.
var errTimeoutOver = errors.New("the batch's Timeout is over")

// call makes one call to a coordinator:
//
//  1. It waits for room among the flow's calls.
//  2. It sends the request, unless the batch is late.
//  3. On an error it decides, by the progress of the call, whether rows may have run. If so, it pins the batch to its revision.
//  4. It takes over the answer: a refusal, or the outcomes.
func (c *Client) call(ctx context.Context, flow string, f *flowCalls, producer *producer, p *Pending) (nothingRan bool, err error) {
	progress := new(callProgress)
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, progressKey{}, progress))
	defer cancel(nil)
	if p.timed {
		defer time.AfterFunc(time.Until(p.deadline), func() {
			if progress.left.Load() == 0 {
				cancel(errTimeoutOver)
			}
		}).Stop()
	}
	defer func() {
		if err != nil && nothingRan && errors.Is(context.Cause(ctx), errTimeoutOver) {
			err = p.errLate(err)
		}
	}()
	bytes := callSize(&p.columns)
	if f.room.Acquire(ctx, bytes) != nil {
		return true, contextError(ctx, "not sent")
	}
	defer f.room.Release(bytes)
	select {
	case <-c.closed:
		return true, errClientClosed
	case <-ctx.Done():
		return true, contextError(ctx, "not sent")
	default:
	}
	now := time.Now()
	if p.late(now) {
		return true, p.errLate(nil)
	}
	p.begin(c.revision(f))
	response, err := c.ingest.Submit(ctx, p.request(flow, producer.floor(now), now), maxAnswerOption)
	left := progress.left.Load()
	if left > 0 {
		p.batch.Sent()
	}
	switch {
	case err == nil:
	case left == 0:
		pointNeverLeft.Hit()
		return true, c.unreachable(wire.FromStatus(err))
	case progress.answered.Load():
		pointUnread.Hit()
		p.pin()
		return false, unreadable(wire.FromStatus(err))
	case refused(err, left):
		pointNothingRan.Hit()
		return true, wire.FromStatus(err)
	default:
		pointUnknown.Hit()
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

// cutShort changes the error of a call that was cancelled, if neither the caller nor Close cancelled it. Then the coordinator did: a
// coordinator that shuts down ends calls whose request is still on its way. That is the same as a broken connection, so the error becomes
// UNAVAILABLE, and the call is repeated. cutShort returns any other error as it is.
func (c *Client) cutShort(ctx context.Context, err error) error {
	select {
	case <-c.closed:
		return err
	default:
	}
	if batch.CodeOf(err) != batch.CodeCancelled || ctx.Err() != nil {
		return err
	}
	pointShutDown.Hit()
	return batch.Errorf(batch.CodeUnavailable, "the coordinator ended the call: %w", err)
}

// unreadable is the error of a call whose answer began to come and could not be read. If the answer is too large for the client, the error
// says what to do; any other error stays as it is. The message does not advise to split the batch, because rows in another batch would take
// effect twice.
func unreadable(err error) error {
	if batch.CodeOf(err) != batch.CodeBatchTooLarge {
		return err
	}
	return batch.Errorf(batch.CodeBatchTooLarge, "the answer is over the limit for one message that this client takes: submit the same batch again with NoOutput, or on a Stream: %w", err)
}

// pause waits for delay, before the next try, and then returns true. It returns false if there must not be a next try: because the context
// is over, or would be over after delay, or because the client was closed.
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

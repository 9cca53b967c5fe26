package client

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v5"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// ErrUnanswered matches every error that leaves open what became of a batch: it may have taken effect in part or in full, in the
// call that returned the error or in an earlier one, of this client or of another. Submitting the same Batch again tells, and is
// as safe as any rerun of its rows. Any other error about a batch means that nothing of it ever ran. Beside it the chain holds
// the *Error with the reason.
var ErrUnanswered = batch.ErrUnanswered

var errClientClosed = batch.Errorf(batch.CodeCancelled, "the client was closed: dial a new one")

// ended is the error of a context that is over, so that both its code and the context's own error can be asked for.
func ended(ctx context.Context, doing string) error {
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "%s: %w", doing, context.Cause(ctx))
}

// given is the error of a call whose context is nil; nil if it is not.
func given(ctx context.Context, call string) error {
	if ctx == nil {
		return batch.Errorf(batch.CodeBadMessage, "%s: the context is nil: pass context.Background(), or one that ends", call)
	}
	return nil
}

// maxFlowName bounds, in bytes, the name of a flow: what a batch has beside its rows is bounded by 4 KiB.
const maxFlowName = 3 << 10

// checkFlow says what is wrong with the name of a flow that can't be sent.
func checkFlow(flow string) error {
	switch {
	case len(flow) > maxFlowName:
		return batch.Errorf(batch.CodeUnknownFlow, "no flow has a name of %d bytes, which begins with %q: names have %d at most", len(flow), flow[:64], maxFlowName)
	case !utf8.ValidString(flow):
		return batch.Errorf(batch.CodeUnknownFlow, "no flow is named %q, which is no UTF-8: give the name as it stands in the flow's document", flow)
	}
	return nil
}

// unreachable adds to the error of a call that found no coordinator what to look at.
func (c *Client) unreachable(err error) error {
	if batch.CodeOf(err) != batch.CodeUnavailable {
		return err
	}
	return fmt.Errorf("no coordinator can be reached at %s, check that address and that one runs there: %w", c.target, err)
}

// hopeless reports whether a batch refused with the code will always be.
func hopeless(c batch.Code) bool {
	switch c {
	case batch.CodeEmptyBatch, batch.CodeBadColumns, batch.CodeBatchTooLarge, batch.CodeTooManyRows, batch.CodeMissingKeys,
		batch.CodeBadBatchID, batch.CodeBatchIDReused, batch.CodeBadMessage:
		return true
	}
	return false
}

// retries spaces the tries of one call, or those of a stream to find a coordinator. It belongs to one goroutine.
type retries struct {
	limit time.Duration
	delay backoff.ExponentialBackOff
	first time.Time // of the failures; zero before any
	count int
}

func (o *options) retries() *retries {
	return &retries{limit: o.retryFor, delay: backoff.ExponentialBackOff{
		InitialInterval: o.firstDelay, MaxInterval: o.maxDelay, Multiplier: 2, RandomizationFactor: 0.5,
	}}
}

// next says how long to wait after a failure before trying again, and whether that is still within the limit.
func (r *retries) next(now time.Time, err error) (time.Duration, bool) {
	if r.count == 0 {
		r.first = now
	}
	r.count++
	delay := r.delay.NextBackOff()
	if e, ok := errors.AsType[*batch.Error](err); ok {
		delay = max(delay, e.RetryAfter)
	}
	return delay, now.Add(delay).Sub(r.first) <= r.limit
}

// reset forgets the failures after a success.
func (r *retries) reset() {
	r.count = 0
	r.delay.Reset()
}

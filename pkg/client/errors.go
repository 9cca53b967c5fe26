package client

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// ErrUnanswered matches every error that leaves open how a batch ended: it may have taken effect in part or in full, in the
// call that returned the error or in an earlier one, of this client or of another. Submit the same Batch again to find out; that is as
// safe as any other repetition of its rows. Any other error about a batch means that no row of it ever ran. The chain of an error that
// matches ErrUnanswered also holds the *Error with the reason.
var ErrUnanswered = batch.ErrUnanswered

var (
	errClientClosed = batch.Errorf(batch.CodeCancelled, "the client was closed: dial a new one")
	errStreamClosed = batch.Errorf(batch.CodeCancelled, "the stream was closed: open a new one")
)

// contextError is the error of a call whose context ended while it was doing something; doing says what. It has the code CANCELLED or
// DEADLINE, and the context's cause in its chain.
func contextError(ctx context.Context, doing string) error {
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "%s: %w", doing, context.Cause(ctx))
}

// checkContext returns an error if the context that was passed to a method is nil. call is the method's name.
func checkContext(ctx context.Context, call string) error {
	if ctx == nil {
		return batch.Errorf(batch.CodeBadMessage, "%s: the context is nil: pass context.Background(), or a context that ends", call)
	}
	return nil
}

// maxFlowName is the limit for the name of a flow, in bytes. Coordinators take 4 KiB beside the rows of a batch.
const maxFlowName = 3 << 10

// checkFlow returns an error if flow can't be the name of a flow: because it is too long for a message, or not valid UTF-8.
func checkFlow(flow string) error {
	switch {
	case len(flow) > maxFlowName:
		return batch.Errorf(batch.CodeUnknownFlow, "the name of a flow has %d bytes, and begins with %q: names have %d bytes at most", len(flow), flow[:64], maxFlowName)
	case !utf8.ValidString(flow):
		return batch.Errorf(batch.CodeUnknownFlow, "the name of a flow, %q, is not valid UTF-8: write it as the flow's document does", flow)
	}
	return nil
}

// unreachable adds the target's address to an error with the code UNAVAILABLE, because the call reached no coordinator, and the
// address is the first thing to check. It returns other errors as they are.
func (c *Client) unreachable(err error) error {
	if batch.CodeOf(err) != batch.CodeUnavailable {
		return err
	}
	return fmt.Errorf("no coordinator can be reached at %s: check that address and that a coordinator runs there: %w", c.target, err)
}

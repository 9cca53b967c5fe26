// Package refuse has the errors with which a coordinator turns a call away, or ends it, for reasons of its own. Each says what the
// client should do next.
package refuse

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// retryAfter is how long a client should wait before it asks an overloaded coordinator again.
const retryAfter = 200 * time.Millisecond

// Draining is the error that refuses a batch or a call because the coordinator is about to stop. Its code is SHUTDOWN.
func Draining() error {
	return batch.Errorf(batch.CodeShutdown, "this coordinator is shutting down: submit to another coordinator, the same batch if it was sent before")
}

// Stopped is the error that ends a call because the coordinator's scheduler has ended. Rows of the call may have run. Its code is SHUTDOWN.
func Stopped() error {
	return batch.Errorf(batch.CodeShutdown, "this coordinator has stopped; batches under way may have taken effect: submit the same batches to another coordinator")
}

// CutOff is the error that ends a stream or a call because the coordinator reaches too few workers. Rows of the stream or call may have
// run. Its code is UNAVAILABLE.
func CutOff() error {
	return batch.Errorf(batch.CodeUnavailable, "this coordinator can't reach most workers; batches under way may have taken effect: submit the same batches to another coordinator")
}

// Overloaded is the error that refuses a stream or a call because the coordinator's budget of bytes has no room for it. No row of it ran.
// Its code is OVERLOADED.
func Overloaded() error {
	e := batch.Errorf(batch.CodeOverloaded, "the coordinator's budget of rows under way is used up: try again, or run more coordinators")
	e.RetryAfter = retryAfter
	return e
}

// Untaken is the error that ends a stream because its client reads answers so slowly that the unread ones have used up the coordinator's
// budget. Its code is OVERLOADED.
func Untaken() error {
	e := batch.Errorf(batch.CodeOverloaded, "the client takes its answers too slowly, and the answers that wait for it have used up the coordinator's budget: "+
		"submit the same batches again, and read answers while you send")
	e.RetryAfter = retryAfter
	return e
}

// Shed is the error that tells a client why the output of a batch is missing, although its rows have outcomes: the coordinator's budget had
// no room for the output. Its code is BATCH_TOO_LARGE.
func Shed() *batch.Error {
	return batch.Errorf(batch.CodeBatchTooLarge, "the output of the flow used up the coordinator's budget of answers, and is left out: "+
		"each row has its outcome and need not run again; for output of this size submit fewer rows at once, on a stream, or raise --budget-bytes")
}

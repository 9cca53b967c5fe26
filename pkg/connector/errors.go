package connector

import (
	"context"
	"errors"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Ended is the error of a call to the named connector whose ctx is over: doing says what it was about.
func Ended(ctx context.Context, name, doing string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return batch.Errorf(batch.CodeDeadline,
			"connector %s: the caller's time was up while %s: %w; allow more time, or see what keeps it", name, doing, ctx.Err())
	}
	return batch.Errorf(batch.CodeCancelled, "connector %s: the caller gave up while %s: %w", name, doing, ctx.Err())
}

// Closed is the error of a call to the named connector whose connection is closed.
func Closed(name string) error {
	return batch.Errorf(batch.CodeConnectorUnavailable,
		"connector %s: its connection is closed, because the process is ending or the connector's document changed; try again", name)
}

// TooOld is the error of a Save to the named connector for a batch older than the once-window.
func TooOld(name string, c *Cause, window time.Duration) error {
	return batch.Errorf(batch.CodeBatchTooOld, "connector %s: batch %s was first submitted more than %v ago, the connector's once-window: "+
		"nobody knows any more which of its effects took place; see what is there, and submit only what is missing", name, c.Batch, window)
}

// GivenUp is the error of a Save to the named connector for a batch below the floor of its stream.
func GivenUp(name string, c *Cause) error {
	return batch.Errorf(batch.CodeBatchGivenUp, "connector %s: batch %s lies below the floor of its stream: its producer has its answer, or gave it up, "+
		"so nothing more of it takes effect; see what is there, and submit only what is missing", name, c.Batch)
}

package connector

import (
	"context"
	"errors"

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

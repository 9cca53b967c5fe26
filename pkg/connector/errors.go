package connector

import (
	"context"
	"errors"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Ended makes the error of a call whose ctx is over, with CodeDeadline or CodeCancelled. name is the name of the connector;
// doing describes the call, such as "saving".
func Ended(ctx context.Context, name, doing string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return batch.Errorf(batch.CodeDeadline,
			"connector %s: the caller's time was up while %s: %w; allow more time, or look for the reason of the delay", name, doing, ctx.Err())
	}
	return batch.Errorf(batch.CodeCancelled, "connector %s: the caller gave up while %s: %w", name, doing, ctx.Err())
}

// Closed makes the error of a call over a connection that is closed. name is the name of the connector.
func Closed(name string) error {
	return batch.Errorf(batch.CodeConnectorUnavailable,
		"connector %s: its connection is closed, because the process is ending or the connector's document changed; try again", name)
}

// TooOld makes the error of a Save for a batch that is older than the once-window. name is the name of the connector.
func TooOld(name string, c *Cause, window time.Duration) error {
	return batch.Errorf(batch.CodeBatchTooOld, "connector %s: batch %s was first submitted more than %v ago, the connector's once-window: "+
		"which of its effects took place is no longer known; look at the data, and submit only the rows that are missing", name, c.Batch, window)
}

// GivenUp makes the error of a Save for a batch that lies below the floor of its stream. name is the name of the connector.
func GivenUp(name string, c *Cause) error {
	return batch.Errorf(batch.CodeBatchGivenUp, "connector %s: batch %s lies below the floor of its stream: its producer has its answer, or gave it up, "+
		"so nothing more of it takes effect; look at the data, and submit only the rows that are missing", name, c.Batch)
}

// Superseded makes the error of a Save for a log of which a later term has begun. name is the name of the connector.
func Superseded(name string, l *Log) error {
	return batch.Errorf(batch.CodeLogSuperseded, "connector %s: term %d of log %s is over: another reader has begun a later one and sends these rows, "+
		"so nothing more of this term takes effect; stop reading the log", name, l.Term, l.ID)
}

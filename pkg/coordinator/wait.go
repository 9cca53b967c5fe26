package coordinator

import (
	"context"
	"time"
)

// sleep blocks for a duration. It returns false when ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// isClosed reports whether a channel, on which nothing is sent, is closed. It does not block.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

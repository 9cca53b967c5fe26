package coordinator

import (
	"context"
	"time"
)

// sleep blocks for a duration and returns true. If ctx is done first, it returns false at once.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// isClosed reports whether c is closed. Nothing may ever be sent on c. isClosed does not block.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

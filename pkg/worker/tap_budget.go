package worker

import (
	"sync"
	"sync/atomic"
	"time"
)

// tapBudget bounds the time that all taps of a worker use, lanes included, to tapShare of one processor. The time is measured: by the clock of the
// wall, which runs at least as fast as the processor's. A single row may use more than is left; then nothing is copied until that is made up for.
// Any goroutine may use it.
type tapBudget struct {
	left  atomic.Int64 // nanoseconds that may be used now; negative if too many were used
	spent atomic.Int64 // nanoseconds that were used since the worker began

	mu   sync.Mutex
	last time.Time // guarded by mu: when refill was called last
}

const (
	tapShare = 100                   // taps may use one part in so many of one processor's time
	tapSaved = 10 * time.Millisecond // the most time that may be saved for later
)

// spend notes that a tap has used some time.
func (b *tapBudget) spend(d time.Duration) {
	b.left.Add(-int64(d))
	b.spent.Add(int64(d))
}

// refill adds the time that may be used since refill was called last.
func (b *tapBudget) refill(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() || now.Before(b.last) {
		b.last = now
		b.left.CompareAndSwap(0, int64(tapSaved))
		return
	}
	more := min(int64(now.Sub(b.last))/tapShare, int64(tapSaved)-b.left.Load())
	b.last = now
	if more > 0 {
		b.left.Add(more)
	}
}

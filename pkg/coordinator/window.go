package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A stream starts with a small window, which grows while it is used to the full, in batches that are not tiny, and the budget
// allows.
const (
	firstWindowBytes = 512 << 10
	firstWindowRows  = 8192
	maxWindowBytes   = 8 << 20
	maxGrowBatches   = 1024    // under way: each costs what neither its bytes nor its rows tell
	batchCost        = 1 << 10 // about that much, which clients have no credit for: it is overdrawn where a window lacks it
)

// window is what a client stream may have unanswered.
type window struct {
	budget  *budget
	answers *heldAnswers // answers; it allows as much as the window has bytes

	mu         sync.Mutex
	size       int64     // guarded by mu: bytes of credit given to the client; 0 once closed
	lent       int64     // guarded by mu: of size, given back to the budget while nothing is under way; the rest is reserved
	idleSince  time.Time // guarded by mu: since when nothing is under way; zero while nothing ever was
	overdrawn  int64     // guarded by mu: bytes reserved beyond, while the window is overdrawn and the budget counts it so
	batchWaits bool      // guarded by mu: a batch waits for its place, and is not under way yet
	batches    int       // guarded by mu: under way
	rows       int64     // guarded by mu: credit left; below zero when overdrawn
	bytes      int64     // guarded by mu
}

// openWindow reserves a first window; nil when the budget is used up.
func openWindow(b *budget) *window {
	if !b.reserve(firstWindowBytes) {
		return nil
	}
	w := &window{
		budget: b, answers: &heldAnswers{budget: b, allowance: firstWindowBytes},
		size: firstWindowBytes, rows: firstWindowRows, bytes: firstWindowBytes,
	}
	b.mu.Lock()
	b.windows[w] = struct{}{}
	b.mu.Unlock()
	return w
}

// lendAfter is how long nothing must have been under way in a window before others may have what it holds.
const lendAfter = time.Second

// lend gives back what the window reserved, if its client does not use it, so that streams which only stay open keep nobody out.
// The client keeps its credit: a batch that comes all the same waits for its place, if need be.
func (w *window) lend(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.batches > 0 || w.batchWaits || w.lent == w.size || !w.idleSince.IsZero() && now.Sub(w.idleSince) < lendAfter {
		return false
	}
	w.budget.release(w.size-w.lent, false)
	w.lent = w.size
	return true
}

// recall reserves again what was lent, if it is there. The caller holds the lock.
func (w *window) recall() {
	if w.lent > 0 && w.budget.reserveAbove(w.lent, 0) {
		w.lent = 0
	}
}

// spend takes a batch's size from the credit. It may be overdrawn by one batch, which waits for its place in the budget:
// after that there is no credit to spend. A batch also waits for what batches cost beside their size, where the window lacks it.
func (w *window) spend(ctx context.Context, b size) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rows <= 0 || w.bytes <= 0 {
		return batch.Errorf(batch.CodeBadMessage, "a batch came without credit: wait for the coordinator's Credit before sending more")
	}
	for {
		w.recall()
		// While it waits it counts for nothing: the window would be overdrawn until then, and wait for itself.
		need := max(0, debt(w.batches+1, w.bytes-w.lent-b.bytes)-w.overdrawn)
		var wait <-chan struct{}
		if need > 0 {
			wait = w.budget.overdraw(need, w.overdrawn > 0)
		}
		if wait == nil {
			w.batches++
			w.rows -= b.rows
			w.bytes -= b.bytes
			w.overdrawn += need
			w.balance() // the window may be closed
			return nil
		}
		w.batchWaits = true
		w.budget.addWaiting(1)
		w.mu.Unlock()
		var left error
		select {
		case <-wait:
		case <-ctx.Done():
			left = context.Cause(ctx)
		}
		w.mu.Lock()
		w.batchWaits = false
		w.budget.addWaiting(-1)
		if left != nil {
			return left
		}
	}
}

// debt is what so many batches need beyond a window in which so many bytes are left.
func debt(batches int, bytes int64) int64 { return max(0, int64(batches)*batchCost-bytes) }

// balance gives back what was reserved beyond the debt that is left, all of it once the window is closed. The caller holds
// the lock.
func (w *window) balance() {
	need := debt(w.batches, w.bytes-w.lent)
	if w.size == 0 {
		need = 0
	}
	if w.overdrawn > need {
		w.budget.release(w.overdrawn-need, need == 0)
		w.overdrawn = need
	}
}

// restore gives a batch's size back and returns what the client is to be credited.
func (w *window) restore(b size) (credit size) {
	w.mu.Lock()
	defer w.mu.Unlock()
	credit = b
	w.recall()
	full := w.bytes < w.size/4 || w.rows < w.size/(4*firstWindowBytes/firstWindowRows)
	if full && w.lent == 0 && w.batches <= maxGrowBatches && w.size < maxWindowBytes && !w.answers.allow(w.size) && w.budget.grow(w.size) {
		credit.bytes += w.size
		credit.rows += w.size / (firstWindowBytes / firstWindowRows)
		w.size *= 2
		w.answers.allow(w.size)
	}
	if w.batches--; w.batches == 0 {
		w.idleSince = time.Now()
	}
	w.rows += credit.rows
	w.bytes += credit.bytes
	w.balance()
	if w.batchWaits {
		w.budget.release(0, false) // what waits may fit into the window now
	}
	return credit
}

// blocks reports whether the window is overdrawn, and batches of others, which may not be while it is, wait for their place.
func (w *window) blocks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	others := w.budget.waiters()
	if w.batchWaits {
		others--
	}
	return w.overdrawn > 0 && others > 0
}

// use is how large the window is, and how much of it is used.
func (w *window) use() windowUse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return windowUse{size: w.size, used: w.size - w.bytes}
}

// windowUse is bytes of windows.
type windowUse struct{ size, used int64 }

// close gives the budget back what the window reserved.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers.close()
	w.budget.mu.Lock()
	delete(w.budget.windows, w)
	w.budget.mu.Unlock()
	w.budget.release(w.size-w.lent, false)
	w.size, w.lent = 0, 0
	w.balance()
}

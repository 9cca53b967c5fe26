package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A stream begins with a small window. The window doubles when the client uses all of it, with batches that are not tiny, and the budget
// has room.
const (
	firstWindowBytes = 512 << 10 // bytes of credit with which a stream begins
	firstWindowRows  = 8192      // rows of credit with which a stream begins
	maxWindowBytes   = 8 << 20   // the greatest size of a window, in bytes
	maxGrowBatches   = 1024      // a window does not grow while more batches than this are under way, because each costs memory that its size does not show
	batchCost        = 1 << 10   // number of bytes, about, that a batch costs beside its rows; clients have no credit for them, so the window may be overdrawn by them
)

// window bounds how many rows and bytes one client stream may have unanswered. The client is granted credit for that much; a batch spends
// credit, and its answer restores it. The bytes are reserved in the coordinator's budget. Any goroutine may use it: its methods lock mu.
type window struct {
	budget  *budget
	answers *heldAnswers // the answers that the client has not read; their allowance is the window's size

	mu         sync.Mutex
	size       int64     // guarded by mu: bytes of credit that the client was given; 0 once the window is closed
	lent       int64     // guarded by mu: the part of size that was lent back to the budget while no batch is under way; the rest is reserved
	idleSince  time.Time // guarded by mu: since when no batch is under way; zero while none ever was
	overdrawn  int64     // guarded by mu: bytes that are reserved beyond size; above 0 the budget counts the window as overdrawn
	batchWaits bool      // guarded by mu: a batch waits for room in the budget, and is not under way yet
	batches    int       // guarded by mu: how many batches are under way
	rows       int64     // guarded by mu: credit that is left, in rows; below zero when overdrawn
	bytes      int64     // guarded by mu: credit that is left, in bytes; below zero when overdrawn
}

// openWindow makes the window of a new stream and reserves firstWindowBytes for it. It returns nil if the budget does not have them.
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

// lendAfter is for how long no batch of a window must have been under way before the window lends its bytes.
const lendAfter = time.Second

// lend gives the window's reserved bytes back to the budget and returns true, if the window has been idle for lendAfter, so that idle
// streams keep no other client out. The client keeps its credit; its next batch waits for room in the budget, if need be. lend returns
// false if the window is in use or has nothing to lend.
func (w *window) lend(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.batches > 0 || w.batchWaits || w.lent == w.size || !w.idleSince.IsZero() && now.Sub(w.idleSince) < lendAfter {
		return false
	}
	pointWindowLent.Hit()
	w.budget.release(w.size-w.lent, false)
	w.lent = w.size
	return true
}

// recall reserves the bytes again that the window has lent, if the budget has room for all of them. The caller holds mu.
func (w *window) recall() {
	if w.lent > 0 && w.budget.reserveAbove(w.lent, 0) {
		w.lent = 0
	}
}

// spend takes the size b of a batch from the credit, and blocks until the budget has room for the batch. A batch may overdraw the credit;
// then the client has none left until an answer restores some. A batch also needs batchCost, for which it may overdraw the window. spend
// fails if ctx is done, or if the client has no credit left.
func (w *window) spend(ctx context.Context, b size) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rows <= 0 || w.bytes <= 0 {
		return batch.Errorf(batch.CodeBadMessage, "a batch came without credit: wait for the coordinator's Credit before sending more")
	}
	for {
		w.recall()
		// A batch that waits is not counted yet. If it were, the window would be overdrawn meanwhile and wait for itself.
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
			w.balance() // gives all back if the window was closed meanwhile
			return nil
		}
		pointWindowWaits.Hit()
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

// debt returns how many bytes a window has to be overdrawn by, so that it holds the costs of batches, its batches under way, too. bytes is
// how many bytes the window has left without these costs.
func debt(batches int, bytes int64) int64 { return max(0, int64(batches)*batchCost-bytes) }

// balance gives those bytes back to the budget by which the window is overdrawn and need not be any more; once the window is closed, all of
// them. The caller holds mu.
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

// restore gives the size b of a batch back to the window, after its last answer, and returns the credit to grant to the client. If the
// window has grown, that is more than the batch spent.
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
		w.budget.release(0, false) // a batch that waits may fit into the window now
	}
	return credit
}

// blocks reports whether this window is overdrawn while batches of other windows wait for room. They may wait because of it.
func (w *window) blocks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	others := w.budget.waitingWindows()
	if w.batchWaits {
		others--
	}
	return w.overdrawn > 0 && others > 0
}

// use returns the window's size in bytes, and how many of them batches under way use.
func (w *window) use() windowUse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return windowUse{size: w.size, used: w.size - w.bytes}
}

// windowUse is the size in bytes of one window, or of several together, and how many of these bytes are used. More than size may be used,
// since windows may be overdrawn.
type windowUse struct{ size, used int64 }

// close closes the window, because its stream has ended, and gives all bytes that it has reserved back to the budget.
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

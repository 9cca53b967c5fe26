package coordinator

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
)

// budget is how many bytes all clients together may make the coordinator hold: the windows of streams, the batches by which windows are
// overdrawn, the calls with one batch, and the answers that clients have not read. Two things are not in it: each stream may hold one
// message that waits for room, and workers may make answers for up to half of the budget more before they wait for clients. Any goroutine
// may use it; it blocks nobody.
type budget struct {
	// size is the whole budget, in bytes. It does not change.
	size int64

	mu        sync.Mutex
	left      int64                // guarded by mu: bytes that are free; below zero when a batch was admitted that did not fit
	overdrawn int                  // guarded by mu: how many windows are overdrawn
	waiting   int                  // guarded by mu: how many windows have a batch that waits until bytes become free
	calls     int                  // guarded by mu: how many calls, redrives among them, wait until rows have ended
	windows   map[*window]struct{} // guarded by mu: the windows of open streams
	freed     chan struct{}        // guarded by mu: closed, and replaced by a new channel, when bytes become free
}

// newBudget makes a budget of size bytes, all of them free.
func newBudget(size int64) *budget {
	return &budget{size: size, left: size, freed: make(chan struct{}), windows: map[*window]struct{}{}}
}

// reserve takes bytes out of the budget, and returns true. If they are not free, it first makes idle windows lend theirs. If they are still
// not free, it takes nothing and returns false.
func (b *budget) reserve(bytes int64) bool {
	return b.reserveAbove(bytes, 0) || b.reclaim(bytes) && b.reserveAbove(bytes, 0)
}

// reclaim makes idle windows lend their bytes until at least bytes are free. It returns true if any window has lent some.
func (b *budget) reclaim(bytes int64) (some bool) {
	b.mu.Lock()
	windows, now := slices.Collect(maps.Keys(b.windows)), time.Now()
	b.mu.Unlock()
	for _, w := range windows {
		if b.remaining() >= bytes {
			break
		}
		some = w.lend(now) || some
	}
	return some
}

// grow takes bytes out of the budget for a window that grows. Growing is not urgent, so grow returns false, and takes nothing, if less than
// half of the budget would stay free.
func (b *budget) grow(bytes int64) bool { return b.reserveAbove(bytes, b.size/2) }

// reserveAbove takes bytes out of the budget, and returns true, if at least floor bytes stay free. Otherwise it returns false.
func (b *budget) reserveAbove(bytes, floor int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left-bytes < floor {
		return false
	}
	b.left -= bytes
	return true
}

// overdraw takes out the bytes that a batch needs beyond its window, if they are free, and returns nil. Otherwise it returns a channel that
// is closed when bytes become free. While no window is overdrawn the bytes need not be free: otherwise windows that together hold the whole
// budget would wait for each other. counted says that the budget counts the window as overdrawn already.
func (b *budget) overdraw(bytes int64, counted bool) (wait <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < bytes && b.overdrawn > 0 {
		return b.freed
	}
	b.left -= bytes
	if !counted {
		b.overdrawn++
	}
	return nil
}

// release gives bytes back to the budget and wakes batches that wait for room. balanced says that the window which gives them back was
// overdrawn and is not any more.
func (b *budget) release(bytes int64, balanced bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += bytes
	if balanced {
		b.overdrawn--
	}
	close(b.freed)
	b.freed = make(chan struct{})
}

// heldAnswers counts the bytes of one client's answers that the client has not read. A worker's result can't be refused, so these bytes are
// taken out of the budget even when it has no room; then windows do not grow, and calls are not admitted. When the budget is used up, a
// client that holds more than its allowance has its output dropped, or its stream ended. Two kinds of clients are spared:
//
//   - A call is never ended: its rows have run, and would run again each time that the client calls again. Its output is dropped.
//   - A stream is not ended because of results whose worker waits for clients itself (see untakenResults).
type heldAnswers struct {
	budget *budget
	// dropOutput drops the client's output. It returns false if that can't be done, so that the client's stream has to be ended. A nil
	// dropOutput counts as one that returns false. It is called without the lock and must not block.
	dropOutput func() bool
	// end ends the client's stream. It is called at most once, without the lock, and must not block.
	end func(error)

	allowance int64 // guarded by budget.mu: bytes that may be held although the budget is used up
	held      int64 // guarded by budget.mu: bytes that are held
	ended     bool  // guarded by budget.mu: nothing is counted any more
}

// hold counts the bytes of an answer that is made for the client. waits says that the answer's worker makes no more results until the
// client has read it. If the client holds too many bytes, hold has its output dropped, or its stream ended. It does not block.
func (u *heldAnswers) hold(bytes int64, waits bool) {
	b := u.budget
	b.mu.Lock()
	if u.ended {
		b.mu.Unlock()
		return
	}
	b.left -= bytes
	u.held += bytes
	full := !waits && u.exceeded()
	b.mu.Unlock()
	if !full || u.dropOutput != nil && u.dropOutput() {
		return
	}
	u.close()
	u.end(refuse.Untaken())
}

// exceeded reports whether the budget is overdrawn and this client's unread answers take more bytes than its allowance. The caller holds
// the budget's lock.
func (u *heldAnswers) exceeded() bool { return !u.ended && u.budget.left < 0 && u.held > u.allowance }

// blocks reports whether this client's unread answers are a reason why the budget has no room for other clients: the budget is overdrawn,
// and they take more than the client's allowance.
func (u *heldAnswers) blocks() bool {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	return u.exceeded()
}

// take stops counting the bytes of an answer, because the client has read it.
func (u *heldAnswers) take(bytes int64) {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	if !u.ended {
		u.held -= bytes
		u.budget.refund(bytes)
	}
}

// allow sets how many bytes of unread answers the client may hold when the budget is used up. It returns true if the client holds that many
// already.
func (u *heldAnswers) allow(bytes int64) (reached bool) {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	u.allowance = bytes
	return u.held >= bytes
}

// close stops counting for good, and gives the bytes of all unread answers back to the budget.
func (u *heldAnswers) close() {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	if !u.ended {
		u.ended = true
		u.budget.refund(u.held)
	}
}

// refund gives the bytes of answers back to the budget, and wakes batches that wait for room. The caller holds the budget's lock.
func (b *budget) refund(bytes int64) {
	b.left += bytes
	if b.overdrawn > 0 && bytes > 0 { // otherwise no goroutine waits for free bytes
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

// addWaiting adds n to the number of windows that have a batch which waits for room: 1 for one more, -1 for one less.
func (b *budget) addWaiting(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += n
}

// addCall adds n to the number of calls that wait until rows have ended: 1 for one more, -1 for one less.
func (b *budget) addCall(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls += n
}

// hasCalls reports whether any call waits until rows have ended.
func (b *budget) hasCalls() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls > 0
}

// waitingWindows returns how many windows have a batch that waits for room.
func (b *budget) waitingWindows() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// remaining returns how many bytes are free; it is below zero if the budget is overdrawn.
func (b *budget) remaining() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// ReserveCall takes the cost of a call out of the budget; rows is how many rows, or for Apply documents, the call holds, and bytes
// is their size together. If the budget has no room, ok is false and release is nil. Otherwise the caller must call release once.
func (b *budget) ReserveCall(rows, bytes int) (release func(), ok bool) {
	cost := callCost(rows, bytes)
	if !b.reserve(cost) {
		return nil, false
	}
	return func() { b.release(cost, false) }, true
}

// AwaitRows notes that a call waits until rows have ended. The caller calls done once when it does not wait any more.
func (b *budget) AwaitRows() (done func()) {
	b.addCall(1)
	return func() { b.addCall(-1) }
}

// callCost returns how many bytes a call takes out of the budget; rows is the number of its rows or documents, and bytes is their size
// together. Nothing bounds the number of calls, so each pays for its own costs beside its rows.
func callCost(rows, bytes int) int64 { return 4<<10 + 12*int64(rows) + int64(bytes) }

package coordinator

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
)

// budget is how many bytes of rows the process lets clients have under way: windows of streams, what overdraws them,
// unary calls, and answers that their clients have not taken yet. Beside it a stream holds one message at most, which waits
// for its place here; and answers may come to half of it more, which is what workers make before they wait for clients.
type budget struct {
	size int64

	mu        sync.Mutex
	left      int64                // guarded by mu; below zero when a batch was let in that did not fit
	overdrawn int                  // guarded by mu: windows that are overdrawn
	waiting   int                  // guarded by mu: windows with a batch that waits for its place
	calls     int                  // guarded by mu: calls that wait for rows, redrives among them
	windows   map[*window]struct{} // guarded by mu: windows of streams
	freed     chan struct{}        // guarded by mu; closed and replaced when bytes come back
}

func newBudget(size int64) *budget {
	return &budget{size: size, left: size, freed: make(chan struct{}), windows: map[*window]struct{}{}}
}

// reserve takes bytes out, all or nothing. Where they are not there, idle windows lend theirs.
func (b *budget) reserve(bytes int64) bool {
	return b.reserveAbove(bytes, 0) || b.reclaim(bytes) && b.reserveAbove(bytes, 0)
}

// reclaim has idle windows lend what they hold, until so many bytes are left, and reports whether any did.
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

// grow is reserve for those who can do without: half of the budget stays for those who can't.
func (b *budget) grow(bytes int64) bool { return b.reserveAbove(bytes, b.size/2) }

func (b *budget) reserveAbove(bytes, floor int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left-bytes < floor {
		return false
	}
	b.left -= bytes
	return true
}

// overdraw takes out what a batch needs beyond its window, if it is there; else it returns what is closed when bytes come back.
// While no window is overdrawn it need not be there: else windows that together hold the whole budget would wait for each
// other. counted: the window is counted as overdrawn already.
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

// release gives bytes back. With balanced, they are the last of those by which a window was overdrawn.
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

// untaken counts the bytes of answers that wait for their client to take them. A worker's result can't be refused: so they
// are taken out of the budget even if it has no more, and windows grow, and calls are let in, the less. When it is used up, who
// holds more than its allowance lets go of output, or is ended: its batches are safe, as its client may submit them again. A call
// is never ended so: its rows have run, and would run again, and again. Nor is any stream for results whose workers make no more than
// there is room for until clients have taken them.
type heldAnswers struct {
	budget *budget
	shed   func() bool // has the holder let go of output; false: it can't, and is to be ended. Nil: it never can. As end is called
	end    func(error) // called at most once, without the lock; it does not block

	allowance int64 // guarded by budget.mu
	held      int64 // guarded by budget.mu
	ended     bool  // guarded by budget.mu: end was called, or nobody counts any more
}

// hold counts an answer; waits: its worker waits until it is taken. It does not block.
func (u *heldAnswers) hold(bytes int64, waits bool) {
	b := u.budget
	b.mu.Lock()
	if u.ended {
		b.mu.Unlock()
		return
	}
	b.left -= bytes
	u.held += bytes
	full := !waits && u.full()
	b.mu.Unlock()
	if !full || u.shed != nil && u.shed() {
		return
	}
	u.close()
	u.end(refuse.Untaken())
}

// full reports whether more is held than is allowed, and the budget used up. The caller holds the lock.
func (u *heldAnswers) full() bool { return !u.ended && u.budget.left < 0 && u.held > u.allowance }

// blocks reports whether others find the budget used up by what is held.
func (u *heldAnswers) blocks() bool {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	return u.full()
}

// take says that the client took an answer.
func (u *heldAnswers) take(bytes int64) {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	if !u.ended {
		u.held -= bytes
		u.budget.refund(bytes)
	}
}

// allow sets what may be held although the budget is used up, and reports whether as much is held now.
func (u *heldAnswers) allow(bytes int64) (reached bool) {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	u.allowance = bytes
	return u.held >= bytes
}

// close gives the budget back what is held.
func (u *heldAnswers) close() {
	u.budget.mu.Lock()
	defer u.budget.mu.Unlock()
	if !u.ended {
		u.ended = true
		u.budget.refund(u.held)
	}
}

// refund gives bytes of answers back. The caller holds the lock.
func (b *budget) refund(bytes int64) {
	b.left += bytes
	if b.overdrawn > 0 && bytes > 0 { // nobody waits otherwise
		close(b.freed)
		b.freed = make(chan struct{})
	}
}

// waiting counts a window in or out whose batch waits for its place.
func (b *budget) addWaiting(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += n
}

// call counts a call in or out, which waits for rows.
func (b *budget) call(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls += n
}

// called reports whether a call waits for rows.
func (b *budget) called() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls > 0
}

// waiters are the windows with a batch that waits for its place.
func (b *budget) waiters() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// remaining is what is left.
func (b *budget) remaining() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// ReserveCall takes out what a call with so many rows or documents, of so many bytes together, may hold. It returns false where the budget
// has no room. The caller calls release once.
func (b *budget) ReserveCall(rows, bytes int) (release func(), ok bool) {
	cost := callCost(rows, bytes)
	if !b.reserve(cost) {
		return nil, false
	}
	return func() { b.release(cost, false) }, true
}

// AwaitRows notes a call that waits for rows to end, until done is called.
func (b *budget) AwaitRows() (done func()) {
	b.call(1)
	return func() { b.call(-1) }
}

// callCost is what a unary call takes out of the budget: nobody counts how many there are, so each pays for itself.
func callCost(rows, bytes int) int64 { return 4<<10 + 12*int64(rows) + int64(bytes) }

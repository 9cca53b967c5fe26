package coordinator

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
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

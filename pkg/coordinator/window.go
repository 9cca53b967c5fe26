package coordinator

import (
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// budget is how many bytes of rows the process lets clients have under way.
type budget struct {
	mu   sync.Mutex
	left int64 // guarded by mu
}

// reserve takes bytes out, all or nothing.
func (b *budget) reserve(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < bytes {
		return false
	}
	b.left -= bytes
	return true
}

func (b *budget) release(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += bytes
}

// A stream starts with a small window, which grows while it is used to the full and the budget allows.
const (
	firstWindowBytes = 512 << 10
	firstWindowRows  = 8192
	maxWindowBytes   = 8 << 20
)

// window is what a client stream may have unanswered.
type window struct {
	budget *budget

	mu    sync.Mutex
	size  int64 // guarded by mu: bytes reserved from budget
	rows  int64 // guarded by mu: credit left; below zero when overdrawn
	bytes int64 // guarded by mu
}

// openWindow reserves a first window; nil when the budget is used up.
func openWindow(b *budget) *window {
	if !b.reserve(firstWindowBytes) {
		return nil
	}
	return &window{budget: b, size: firstWindowBytes, rows: firstWindowRows, bytes: firstWindowBytes}
}

// spend takes a batch's size from the credit. It may be overdrawn by one batch: after that there is none to spend.
func (w *window) spend(rows, bytes int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rows <= 0 || w.bytes <= 0 {
		return batch.Errorf(batch.CodeBadMessage, "a batch came without credit: wait for the coordinator's Credit before sending more")
	}
	w.rows -= int64(rows)
	w.bytes -= int64(bytes)
	return nil
}

// restore gives a batch's size back and returns what the client is to be credited.
func (w *window) restore(rows, bytes int) (creditRows, creditBytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	creditRows, creditBytes = int64(rows), int64(bytes)
	full := w.bytes < w.size/4 || w.rows < w.size/(4*firstWindowBytes/firstWindowRows)
	if full && w.size < maxWindowBytes && w.budget.reserve(w.size) {
		creditBytes += w.size
		creditRows += w.size / (firstWindowBytes / firstWindowRows)
		w.size *= 2
	}
	w.rows += creditRows
	w.bytes += creditBytes
	return creditRows, creditBytes
}

// close gives the budget back what the window reserved.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.budget.release(w.size)
	w.size = 0
}

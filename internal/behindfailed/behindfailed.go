// Package behindfailed holds back rows of a log that stand behind a failed row of their key, so that rows of one key take effect in the order
// of the log although a row that failed comes again later.
package behindfailed

import (
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	// forgetAfter is how long a failed row holds others back at most, from when it failed last. Its reader has gone if it did not come again.
	forgetAfter = time.Hour
	// minSweep is the number of failed rows below which none is forgotten.
	minSweep = 1024
)

// Rows are the failed rows of logs that have not come again. The zero value has none. It is safe for concurrent use, and its methods do not
// block.
type Rows struct {
	mu      sync.Mutex
	failed  map[place]mark // guarded by mu
	sweepAt int            // the number of failed rows at which old ones are forgotten; guarded by mu
}

// place is a key of a log, by its hash.
type place struct {
	flow string
	log  batch.LogID
	key  uint64
}

// mark is the first failed row of a place.
type mark struct {
	position uint64
	at       time.Time // when it failed last
}

// Failed notes that the row of a key at a position has failed.
func (r *Rows) Failed(flow string, log batch.LogID, key, position uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := place{flow, log, key}
	if old, there := r.failed[p]; there && old.position < position {
		position = old.position
	}
	if r.failed == nil {
		r.failed, r.sweepAt = map[place]mark{}, minSweep
	}
	r.failed[p] = mark{position, now}
	if len(r.failed) < r.sweepAt {
		return
	}
	for p, m := range r.failed {
		if now.Sub(m.at) > forgetAfter {
			delete(r.failed, p)
		}
	}
	r.sweepAt = max(minSweep, 2*len(r.failed))
}

// Begin is called for each row of a log, in the order of its key, before it runs. It returns the position of the failed row that holds the row
// back, and false if there is none. A failed row that comes again, or one before it, or a floor that has passed it, ends the holding back.
func (r *Rows) Begin(flow string, p *batch.Positions, key, position uint64) (failed uint64, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) == 0 {
		return 0, false
	}
	at := place{flow, p.Log, key}
	m, there := r.failed[at]
	switch {
	case !there:
		return 0, false
	case position <= m.position || p.Floor > m.position:
		delete(r.failed, at)
		return 0, false
	}
	return m.position, true
}

// Outcome returns the outcome of a row that is held back by the failed row at a position.
func Outcome(row uint32, failed uint64) batch.RowOutcome {
	return batch.RowOutcome{Row: row, Outcome: batch.Failed, Code: batch.CodeBehindFailed, Reason: batch.Errorf(batch.CodeBehindFailed,
		"the row has not begun, because an earlier row of its key, at position %d of its log, failed: send both again, in order", failed).Message}
}

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

// mark is the first failed row of a place, in one term of the log: the reader of a later term begins before it.
type mark struct {
	term     uint64
	position uint64
	at       time.Time // when it failed last
}

// Failed notes that the row of a key at a position has failed, in the log and the term of its batch.
func (r *Rows) Failed(flow string, of *batch.Positions, key, position uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := place{flow, of.Log, key}
	switch old, there := r.failed[p]; {
	case there && old.term > of.Term:
		return // its reader is superseded
	case there && old.term == of.Term:
		position = min(position, old.position)
	}
	if r.failed == nil {
		r.failed, r.sweepAt = map[place]mark{}, minSweep
	}
	r.failed[p] = mark{of.Term, position, now}
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
// back, and false if there is none. A failed row that comes again, or one before it, or a floor that has passed it, or a later term ends the
// holding back. A superseded reader changes nothing.
func (r *Rows) Begin(flow string, p *batch.Positions, key, position uint64) (failed uint64, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) == 0 {
		return 0, false
	}
	at := place{flow, p.Log, key}
	m, there := r.failed[at]
	switch {
	case !there || p.Term < m.term:
		return 0, false
	case p.Term > m.term || position <= m.position || p.Floor > m.position:
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

package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// hold is what a parked row remembers of its wait: until when it waits, and for which attempt. The zero hold is that of a row which is only
// behind another row of its key. Times are by the clock of the lanes.
type hold struct {
	// since is when the row began to wait for its Load, or for a connector that could not be asked; due is when that wait ends. For a Load
	// in KisFlow's shape due is when the row parked: it may go on whenever something is saved.
	since, due time.Duration
	attempt    uint32 // the number of the next attempt; 0 means the first one
	load       bool   // true means that the row waits for the key of its Load until due; false means that it waits for a retry at due
}

// notSpent is the value of hold.since for a row whose wait is not charged, because the row is behind another row of its key, or because the
// wait was charged already.
const notSpent = -1

// said is what the function has said of a row: the effects that the row saves, or the key that it loads.
type said struct {
	effects []kis.Effect
	key     string
}

// kept is what a parked row remembers while it waits for its connector to answer: what its function said, and the call to the connector. The
// function is not called again for the row. A kept does not change once it is made.
type kept struct {
	said
	ask   *ask // the call that the row waits for, or that answered it; nil means that the row is to ask when again has come
	from  int  // where the row's effects begin among those of the call
	again time.Duration
	since time.Duration // since when the row has waited without being charged for it
	tries int           // how many calls to the connector have failed
	err   error         // the error of the last call that failed; nil if none did
}

// answered reports whether the row's call to its connector has ended without an error. k may be nil.
func (k *kept) answered() bool {
	return k != nil && k.ask != nil && k.ask.isDone() && k.ask.asked.err == nil
}

// waited returns how long the row has waited for its connector without being charged. The wait behind another row of its key counts, the
// wait for the lane after the answer does not.
func (k *kept) waited(now time.Duration) time.Duration {
	if k.answered() {
		now = min(now, k.ask.ended)
	}
	return max(0, now-k.since)
}

// along has what the rows of a set that were parked remember when they come to their step again. It implements rows.Along.
type along struct {
	holds []hold  // one for each row
	keeps []*kept // one for each row, nil for rows that do not wait for their connector. The list is nil if no row does.
}

// Pick implements rows.Along.
func (a *along) Pick(places []uint32) rows.Along {
	return &along{rows.Pick(a.holds, places), rows.Pick(a.keeps, places)}
}

// alongOf returns what the rows of a set remember from when they were parked; nil means that none was parked.
func alongOf(rs *rows.Set) *along {
	if rs.Along == nil {
		return nil
	}
	return rs.Along.(*along) //nolint:forcetypeassert // sets have no other
}

// holdOf returns the hold of row i: the zero hold for a row that was not parked.
func holdOf(rs *rows.Set, i int) hold {
	if a := alongOf(rs); a != nil {
		return a.holds[i]
	}
	return hold{}
}

// keptOf returns what row i remembers of its wait for its connector; nil if it did not wait for that.
func keptOf(rs *rows.Set, i int) *kept {
	if a := alongOf(rs); a != nil && a.keeps != nil {
		return a.keeps[i]
	}
	return nil
}

// attemptOf returns the number of the next attempt of row i, from 1.
func attemptOf(rs *rows.Set, i int) int { return max(1, int(holdOf(rs, i).attempt)) }

// entering returns how many rows of a set enter their step for the first time. Rows that were parked in the step enter it again, and are not
// counted.
func entering(rs *rows.Set) int {
	n, a := rs.Len(), alongOf(rs)
	if a == nil {
		return n
	}
	for i, h := range a.holds {
		if h != (hold{}) || keptOf(rs, i) != nil {
			n--
		}
	}
	return n
}

package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// hold is what a parked row remembers of its wait. The zero hold is that of a row which is only behind another row of its key. Times are
// by the clock of the lanes.
type hold struct {
	// since is when the row began to wait for its Load, or for a connector that could not be asked; due is when that wait ends. For a Load
	// in KisFlow's shape due is when the row parked: it may go on whenever something is saved.
	since, due time.Duration
	attempt    uint32 // the number of the next attempt; 0 means the first one
	load       bool   // the row waits for its Load until due; else for a retry at due
}

// notSpent is the since of a row that waited behind another row: that costs it nothing.
const notSpent = -1

// said is what the function has said of a row: the effects that the row saves, or the key that it loads.
type said struct {
	effects []kis.Effect
	key     string
}

// kept is what a row remembers that waits for its connector to answer. Its function is not called again for the row. It does not change once
// it is made.
type kept struct {
	said
	ask   *ask // the call that the row waits for, or that answered it; nil means that the row is to ask when again has come
	from  int  // where the row's effects begin among those of the call
	again time.Duration
	since time.Duration // when the row began to wait, as far as it was not charged for that
	tries int           // calls that failed
	err   error         // of the last one of these
}

// answered reports whether the row's call has ended well.
func (k *kept) answered() bool {
	return k != nil && k.ask != nil && k.ask.isDone() && k.ask.asked.err == nil
}

// waited is how long the row has waited for its connector. The wait behind another row of its key counts, the wait for the lane after the
// answer does not.
func (k *kept) waited(now time.Duration) time.Duration {
	if k.answered() {
		now = min(now, k.ask.ended)
	}
	return max(0, now-k.since)
}

// along is what rows that have parked bring along when they come to their step again; it implements rows.Along.
type along struct {
	holds []hold  // one for each row
	keeps []*kept // one for each row, nil for rows that do not wait for their connector. The list is nil if no row does.
}

// Pick implements rows.Along.
func (a *along) Pick(places []uint32) rows.Along {
	return &along{rows.Pick(a.holds, places), rows.Pick(a.keeps, places)}
}

// alongOf is what the rows of a set bring along; nil means nothing.
func alongOf(rs *rows.Set) *along {
	if rs.Along == nil {
		return nil
	}
	return rs.Along.(*along) //nolint:forcetypeassert // sets have no other
}

// holdOf is the hold that row i brings along: the zero hold for a row that has not parked.
func holdOf(rs *rows.Set, i int) hold {
	if a := alongOf(rs); a != nil {
		return a.holds[i]
	}
	return hold{}
}

// keptOf is what row i remembers that waits for its connector; nil if it does not.
func keptOf(rs *rows.Set, i int) *kept {
	if a := alongOf(rs); a != nil && a.keeps != nil {
		return a.keeps[i]
	}
	return nil
}

// attemptOf is the number of the next attempt of row i, from 1.
func attemptOf(rs *rows.Set, i int) int { return max(1, int(holdOf(rs, i).attempt)) }

// entering counts the rows of a set that enter their step for the first time. Those that parked in it enter it again.
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

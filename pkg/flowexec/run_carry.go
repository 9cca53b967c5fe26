package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// This file is how a run goes on behind a function that does not return, in a flow with stretches. Begun anew, as other runs are, it would
// load what its own rows have saved meanwhile. So the next goroutine takes over where all rows stand: those of the function under way
// enter it once more, all others go on.

// carried is where the rows of a run stood when a function did not return, and what had become of others. The old goroutine does not
// touch it any more.
type carried struct {
	waiting [][]*rows.Set
	aside   *aside
	turns   *turns
	ledger  ledger
	dead    []batch.DeadRow
	spent   map[rows.RunRow]time.Duration
	cause   error
}

// carry is where the run stands without the row that its function does not return from, of which entered was noted as dead; -1: it is
// not known which. Nil: the run begins anew. As blame it is called when x's goroutine does not touch the run any more.
func (r *run) carry(row int, entered []batch.DeadRow) *carried {
	s, now := r.step, r.now
	if r.plan.stretches == nil || !r.keyed || s.form.Whole() || r.x.guard.reading {
		return nil
	}
	if row < 0 && now.Vec != nil && now.Came == nil && rowcopy.For(now.Vec.Type()).Deep() {
		return nil // the function that goes on may change the row
	}
	r.keepAside(now)
	var rows []uint32
	for i := range uint32(now.Len()) {
		_, gone := slices.BinarySearch(r.x.gone, i)
		if gone && slices.ContainsFunc(r.x.jumps, func(j jump) bool { return j.row == int(i) }) {
			gone = false // it jumps again, with those that jump from here later: rows that come of one keep their order
		}
		if !gone && int(i) != row {
			rows = append(rows, i)
		}
	}
	if len(rows) > 0 {
		again := r.x.mem.AsCame(now, rows, now.Born)
		r.waiting[s.Index] = slices.Insert(r.waiting[s.Index], 0, again)
		if r.aside != nil {
			for _, g := range r.aside.groups {
				if g.in == now {
					g.in = again
				}
			}
		}
	}
	return &carried{r.waiting, r.aside, r.turns, r.ledger, append(slices.Clip(r.dead), entered...), r.spent, r.cause}
}

// takeOn has the run go on where another goroutine has left it.
func (r *run) takeOn(c *carried) {
	r.waiting, r.aside, r.turns, r.ledger, r.dead, r.spent, r.cause = c.waiting, c.aside, c.turns, c.ledger, c.dead, c.spent, c.cause
}

package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// When a function does not return, its goroutine is abandoned, and another one goes on with the run. The row in which the function hangs has ended.
// In most flows the other rows begin anew. In a flow with stretches they would then load what they have saved themselves, so the next goroutine
// takes them over where they stand: rows of the step under way enter it once more, all others go on.

// carried is where the rows of a run stood when a function did not return, and what had become of the rows that had ended. The fields are those of
// run; dead is letters.rows and spent is budgets.spent. The old goroutine does not touch them any more.
type carried struct {
	waiting [][]*rows.Set
	parking parking
	turns   *turns
	ledger  ledger
	dead    []batch.DeadRow
	spent   map[rows.RunRow]time.Duration
	cause   error
}

// carry returns where the run stands, for the goroutine that goes on with it, without the row at the given place, in which its function hangs; -1
// means that nobody knows the row. entered are the dead rows that come of the hanging call. carry returns nil if the run has to begin anew. Like blame
// it is called when x's goroutine does not touch the run any more.
func (r *run) carry(row int, entered []batch.DeadRow) *carried {
	st := r.st
	s, now := st.step, st.rs
	if r.plan.stretches == nil || !r.keyed || s.form.Whole() || r.x.guard.reading {
		return nil
	}
	if row < 0 && now.Vec != nil && now.Came == nil && rowcopy.For(now.Vec.Type()).Deep() {
		return nil // the function that goes on may change the row
	}
	st.sendParked(now)
	var places []uint32
	for i := range uint32(now.Len()) {
		gone := st.isGone(i)
		if gone && slices.ContainsFunc(st.jumps, func(j jump) bool { return j.row == int(i) }) {
			gone = false // it jumps again, with those that jump from here later: rows that come of one keep their order
		}
		if !gone && int(i) != row {
			places = append(places, i)
		}
	}
	if len(places) > 0 {
		again := r.x.mem.AsCame(now, places, now.Born)
		r.waiting[s.Index] = slices.Insert(r.waiting[s.Index], 0, again)
		for _, g := range r.parking.groups {
			if g.in == now {
				g.in = again
			}
		}
	}
	return &carried{r.waiting, r.parking, r.turns, r.ledger, append(slices.Clip(r.letters.rows), entered...), r.budgets.spent, r.cause}
}

// takeOn has the run go on where an abandoned goroutine has left it.
func (r *run) takeOn(c *carried) {
	pointCarried.Hit()
	r.waiting, r.parking, r.turns, r.ledger, r.cause = c.waiting, c.parking, c.turns, c.ledger, c.cause
	r.letters.rows, r.budgets.spent = c.dead, c.spent
	r.parking.run, r.turns.run = r, r
}

// takeOver ends the rows in which functions of abandoned goroutines hang (left.dead). If left.over is set, it ends all rows of the run with that
// outcome.
func (r *run) takeOver(left *abandoned) {
	if left.carried == nil {
		r.letters.rows = append(r.letters.rows, left.rows...)
	}
	for _, o := range left.dead {
		r.ledger.end(rows.RunRow(o.Row), o)
	}
	if over := left.over; over != nil {
		r.st.step, r.st.rs = r.plan.steps[0], new(rows.Set)
		r.st.halt(*over)
		r.cause = batch.Errorf(over.Code, "%s: %s", over.Function, over.Reason)
	}
}

// blamed reports whether an input row has ended because a function of an abandoned goroutine hangs in it.
func (r *run) blamed(origin rows.RunRow) bool {
	return r.work.abandoned != nil && slices.ContainsFunc(r.work.abandoned.dead, func(o batch.RowOutcome) bool { return o.Row == uint32(origin) })
}

// withoutBlamed returns rs without the rows in which a function of an abandoned goroutine hangs.
func (r *run) withoutBlamed(rs *rows.Set) *rows.Set {
	if r.work.abandoned == nil {
		return rs
	}
	var gone []uint32
	for i, origin := range rs.Origins {
		if r.blamed(origin) {
			gone = append(gone, uint32(i))
		}
	}
	return r.x.mem.Keep(rs, gone)
}

// blame returns the outcomes, and the dead rows, of the rows that end with o because a function does not return: the row in which it hangs (none if
// row is -1), or in Batch and FaaS all rows of the call. Input rows that are behind a call without rows (Set.Behind) end, too. If the flow's timeout
// for a row is over, only those rows of such a call end that have the least time left. goesOn means that the function may still touch these rows.
// blame is called when x's goroutine does not touch the run any more.
func (r *run) blame(o batch.RowOutcome, row int, goesOn bool) ([]batch.RowOutcome, []batch.DeadRow) {
	st := r.st
	places := []int{row}
	if st.step.form.Whole() && !r.x.guard.reading {
		places = places[:0]
		least, _ := r.budgets.budget(0, false)
		for i := range st.rs.Len() {
			if o.Code != batch.CodeRowTimeout || r.budgets.left(i) <= least {
				places = append(places, i)
			}
		}
	}
	if r.tapping != nil {
		r.tapping.blamed(st.rs, places, o)
	}
	var dead []batch.RowOutcome
	var entered []batch.DeadRow
	for _, origin := range st.rs.Behind {
		o.Row = uint32(origin)
		dead = append(dead, o)
	}
	for _, i := range places {
		if i < 0 {
			continue
		}
		o := o
		entered = r.letters.blame(entered, i, goesOn, &o)
		if o.Row = uint32(st.rs.Origins[i]); o.Row == batch.WholeBatch {
			for o.Row = range uint32(r.n) {
				dead = append(dead, o)
			}
			return dead, entered
		}
		dead = append(dead, o)
	}
	return dead, entered
}

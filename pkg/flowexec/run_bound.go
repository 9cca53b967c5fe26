package flowexec

import (
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// bound ends an input row as dead of which functions make rows without end: functions that make several rows of one, behind one another or in a loop
// of jumps, multiply. It counts the bytes of rows that a run holds of each input row, against LanesConfig.GrowthBytes. The rows of one input row stay
// together, so that growth can't divide them.
//
// A call of a function is never cut off, so a row may take more by the rows that one call makes. It belongs to the run's goroutine.
type bound struct {
	// held has for each input row of the run about how many bytes functions that make several rows of one have made of it. nil means none.
	held []int64
	// over says that an input row has ended for this reason. Rows that were made of it earlier end where a function makes something of them.
	over bool

	// The rest is about the step under way. seen is how many rows of the frame's Out have been weighed, and bytes what they weigh. When bytes reaches
	// next, the input row whose rows were made last is looked at. stretch is how many rows the next call gets.
	seen    int
	bytes   int64
	next    int64
	stretch int
}

const (
	// rowOverhead is about how many bytes the executor needs for a row beside the row: its origin, lineage and numbers.
	rowOverhead = 64
	// leastGrowth is how many bytes a step has to make for bound to count them. A row jumps maxJumps times at most, so all that it does not count is 64 MiB.
	leastGrowth = 64 << 10
)

// begin sets the bound up for the calls of a step, and reports whether it has to look at what they make: the step makes rows of rs of which no size is
// known, or several of one.
func (b *bound) begin(st *stepRun, rs *rows.Set) bool {
	limit, s := st.x.lane.lanes.config.GrowthBytes, st.step
	if limit <= 0 || s.form != kis.FormExpand && (s.form != kis.FormCalculate || s.weigher.fixed) || rs.Len() < 2 {
		return false
	}
	b.seen, b.bytes, b.next, b.stretch = 0, 0, limit, firstStretch
	if s.form == kis.FormExpand && st.x.lane.expanding.Load() {
		b.stretch = 1
	}
	return true
}

// weigh adds what calls have made since it was last called; the rows before hi have been through the function. It returns the row with which the
// function goes on: hi, or the one behind the rows of an input row that ends here.
func (b *bound) weigh(st *stepRun, hi int) int {
	out, to := st.x.frame.Out, hi
	if st.step.form == kis.FormExpand {
		to = st.x.frame.Out.Len()
	}
	b.seen = min(b.seen, to) // some may have been taken out
	b.bytes += st.step.weigher.weigh(out, b.seen, to) + rowOverhead*int64(to-b.seen)
	b.seen = to
	if b.bytes >= b.next {
		hi = b.endLast(st, hi)
	}
	each := max(1, b.bytes/int64(hi))
	b.stretch = int(min(max((b.next-b.bytes)/each, 1), int64(4*b.stretch), mostStretch))
	return hi
}

// endLast ends the input row of the row before hi, if functions have made too much of it, and takes out what the step has made of it. It returns the
// row with which the function goes on.
func (b *bound) endLast(st *stepRun, hi int) int {
	rs, f, limit := st.rs, &st.x.frame, st.x.lane.lanes.config.GrowthBytes
	b.next = b.bytes + limit/4
	origin, made := rs.Origins[hi-1], 0
	if origin == rows.WholeBatch {
		return hi
	}
	if st.step.form == kis.FormExpand {
		for made < len(f.Parents) && rs.Origins[f.Parents[len(f.Parents)-1-made]] == origin {
			made++
		}
	} else {
		for made < hi && rs.Origins[hi-1-made] == origin {
			made++
		}
	}
	own := b.bytes / int64(max(b.seen, 1)) * int64(made)
	if b.heldOf(origin)+own < limit {
		return hi
	}
	b.hold(st, origin, own)
	b.end(st, origin)
	if st.step.form == kis.FormExpand {
		left := len(f.Parents) - made
		f.Out.Gather(f.Out, rows.Range[uint32](0, left))
		f.Parents = f.Parents[:left]
		b.seen, b.bytes = left, b.bytes-own
	}
	b.next = max(limit, b.bytes+limit/4)
	for hi < rs.Len() && rs.Origins[hi] == origin {
		st.gone = append(st.gone, uint32(hi))
		hi++
	}
	return hi
}

// heldOf returns what has been counted of an input row.
func (b *bound) heldOf(origin rows.RunRow) int64 {
	if b.held == nil {
		return 0
	}
	return b.held[origin]
}

// hold counts bytes of rows that were made of an input row.
func (b *bound) hold(st *stepRun, origin rows.RunRow, bytes int64) {
	if b.held == nil {
		b.held = make([]int64, st.run.n)
	}
	b.held[origin] += bytes
}

// end ends an input row as dead. The rows that were made of it are kept nowhere: they are too large for that.
func (b *bound) end(st *stepRun, origin rows.RunRow) {
	pointUnbound.Hit()
	b.over = true
	limit := st.x.lane.lanes.config.GrowthBytes
	o := batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge, Attempts: 1, Function: st.step.Name,
		Reason: fmt.Sprintf("functions have made over %d MiB of rows of this one row: let them make fewer or smaller ones, or raise the workers' --memory-budget", limit>>20)}
	if st.run.part.KeepDead > 0 {
		o.NotKept = batch.TooLarge
	}
	st.run.ledger.end(origin, o)
}

// made counts the rows that a step has made of rs, if they are more than those, and returns them without the rows of input rows that have ended
// because there were too many.
func (b *bound) made(st *stepRun, s *step, rs, made *rows.Set) *rows.Set {
	limit := st.x.lane.lanes.config.GrowthBytes
	if limit <= 0 || made.Len() <= rs.Len() && !b.over {
		return made
	}
	if n := made.Len(); n > rs.Len() {
		if total := s.weigher.weigh(made.Vec, 0, n) + rowOverhead*int64(n); total >= leastGrowth {
			for _, origin := range made.Origins {
				if origin == rows.WholeBatch {
					continue // such rows never jump back, and the batch as a whole is bounded by nothing
				}
				before := b.heldOf(origin)
				if b.hold(st, origin, total/int64(n)); before < limit && b.held[origin] >= limit {
					b.end(st, origin)
				}
			}
		}
	}
	if !b.over {
		return made
	}
	var gone []uint32
	for i, origin := range made.Origins {
		if origin != rows.WholeBatch && b.heldOf(origin) >= limit {
			gone = append(gone, uint32(i))
		}
	}
	return st.x.mem.Keep(made, slices.Clip(gone))
}

package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// work is rows of one part that a lane executes together: the input of one run. The rows of a part are one work at first. They are cut by
// lane, by released slots, and row by row if Part.OneByOne says so.
type work struct {
	part *Part
	// in has the rows, those of other works of the part among them.
	in input
	// rows are the rows of in that belong to the work, ascending; nil means all of them.
	rows []rows.PartRow
	// blocked are those rows of the work whose keys have parked rows in the lane: they park behind those when the run begins.
	blocked []rows.RunRow
	// abandoned is left by earlier goroutines that ran the work and were abandoned; nil means that there were none.
	abandoned *abandoned

	// from and groups are the parked rows that go on with this work. Then part and in are the parcel's, and rows count in the parcel. Both are
	// nil if the rows begin.
	from   *parcel
	groups []*group
}

// abandoned is left behind by goroutines that ran a work and did not come back: a function did not return, so that the goroutine was
// abandoned, or called runtime.Goexit. Another goroutine does the work again. It gives functions one row at a time, so that it is known for
// which row a function does not return.
type abandoned struct {
	// dead are outcomes of rows that have ended for this reason; the rows count in the work. rows are dead rows as they entered
	// their function.
	dead []batch.RowOutcome
	rows []batch.DeadRow
	// over is how all rows end, because goroutines were abandoned again and again, and no row is known to be the reason. nil means that
	// the work goes on.
	over *batch.RowOutcome
	// apart are the steps whose Batch or FaaS function did not return from a call for several keys: it is called for each key alone.
	apart []*step
	// carried is where the other rows were in the flow; nil means that they begin again.
	carried *carried
}

// len returns the number of rows in the work.
func (w *work) len() int {
	if w.rows == nil {
		return w.in.len()
	}
	return len(w.rows)
}

// key returns the hash of the shard key of a row of the run. The part must have keys.
func (w *work) key(i rows.RunRow) uint64 { return w.in.columns.Keys[w.row(i)] }

// row converts a row of the run to the row of the part.
func (w *work) row(i rows.RunRow) rows.PartRow {
	if w.rows == nil {
		return rows.PartRow(i)
	}
	return w.rows[i]
}

// some returns a new work of the rows in list, which are rows of the same part.
func (w *work) some(list []rows.PartRow) *work { return &work{part: w.part, in: w.in, rows: list} }

// returned makes the RunResult of work whose rows are all given back: they are in Rows and in Returned.
func (w *work) returned() RunResult {
	all := make([]uint32, w.len())
	for i := range all {
		all[i] = uint32(w.row(rows.RunRow(i)))
	}
	return RunResult{Part: w.part.enqueued(), Rows: rows.As[uint32](w.rows), Returned: all}
}

// first returns the work that a lane runs next, and the rest. If the part has OneByOne set and the rows have keys, next has only the first
// row; otherwise next is all of w. A nil rest means that nothing remains.
func (w *work) first() (next, rest *work) {
	if !w.part.OneByOne || len(w.in.columns.Keys) == 0 || w.part.Plan.unsharded || w.len() < 2 {
		return w, nil
	}
	all := w.rows
	if all == nil {
		all = rows.Range[rows.PartRow](0, w.len())
	}
	return w.some(all[:1:1]), w.some(all[1:])
}

// cut cuts the work in two: the rows that stay, and the rows whose slots a Release asks for. A nil work has no rows. The caller has checked
// that the Release asks for rows of the part.
func (w *work) cut(c releaseRequest) (stays, goes *work) {
	keys := w.in.columns.Keys
	switch {
	case c.slots == nil:
		return nil, w
	case len(keys) == 0:
		return w, nil
	}
	var in, out []rows.PartRow
	for i := range w.len() {
		row := w.row(rows.RunRow(i))
		if c.includesKey(keys[row]) {
			in = append(in, row)
		} else {
			out = append(out, row)
		}
	}
	switch {
	case len(in) == 0:
		return w, nil
	case len(out) == 0:
		return nil, w
	}
	return w.some(out), w.some(in)
}

// giveBack calls Done for works that never began, with all rows in Returned, and takes each work out of the count.
func (p *pendingRuns) giveBack(back []*work) {
	for _, w := range back {
		w.part.Done(w.returned())
		p.end()
	}
}

// cut takes the rows that a Release asks for out of a queue, and appends works of these rows to back. It returns the remaining queue, which
// uses the memory of the old one, and back. Each work of the queue counts in pendingRuns, before and after, also those in back.
func (p *pendingRuns) cut(queue []*work, c releaseRequest, back []*work) (kept, gone []*work) {
	kept = queue[:0]
	for _, w := range queue {
		stays, goes := w, (*work)(nil)
		if c.includesPart(w.part) {
			stays, goes = w.cut(c)
		}
		if goes != nil {
			back = append(back, goes)
		}
		if stays != nil {
			kept = append(kept, stays)
		}
		if stays != nil && goes != nil {
			p.more()
		}
	}
	clear(queue[len(kept):])
	return kept, back
}

// placedWork is a work, with the place in the laneTable of the lane that it is for.
type placedWork struct {
	*work
	place int
}

// split cuts the work into one work for each lane that gets rows of it. lanes is the number of lanes. All rows must have keys.
func (w *work) split(lanes int) []placedWork {
	keys := w.in.columns.Keys
	n := w.len()
	first := laneOf(keys[w.row(0)], lanes)
	same := 1
	for same < n && laneOf(keys[w.row(rows.RunRow(same))], lanes) == first {
		same++
	}
	if same == n {
		return []placedWork{{w, first}}
	}
	if lanes <= max(n, 64) {
		return w.splitByCounting(lanes)
	}
	return w.splitBySorting(lanes)
}

// splitByCounting does the work of split for few lanes: it counts the rows of each lane first. Its cost grows with the number of lanes.
func (w *work) splitByCounting(lanes int) []placedWork {
	keys, n := w.in.columns.Keys, w.len()
	counts := make([]uint32, lanes)
	for i := range rows.RunRow(n) {
		counts[laneOf(keys[w.row(i)], lanes)]++
	}
	all, at := make([]rows.PartRow, n), make([][]rows.PartRow, lanes)
	for place, count := range counts {
		at[place], all = all[:0:count], all[count:]
	}
	for i := range rows.RunRow(n) {
		row := w.row(i)
		place := laneOf(keys[row], lanes)
		at[place] = append(at[place], row)
	}
	works := make([]placedWork, 0, min(n, lanes))
	for place, list := range at {
		if len(list) > 0 {
			works = append(works, placedWork{w.some(list), place})
		}
	}
	return works
}

// splitBySorting does the work of split for many lanes: it sorts the rows by lane, then by row. Its cost does not depend on the number of
// lanes.
func (w *work) splitBySorting(lanes int) []placedWork {
	keys, n := w.in.columns.Keys, w.len()
	order := make([]uint64, n) // place << 32 | row
	for i := range order {
		row := w.row(rows.RunRow(i))
		order[i] = uint64(laneOf(keys[row], lanes))<<32 | uint64(row)
	}
	slices.Sort(order)
	list := make([]rows.PartRow, n)
	var works []placedWork
	for i := 0; i < n; {
		place, from := order[i]>>32, i
		for ; i < n && order[i]>>32 == place; i++ {
			list[i] = rows.PartRow(uint32(order[i]))
		}
		works = append(works, placedWork{w.some(list[from:i:i]), int(place)})
	}
	return works
}

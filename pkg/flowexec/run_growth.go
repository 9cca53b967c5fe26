package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// growth counts how much a function has made so far of the rows that it is called for, and bounds it.
//
// A function may make far more of rows than they were: many rows of one, or large rows of small ones. LanesConfig.RunBytes bounds
// how much of that a run holds. The rows made are weighed while the function runs. In a run with keys, whose rows need not stay
// together, the rows that have not entered the function yet park when the bound is reached, and go on as runs of their own. A run
// without keys stays together: only the rows that its last function makes can leave early, written as output in pieces. Rows that
// were made of one row are never divided.
//
// It belongs to the run's goroutine.
type growth struct {
	st      *stepRun
	run     *run
	x       *executor
	limit   int64 // LanesConfig.RunBytes
	made    int64 // about how many bytes of rows the function has made since the last spill
	done    int   // how many rows, from the first on, have been through the function
	seen    int   // how many rows of the frame's Out have been weighed, in an Expand
	stretch int   // how many rows the next call gets
	spilled int   // what the function made of the rows before this one has been written as output
	// pieces and open are the output before this step: if the step is cut off, its output is dropped.
	pieces int
	open   batch.Output
}

const (
	firstStretch = 16  // firstStretch is how many rows a function gets before the rows that it makes are weighed for the first time.
	mostStretch  = 256 // mostStretch is how many rows a function whose rows are weighed gets in one call at most.
)

// grows returns the growth that counts how much the step makes of rs. It returns nil if nothing is to be counted: there is no
// bound, the rows are few, the function makes rows of a fixed size, or nothing can be done about it, as in a run without keys
// before its last function.
func (st *stepRun) grows(rs *rows.Set) *growth {
	limit, s := st.x.lane.lanes.config.RunBytes, st.step
	switch {
	case limit <= 0 || rs.Len() < 2 || st.run.work.in.values != nil || !st.run.keyed && s.Index+1 < len(st.run.plan.steps):
		return nil
	case s.form == kis.FormExpand:
	case s.form != kis.FormCalculate || s.weigher.fixed:
		return nil
	}
	stretch := firstStretch
	if s.form == kis.FormExpand && st.x.lane.expanding.Load() {
		stretch = 1
	}
	if rs.Len() <= stretch {
		return nil
	}
	st.x.followed = growth{st: st, run: st.run, x: st.x, limit: limit, stretch: stretch, pieces: len(st.run.out.pieces), open: st.run.out.open}
	return &st.x.followed
}

// weigh adds to made the bytes of the rows that the function has made since weigh was last called; the rows before hi have been
// through the function. It also sets how many rows the next call gets. It returns true if the bytes since the last spill reach
// the limit.
func (g *growth) weigh(hi int) bool {
	out := g.x.frame.Out
	from, to := g.done, hi
	if g.st.step.form == kis.FormExpand {
		from, to = g.seen, out.Len()
		g.seen = to
	}
	g.done = hi
	g.made += g.st.step.weigher.weigh(out, from, to)
	each := max(1, g.made/int64(hi-g.spilled))
	g.stretch = int(min(max((g.limit-g.made)/each, 1), int64(4*g.stretch), mostStretch))
	return g.made >= g.limit
}

// noteWide notes whether an Expand has made more than 64 rows of each row, on average, so that the first call of the next Expand
// in this lane gets a single row. in and out are the numbers of rows.
func (ln *lane) noteWide(in, out int) {
	if wide := out > 64*in; wide != ln.expanding.Load() {
		ln.expanding.Store(wide)
	}
}

// enough is called when the rows before hi have been through the function and what it made of them reaches the limit. In a run
// with keys it parks the rows from hi on; in a run without keys it writes the rows that were made. It returns the row with which
// the function goes on.
func (g *growth) enough(hi int) int {
	if !g.run.keyed {
		g.spill()
		return hi
	}
	rs := g.st.rs
	whole := hi
	for whole < rs.Len() && rs.Origins[whole] == rs.Origins[whole-1] {
		whole++
	}
	if whole > hi {
		g.stretch = whole - hi // rows that were made of one row stay together
		return hi
	}
	if hi == rs.Len() {
		return hi
	}
	pointDivided.Hit()
	now := g.x.lane.lanes.clock.now()
	for i := hi; i < rs.Len(); i++ {
		if h := holdOf(rs, i); g.run.parking.behind(rs, i) {
			g.st.parkBehind(i, h)
		} else {
			g.st.park(i, hold{due: now, attempt: h.attempt})
		}
	}
	g.x.lane.resumeLimit.Store(int32(countOrigins(rs.Origins[:hi])))
	return rs.Len()
}

// countOrigins returns how many input rows some rows come from; origins has the input row of each. Rows of one input row must
// stand together.
func countOrigins(origins []rows.RunRow) (n int) {
	for i, origin := range origins {
		if i == 0 || origin != origins[i-1] {
			n++
		}
	}
	return n
}

// spill writes the rows that the flow's last function has made since the last spill as output, and frees their memory. The first
// spill of a run calls Part.Grow, if it is set.
func (g *growth) spill() {
	pointSpilled.Hit()
	if !g.run.out.told && g.run.part.Grow != nil {
		g.run.out.told = true
		g.run.part.Grow(g.x.ctx)
	}
	s, x, f, rs := g.st.step, g.x, &g.x.frame, g.st.rs
	made := x.mem.New()
	made.Born, made.Prev, made.Vec = s.Index+1, rs, f.Out
	if s.form == kis.FormExpand {
		made.Parents = slices.Clone(f.Parents)
	} else {
		for i := g.spilled; i < g.done; i++ {
			if _, gone := slices.BinarySearch(g.st.gone, uint32(i)); !gone {
				made.Parents = append(made.Parents, uint32(i))
			}
		}
		made.Vec = x.mem.Like(f.Out)
		made.Vec.Gather(f.Out, made.Parents)
	}
	made.Origins = rows.Pick(rs.Origins, made.Parents)
	made = x.mem.Keep(made, g.st.nils(s, made))
	if g.run.tapping != nil {
		g.run.tapping.queued(made, s.Index+1)
	}
	if g.run.part.Output && made.Len() > 0 {
		g.run.out.write([]*rows.Set{made}, &g.run.out.open)
		g.st.rs, g.st.step = rs, s
	}
	if s.form == kis.FormExpand {
		f.Out.Reset(0)
		f.Parents = f.Parents[:0]
	} else {
		f.Out.Slice().Slice(g.spilled, g.done).Clear()
		made.Vec.Reset(0)
	}
	*made = rows.Set{} // nobody asks for these rows again
	g.spilled, g.seen, g.made = g.done, 0, 0
}

// endGrowth is called when the calls of a step have ended. over means that the run is over before the step's end: then the output
// that spill has written for this step is dropped. Otherwise, if spill was called in this step, endGrowth writes the remaining
// rows. written is false if spill was not called, so that the caller has to send the rows on.
func (st *stepRun) endGrowth(over bool) (written bool) {
	g := st.growth
	st.growth = nil
	if g == nil || g.spilled == 0 {
		return false
	}
	defer func() { *g = growth{} }() // else it would keep the output
	if over {
		pointSpilledInVain.Hit()
		st.run.out.pieces, st.run.out.open = st.run.out.pieces[:g.pieces], g.open
		return true
	}
	g.done = st.rs.Len()
	g.spill()
	return true
}

// inPieces divides the result of a run whose output came in pieces: it returns one result for each piece, with the rows up to the
// last one that the piece's output comes from. It returns nil if the result can't be divided; then the result has all of the
// output.
func (w *work) inPieces(result *RunResult, pieces []batch.Output) (runs []RunResult) {
	if result.Output.Rows.Len() > 0 {
		pieces = append(pieces, result.Output)
	}
	for i := range pieces {
		o := pieces[i].Origins
		if !slices.IsSorted(o) || o[len(o)-1] == batch.WholeBatch || i > 0 && pieces[i-1].Origins[len(pieces[i-1].Origins)-1] >= o[0] {
			result.Output = batch.Join(pieces)
			return nil
		}
	}
	left := result.Rows
	if left == nil {
		left = rows.Range[uint32](0, w.len())
	}
	notDone := result.NotDone
	for i, piece := range pieces {
		last := piece.Origins[len(piece.Origins)-1]
		part := RunResult{Part: result.Part, Output: piece}
		if i == len(pieces)-1 {
			last, part.Err = batch.WholeBatch, result.Err
		}
		n, _ := slices.BinarySearch(left, last)
		if n < len(left) && left[n] == last {
			n++
		}
		part.Rows, left = left[:n:n], left[n:]
		n = 0
		for n < len(notDone) && notDone[n].Row <= last {
			n++
		}
		part.NotDone, notDone = notDone[:n:n], notDone[n:]
		for _, d := range result.Dead {
			if _, in := slices.BinarySearch(part.Rows, d.Row); in {
				part.Dead = append(part.Dead, d)
			}
		}
		runs = append(runs, part)
	}
	return runs
}

// relax raises the lane's limit for how many parked rows go on together, after a run of parked rows has ended without parking
// any. It doubles resumeLimit, and removes the limit above 65,536.
func (ln *lane) relax(r *run) {
	few := ln.resumeLimit.Load()
	if few == 0 || r.work.from == nil || r.parking.any() {
		return // there is no limit, or no parked rows went on, or rows have parked again
	}
	if few *= 2; few > 1<<16 {
		few = 0
	}
	ln.resumeLimit.Store(few)
}

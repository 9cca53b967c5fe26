package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A function may make far more of its rows than they were: many rows of one, or large ones of small ones. This file bounds what a
// run holds of that, as LanesConfig.RunBytes says. What functions make is weighed while they run. In a run with keys, whose rows
// need not go together, those that have not entered the function yet park when there is enough, and go on as runs of their own. A
// run without keys goes on as a whole: there only what its last function makes is written at once, and leaves the run in pieces.
// What comes of one row is never divided.

// growth is what a function has made so far of the rows under way. It belongs to the run's goroutine.
type growth struct {
	st      *stepRun
	run     *run
	x       *executor
	limit   int64
	made    int64 // bytes, about
	done    int   // the rows of In that this is of
	seen    int   // the rows of Out that Expand made of them
	stretch int   // how many rows go into the next call
	spilled int   // the rows of In of which what was made is written
	// What was written before.
	pieces int
	open   batch.Output
}

const (
	firstStretch = 16  // rows that a function gets before what it makes is weighed
	mostStretch  = 256 // that it gets at once, however little it made of those before
)

// grows begins to follow what the step makes of rs; nil: it need not be followed.
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

// weigh weighs what was made of the rows before hi. True: it is enough.
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

// noteWide notes whether Expand makes many of each row, so that it gets one at a time first.
func (ln *lane) noteWide(in, out int) {
	if wide := out > 64*in; wide != ln.expanding.Load() {
		ln.expanding.Store(wide)
	}
}

// enough says with which row the function goes on, now that it has made enough of those before hi. In a run with keys the others park,
// in one without what was made is written.
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
		g.stretch = whole - hi // what came of one row stays together
		return hi
	}
	if hi == rs.Len() {
		return hi
	}
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

// countOrigins counts how many input rows stand behind rows, of which those of one stand together.
func countOrigins(origins []rows.RunRow) (n int) {
	for i, origin := range origins {
		if i == 0 || origin != origins[i-1] {
			n++
		}
	}
	return n
}

// spill writes what the last function has made as output, and forgets it.
func (g *growth) spill() {
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
	*made = rows.Set{} // nobody asks what these rows were
	g.spilled, g.seen, g.made = g.done, 0, 0
}

// endGrowth is the end of a call that was followed: over, it was cut off, and nothing that it made leaves the run. It reports whether
// all that the function made is written.
func (st *stepRun) endGrowth(over bool) (written bool) {
	g := st.growth
	st.growth = nil
	if g == nil || g.spilled == 0 {
		return false
	}
	defer func() { *g = growth{} }() // else it would keep the output
	if over {
		st.run.out.pieces, st.run.out.open = st.run.out.pieces[:g.pieces], g.open
		return true
	}
	g.done = st.rs.Len()
	g.spill()
	return true
}

// inPieces divides the result of a run whose output came in pieces: each with the rows that end with it. Nil: it can't be divided,
// and has all output in one.
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

// relax has more parked rows go on together once fewer come to less than a run may hold.
func (ln *lane) relax(r *run) {
	few := ln.resumeLimit.Load()
	if few == 0 || r.work.from == nil || r.parking.any() {
		return // none was parked for it, or there was enough, or something else to wait for
	}
	if few *= 2; few > 1<<16 {
		few = 0
	}
	ln.resumeLimit.Store(few)
}

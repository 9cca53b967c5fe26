package flowexec

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// runWhole takes rows through a Batch or FaaS function, in one call for all of them. In a flow whose batches are split, it is called
// key by key before any row is dead of its error, its panic, or the time that it takes.
func (r *run) runWhole(s *step, rs *rows.Set) {
	x := r.x
	out := x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(0)
	x.frame.Out, x.frame.Parents = out, x.frame.Parents[:0]
	if left := r.work.abandoned; left != nil && slices.Contains(left.apart, s) {
		if groups := r.groups(rs); len(groups) > 1 {
			r.runGroups(s, rs, groups, out)
			return
		}
	}
	rs, o := r.callWhole(s, rs)
	switch {
	case r.halted:
		return
	case o.Outcome == 0:
		r.passWhole(s, rs, out)
		return
	}
	if groups := r.groups(rs); len(groups) > 1 && ofTheCall(o) {
		r.runGroups(s, rs, groups, out)
		return
	}
	r.endAll(rs, o)
}

// ofTheCall reports whether an outcome is one of a call for many rows of which nobody knows which is to blame.
func ofTheCall(o batch.RowOutcome) bool {
	return o.Code == batch.CodeFunctionError || o.Code == batch.CodeFunctionPanic || o.Code == batch.CodeFunctionTimeout
}

// mayGoApart reports whether the call under way, from which the function does not come back, is to be made again for each key alone.
func (r *run) mayGoApart(o batch.RowOutcome) bool {
	return r.step.form.Whole() && !r.x.guard.reading && ofTheCall(o) && len(r.groups(r.now)) > 1
}

// callWhole calls the function for the rows under way, which rs are. Rows whose time is used up end alone: it returns the
// others. An outcome is what all of these are to end with; without one, they are through or jump, or the run is over.
func (r *run) callWhole(s *step, rs *rows.Set) (*rows.Set, batch.RowOutcome) {
	f := &r.x.frame
	for attempt := attemptOf(r.now, 0); ; attempt++ {
		if len(r.spent) > 0 {
			o := timedOut(errRowTimeout, s, r.plan)
			if o.Attempts = uint32(attempt - 1); r.loseSpent(0, o) {
				return rs, o
			}
		}
		if rs = r.withoutLost(s, rs); r.halted {
			return rs, batch.RowOutcome{}
		}
		f.Parents, f.Lost, f.Reuse, f.Force = f.Parents[:0], false, false, false
		f.Out.Reset(0)
		f.Call.Attempt = attempt
		if s.mode == definition.ModeLoad && s.connector != nil {
			r.saves = r.x.lane.lanes.config.Saves.count(s.connector.Name)
		}
		t := r.try(0, attempt)
		_, fault := r.x.guarded(s.code.Call, 0, r.now.Len())
		r.tried(0, t)
		f.Call.Attempt = 1
		if fault == nil {
			r.renewAfterTimeout()
			return rs, batch.RowOutcome{}
		}
		spent := r.x.timeout() == errRowTimeout
		o, again := r.judge(0, fault, attempt)
		switch {
		case r.halted:
			return rs, o
		case again && !fault.paused:
			rs = r.allAgain(s, rs)
		case again, spent && !r.loseSpent(0, o):
			attempt-- // it was ended for rows that have no time left: the others had no part in that
			if !fault.paused {
				rs = r.allAgain(s, rs)
			}
		default:
			return rs, o
		}
	}
}

// loseSpent ends the rows under way that have at most so much time left. True: none has more, and none of them is ended.
func (r *run) loseSpent(least time.Duration, o batch.RowOutcome) (all bool) {
	if len(r.spent) == 0 || r.now.Len() == 0 {
		return false
	}
	if all = r.mostLeft() <= least; !all {
		for i := range r.now.Len() {
			if r.left(i) <= least {
				r.lose(i, o)
			}
		}
	}
	return all
}

// withoutLost is rs without the rows that were lost, made readable again.
func (r *run) withoutLost(s *step, rs *rows.Set) *rows.Set {
	if len(r.x.gone) == 0 {
		return rs
	}
	rs = r.x.mem.Keep(rs, r.x.gone)
	r.x.gone = r.x.gone[:0]
	return r.prepare(s, rs)
}

// passWhole passes on what a call made of all rows of rs.
func (r *run) passWhole(s *step, rs *rows.Set, out kis.Vector) {
	f := &r.x.frame
	next := s.Index + 1
	if s.mode == definition.ModeSave && s.connector != nil {
		r.x.lane.lanes.config.Saves.saved(s.connector.Name)
	}
	switch {
	case len(r.x.jumps) > 0 || len(r.x.gone) > 0:
		r.leave(rs)
	case f.Reuse:
		r.pass(rs, next)
	case out.Len() == 0 && f.Force:
		r.pass(&rows.Set{Born: next, Forced: true, Behind: slices.Concat(rs.Origins, rs.Behind)}, next)
	case f.Lost || rs.Len() == 0 && out.Len() > 0:
		r.passOrphans(s, rs, out)
	default:
		r.passMade(s, rs, out, f.Parents)
	}
}

// passOrphans passes on rows behind which all rows given stand, if that is possible.
func (r *run) passOrphans(s *step, rs *rows.Set, out kis.Vector) {
	switch behind := slices.Concat(rs.Origins, rs.Behind); {
	case rs.Len() > 0 && allSame(rs.Origins):
		r.passMade(s, rs, out, make([]uint32, out.Len()))
	case r.plan.unsharded:
		made := r.x.mem.OfWholeBatch(out, r.pathOfAll(rs, s.Index+1), s.Index+1)
		r.pass(r.x.mem.Keep(made, r.nils(s, made)), s.Index+1)
	default:
		r.step = s
		r.endAll(rs, lineageLost(s, out.Len(), len(behind)))
	}
}

func lineageLost(s *step, out, in int) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLineageLost, Function: s.Name, Attempts: 1,
		Reason: fmt.Sprintf("the function made %d rows of %d, and nobody can say which comes from which, as a flow with shard_key needs: %s",
			out, in, lineageAdvice)}
}

func allSame(origins []rows.RunRow) bool {
	for _, o := range origins {
		if o != origins[0] {
			return false
		}
	}
	return true
}

// endAll ends all rows of rs.
func (r *run) endAll(rs *rows.Set, o batch.RowOutcome) {
	for i := range rs.Origins {
		r.end(rs, uint32(i), o)
	}
	o.Function = r.step.Name
	for _, origin := range rs.Behind {
		r.ledger.end(origin, o)
	}
}

// groups are the rows of rs by key, in the order of the keys' first rows; none where batches go whole.
func (r *run) groups(rs *rows.Set) [][]uint32 {
	keys := r.work.in.columns.Keys
	if r.plan.unsharded || len(keys) == 0 {
		return nil
	}
	places := make(map[uint64]int)
	var groups [][]uint32
	for i, origin := range rs.Origins {
		key := keys[r.work.row(origin)]
		place, ok := places[key]
		if !ok {
			place = len(groups)
			places[key] = place
			groups = append(groups, nil)
		}
		groups[place] = append(groups[place], uint32(i))
	}
	return groups
}

// runGroups calls the function for each key's rows alone, and puts together again what it made of them.
func (r *run) runGroups(s *step, rs *rows.Set, groups [][]uint32, all kis.Vector) {
	x, f := r.x, &r.x.frame
	all.Reset(0)
	var parents, dead []uint32
	for _, rows := range groups {
		x.gone, x.jumps = x.gone[:0], x.jumps[:0]
		sub := x.mem.Subset(rs, rows, rs.Born)
		if s.Changes {
			sub = x.mem.AsCame(rs, rows, rs.Born)
		}
		if !holdOf(sub, 0).load {
			sub.Along = nil // its attempts are its own
		}
		sub = r.prepare(s, sub)
		out := x.mem.Like(all)
		f.Out = out
		var o batch.RowOutcome
		given := sub
		if !r.halted {
			sub, o = r.callWhole(s, sub)
		}
		switch {
		case r.halted:
			for i, origin := range rs.Origins {
				if !slices.Contains(dead, uint32(i)) {
					r.ledger.end(origin, o)
				}
			}
			return
		case o.Outcome != 0:
			r.endAll(sub, o)
			dead = append(dead, rows...)
		case sub != given || len(x.jumps) > 0 || len(x.gone) > 0 || f.Reuse || f.Lost || out.Len() == 0:
			r.passWhole(s, sub, out)
			dead = append(dead, rows...)
		default:
			all.Append(out)
			for _, p := range f.Parents {
				parents = append(parents, rows[p])
			}
		}
	}
	x.gone, x.jumps = append(x.gone[:0], dead...), x.jumps[:0]
	slices.Sort(x.gone)
	r.now = rs
	order := rows.Range[uint32](0, len(parents))
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(parents[a], parents[b]) })
	sorted := x.mem.Like(all)
	sorted.Gather(all, order)
	r.passMade(s, rs, sorted, x.mem.Pick(parents, order))
}

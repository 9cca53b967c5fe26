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

// wholeCall takes rows through a function that gets all of them in one call: Batch and FaaS. In a flow with a shard key such a
// call has the rows of several keys, and an error of it says nothing about a single row. So before any row dies of it, the
// function is called once more for each key alone.
type wholeCall struct {
	st  *stepRun
	run *run
	x   *executor
}

// enter takes the rows of rs through step s, whose function gets all of them in one call.
func (wc *wholeCall) enter(s *step, rs *rows.Set) {
	x := wc.run.x
	out := x.mem.Lend(s.outKind, s.code.NewOut)
	out.Reset(0)
	x.frame.Out, x.frame.Parents = out, x.frame.Parents[:0]
	if left := wc.run.work.abandoned; left != nil && slices.Contains(left.apart, s) {
		if groups := wc.groups(rs); len(groups) > 1 {
			wc.runGroups(s, rs, groups, out)
			return
		}
	}
	rs, o := wc.call(s, rs)
	switch {
	case wc.run.halted:
		return
	case o.Outcome == 0:
		wc.pass(s, rs, out)
		return
	}
	if groups := wc.groups(rs); len(groups) > 1 && ofTheCall(o) {
		wc.runGroups(s, rs, groups, out)
		return
	}
	wc.endAll(rs, o)
}

// ofTheCall reports whether an outcome is an error, panic or timeout of the call, so that nobody knows which of the call's rows is
// the reason.
func ofTheCall(o batch.RowOutcome) bool {
	return o.Code == batch.CodeFunctionError || o.Code == batch.CodeFunctionPanic || o.Code == batch.CodeFunctionTimeout
}

// mayGoApart reports whether the call under way, from which the function does not return, is to be made again for each key alone.
// o is the outcome that the call's rows would have otherwise.
func (wc *wholeCall) mayGoApart(o batch.RowOutcome) bool {
	return wc.st.step.form.Whole() && !wc.x.guard.reading && ofTheCall(o) && len(wc.groups(wc.st.rs)) > 1
}

// call calls the function for rs, with retries. Rows that have used up their time end alone; it returns the others. If the run
// goes on and the returned Outcome is not 0, the caller ends all of these with it. If it is 0, the function has returned without
// an error, or the rows have jumped or parked.
func (wc *wholeCall) call(s *step, rs *rows.Set) (*rows.Set, batch.RowOutcome) {
	f := &wc.x.frame
	for attempt := attemptOf(wc.st.rs, 0); ; attempt++ {
		if len(wc.run.budgets.spent) > 0 {
			o := timedOut(errRowTimeout, s, wc.run.plan)
			if o.Attempts = uint32(attempt - 1); wc.loseSpent(0, o) {
				return rs, o
			}
		}
		if rs = wc.withoutLost(s, rs); wc.run.halted {
			return rs, batch.RowOutcome{}
		}
		f.Parents, f.Lost, f.Reuse, f.Force = f.Parents[:0], false, false, false
		f.Out.Reset(0)
		f.Call.Attempt = attempt
		if s.mode == definition.ModeLoad && s.connector != nil {
			wc.st.saves = wc.x.lane.lanes.config.Saves.count(s.connector.Name)
		}
		t := wc.run.budgets.try(0, attempt)
		_, fault := wc.x.guarded(s.code.Call, 0, wc.st.rs.Len())
		wc.run.budgets.tried(0, t)
		f.Call.Attempt = 1
		if fault == nil {
			wc.x.renewAfterTimeout()
			return rs, batch.RowOutcome{}
		}
		spent := wc.x.timeout() == errRowTimeout
		o, again := wc.st.judge(0, fault, attempt)
		switch {
		case wc.run.halted:
			return rs, o
		case again && !fault.paused:
			rs = wc.st.allAgain(s, rs)
		case again, spent && !wc.loseSpent(0, o):
			attempt-- // the call was ended because of rows that have no time left: it does not count for the others
			if !fault.paused {
				rs = wc.st.allAgain(s, rs)
			}
		default:
			return rs, o
		}
	}
}

// loseSpent ends with o the rows that have no more than least of the flow's timeout left. If that concerns all rows, it ends none
// and returns true.
func (wc *wholeCall) loseSpent(least time.Duration, o batch.RowOutcome) (all bool) {
	if len(wc.run.budgets.spent) == 0 || wc.st.rs.Len() == 0 {
		return false
	}
	if all = wc.run.budgets.most() <= least; !all {
		pointSpentAlone.Hit()
		for i := range wc.st.rs.Len() {
			if wc.run.budgets.left(i) <= least {
				wc.st.lose(i, o)
			}
		}
	}
	return all
}

// withoutLost returns rs without the rows that have ended, decoded for the function once more.
func (wc *wholeCall) withoutLost(s *step, rs *rows.Set) *rows.Set {
	if len(wc.st.gone) == 0 {
		return rs
	}
	rs = wc.x.mem.Keep(rs, wc.st.gone)
	wc.st.gone = wc.st.gone[:0]
	return wc.st.prepare(s, rs)
}

// pass sends on the rows that a call has made of the rows of rs, to the next step. If the rows of rs jump, park or have ended, it
// sends those to where they go instead.
func (wc *wholeCall) pass(s *step, rs *rows.Set, out kis.Vector) {
	f := &wc.x.frame
	next := s.Index + 1
	if s.mode == definition.ModeSave && s.connector != nil {
		wc.x.lane.lanes.config.Saves.saved(s.connector.Name)
	}
	switch {
	case len(wc.st.jumps) > 0 || len(wc.st.gone) > 0:
		wc.st.send(rs, nil)
	case f.Reuse:
		wc.st.send(rs, rs)
	case out.Len() == 0 && f.Force:
		wc.st.send(rs, &rows.Set{Born: next, Forced: true, Behind: slices.Concat(rs.Origins, rs.Behind)})
	case f.Lost || rs.Len() == 0 && out.Len() > 0:
		wc.passOrphans(s, rs, out)
	default:
		wc.st.send(rs, wc.st.made(s, rs, out, f.Parents))
	}
}

// passOrphans sends on rows for which the function did not say which rows of rs they come from. They count as made of all rows of
// rs. That is possible if all of these come from one input row, or if the flow has no shard key, so that the run is a whole batch.
// Otherwise the rows of rs end as dead.
func (wc *wholeCall) passOrphans(s *step, rs *rows.Set, out kis.Vector) {
	switch behind := slices.Concat(rs.Origins, rs.Behind); {
	case rs.Len() > 0 && allSame(rs.Origins):
		wc.st.send(rs, wc.st.made(s, rs, out, make([]uint32, out.Len())))
	case wc.run.plan.unsharded && wc.run.part.Log == nil:
		made := wc.x.mem.OfWholeBatch(out, wc.run.pathOfAll(rs, s.Index+1), s.Index+1)
		wc.st.send(rs, wc.x.mem.Keep(made, wc.st.nils(s, made)))
	default:
		wc.st.step = s
		pointLineageLost.Hit()
		wc.endAll(rs, lineageLost(s, out.Len(), len(behind)))
	}
}

// lineageLost returns the outcome of a function's rows if nobody can say which of the rows that it made comes from which of them.
// in and out are the numbers of rows before and after.
func lineageLost(s *step, out, in int) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLineageLost, Function: s.Name, Attempts: 1,
		Reason: fmt.Sprintf("the function made %d rows of %d, and nobody can say which comes from which, as a flow with shard_key needs, and as rows with positions need: %s",
			out, in, lineageAdvice)}
}

// allSame reports whether all origins are the same, so that the rows come from one input row.
func allSame(origins []rows.RunRow) bool {
	for _, o := range origins {
		if o != origins[0] {
			return false
		}
	}
	return true
}

// endAll ends all rows of rs with o. If rs has no rows because the function is called without any, it ends the input rows that the
// function's results would come from (Set.Behind).
func (wc *wholeCall) endAll(rs *rows.Set, o batch.RowOutcome) {
	for i := range rs.Origins {
		wc.st.end(rs, uint32(i), o)
	}
	o.Function = wc.st.step.Name
	for _, origin := range rs.Behind {
		wc.run.ledger.end(origin, o)
	}
}

// groups returns the places of the rows of rs by their keys: one list for each key, in the order of each key's first row. It
// returns nil in a flow without a shard key, and for rows without keys.
func (wc *wholeCall) groups(rs *rows.Set) [][]uint32 {
	keys := wc.run.work.in.columns.Keys
	if wc.run.plan.unsharded || len(keys) == 0 {
		return nil
	}
	places := make(map[uint64]int)
	var groups [][]uint32
	for i, origin := range rs.Origins {
		key := keys[wc.run.work.row(origin)]
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

// runGroups calls the function for the rows of each key alone, joins the rows that it makes, and sends them on. groups are the
// places in rs of the rows of each key. The rows made are collected in all.
func (wc *wholeCall) runGroups(s *step, rs *rows.Set, groups [][]uint32, all kis.Vector) {
	x, f := wc.run.x, &wc.x.frame
	pointApart.Hit()
	all.Reset(0)
	var parents, dead []uint32
	for _, rows := range groups {
		wc.st.gone, wc.st.jumps = wc.st.gone[:0], wc.st.jumps[:0]
		sub := x.mem.Subset(rs, rows, rs.Born)
		if s.Changes {
			sub = x.mem.AsCame(rs, rows, rs.Born)
		}
		if !holdOf(sub, 0).load {
			sub.Along = nil // its attempts are its own
		}
		sub = wc.st.prepare(s, sub)
		out := x.mem.Like(all)
		f.Out = out
		var o batch.RowOutcome
		given := sub
		if !wc.run.halted {
			sub, o = wc.call(s, sub)
		}
		switch {
		case wc.run.halted:
			for i, origin := range rs.Origins {
				if !slices.Contains(dead, uint32(i)) {
					wc.run.ledger.end(origin, o)
				}
			}
			return
		case o.Outcome != 0:
			wc.endAll(sub, o)
			dead = append(dead, rows...)
		case sub != given || len(wc.st.jumps) > 0 || len(wc.st.gone) > 0 || f.Reuse || f.Lost || out.Len() == 0:
			wc.pass(s, sub, out)
			dead = append(dead, rows...)
		default:
			all.Append(out)
			for _, p := range f.Parents {
				parents = append(parents, rows[p])
			}
		}
	}
	wc.st.gone, wc.st.jumps = append(wc.st.gone[:0], dead...), wc.st.jumps[:0]
	slices.Sort(wc.st.gone)
	wc.st.rs = rs
	order := rows.Range[uint32](0, len(parents))
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(parents[a], parents[b]) })
	sorted := x.mem.Like(all)
	sorted.Gather(all, order)
	wc.st.send(rs, wc.st.made(s, rs, sorted, x.mem.Pick(parents, order)))
}

package flowexec

import (
	"fmt"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// maxJumps is how often a row may jump before it ends as dead, and how often a run without rows may.
const maxJumps = 1000

// callEach calls a function that gets single rows, for all rows of rs in order. One call loops over as many rows as possible; it
// ends at the first row with an error, and the next call begins behind that row. Rows that do not go on are noted in st.verdicts.
// says means that the function says which effects a row saves or which key it loads: it is not called again for rows that have
// said so before they parked. callEach returns false if the run is over.
func (st *stepRun) callEach(rs *rows.Set, call callFunc, says bool) bool {
	st.rs = rs
	g := st.grows(rs)
	st.growth = g
	bounded := (g == nil || st.run.keyed) && st.run.bound.begin(st, rs)
	for i, n := 0, rs.Len(); i < n; {
		hi := n
		if g != nil {
			hi = min(hi, i+g.stretch)
		}
		if bounded {
			hi = min(hi, i+st.run.bound.stretch)
		}
		if st.run.work.abandoned != nil || len(st.run.budgets.spent) > 0 {
			hi = i + 1
		}
		if st.run.parking.any() || rs.Along != nil {
			if st.asking.stillWaits(rs, i) || says && st.saysAgain(i) {
				i++
				continue
			}
			hi = st.lengthOf(rs, i, hi)
		}
		if len(st.run.budgets.spent) > 0 && st.run.budgets.left(i) <= 0 {
			st.lose(i, timedOut(errRowTimeout, st.step, st.run.plan))
			i++
			continue
		}
		attempt := attemptOf(rs, i)
		st.x.frame.Call.Attempt = attempt
		t := st.run.budgets.try(i, attempt)
		at, f := st.x.guarded(call, i, hi)
		st.run.budgets.tried(i, t)
		st.x.frame.Call.Attempt = 1
		if f == nil {
			i = hi
			st.x.renewAfterTimeout()
			if bounded {
				i = st.run.bound.weigh(st, i)
			}
			if g != nil && g.weigh(i) {
				i = g.enough(i)
			}
			continue
		}
		if i = st.settle(at, f, call, attempt); st.run.halted {
			return false
		}
	}
	return true
}

// lengthOf returns the end of the call that begins at row i: the call gets the rows before that end. It is hi, or less so that the
// call has at most 64 rows, and ends before a row that is behind a parked row or was tried before.
func (st *stepRun) lengthOf(rs *rows.Set, i, hi int) int {
	const most = 64 // a call that ends early is looked for again
	hi = min(hi, i+most)
	for k := i + 1; k < hi; k++ {
		if st.run.parking.behind(rs, k) || attemptOf(rs, k) > 1 || keptOf(rs, k) != nil {
			return k
		}
	}
	if attemptOf(rs, i) > 1 {
		return i + 1
	}
	return hi
}

// saysAgain repeats the key or the effects that the function named for row i before the row parked: it appends them to the frame's
// Keys or Effects, but for effects that have taken place. It returns true if the row had parked so, and false if the function is
// still to be called for it.
func (st *stepRun) saysAgain(i int) bool {
	f, k := &st.x.frame, keptOf(st.rs, i)
	if k == nil {
		return false
	}
	if st.step.form == kis.FormLoad {
		f.Keys = append(f.Keys, k.key)
	} else if !k.answered() {
		for _, e := range k.effects {
			e.Row = i
			f.Effects = append(f.Effects, e)
		}
	}
	return true
}

// settle decides what becomes of a row whose call has ended with the fault f, and calls the function for that row again as often
// as it is to be tried. It returns the row at which the next call begins.
func (st *stepRun) settle(row int, f *fault, call callFunc, attempt int) int {
	first := attempt
	for f != nil {
		o, again := st.judge(row, f, attempt)
		switch {
		case st.run.halted:
			return row
		case f.paused:
			if attempt == first {
				return row
			}
		case !again:
			if o.Outcome != 0 {
				st.lose(row, o)
			}
			return row + 1
		default:
			attempt++
			if !st.again(row) {
				if !st.run.halted {
					st.gone = append(st.gone, uint32(row))
				}
				return row + 1
			}
		}
		st.x.frame.Call.Attempt = attempt
		t := st.run.budgets.try(row, attempt)
		_, f = st.x.guarded(call, row, row+1)
		st.run.budgets.tried(row, t)
		st.x.frame.Call.Attempt = 1
	}
	st.x.renewAfterTimeout()
	return row + 1
}

// judge decides what a call that has ended with the fault f means for its row, or in Batch and FaaS for all its rows. again means
// that the function is to be called again at once: judge has waited for the time between attempts. If again is false, the caller
// ends the rows with o, unless its Outcome is 0: then they have jumped, parked or ended already.
func (st *stepRun) judge(row int, f *fault, attempt int) (o batch.RowOutcome, again bool) {
	x := st.run.x
	if o := x.stopped(); o != nil {
		st.halt(*o)
		return *o, false
	}
	if cause := x.timeout(); cause != nil {
		x.renew()
		if f.paused {
			return o, true
		}
		o = timedOut(cause, st.step, st.run.plan)
		o.Attempts = uint32(attempt)
		return o, false
	}
	if f.signal != nil {
		return st.obey(row, f.signal), false
	}
	o = f.outcome()
	o.Attempts = uint32(attempt)
	if f.misfit != nil {
		o.Code = f.misfit.codeFor(st.rs.Born != st.run.part.Start)
	}
	if f.final {
		st.run.blameOn(f)
		return o, false
	}
	wait := jitter(st.step.retryAfter)
	if attempt > st.step.retries {
		if wait = st.loadAgain(row, attempt); wait == 0 {
			st.run.blameOn(f)
			return o, false
		}
	}
	switch {
	case st.step.form.Whole() && st.run.budgets.least() <= max(wait, st.run.plan.timeout/2) && len(st.whole.groups(st.rs)) > 1:
		st.run.blameOn(f) // each key alone is called at once, while there is time: those that are not to blame need no other attempt
		return o, false
	case wait == 0 && (st.step.form.Whole() || st.run.budgets.left(row) > 0):
	case wait >= st.run.budgets.left(row) && !st.step.form.Whole():
		st.run.blameOn(f)
		return st.noTime(f, attempt), false
	case st.step.form.Whole() && st.whole.loseSpent(wait, st.noTime(f, attempt)):
		st.run.blameOn(f)
		return st.noTime(f, attempt), false
	case st.run.keyed && st.rs.Len() > 0:
		st.counts().again()
		st.retryLater(row, attempt+1, wait)
		return batch.RowOutcome{}, false
	case !st.run.sleep(row, attempt, wait, st.asksAgain(attempt)):
		if stopped := x.stopped(); stopped != nil && !st.run.returned {
			st.halt(*stopped)
		}
		return o, false
	}
	st.counts().again()
	return o, true
}

// obey does what a function asks for with a signal in place of an error: to drop its row, to abort the batch, or to jump. In Batch
// and FaaS that concerns all rows of the call. The caller ends the row with the outcome that obey returns, unless its Outcome is
// 0: then the row has jumped or ended already.
func (st *stepRun) obey(row int, signal *kis.Signal) batch.RowOutcome {
	switch signal.Kind {
	case kis.SignalDrop:
		return batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeDropped, Reason: decode.Trimmed(signal.Reason)}
	case kis.SignalAbort:
		if !st.run.plan.unsharded {
			return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeNeedsWholeBatch, Attempts: 1,
				Reason: "the function aborts its batch (" + decode.Trimmed(signal.Reason) + "), but the flow's shard_key splits batches: " +
					"use kis.Drop, or remove shard_key"}
		}
		st.halt(batch.RowOutcome{Outcome: batch.Aborted, Code: batch.CodeAborted, Reason: decode.Trimmed(signal.Reason)})
		return batch.RowOutcome{}
	}
	target, ok := st.run.plan.target(signal.Target, st.step.Index)
	if !ok {
		return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1,
			Reason: fmt.Sprintf("the function jumps to %q, which is not in flow %s: name one of its functions", decode.Trimmed(signal.Target), st.run.plan.flow)}
	}
	if st.step.form.Whole() {
		for i := range st.rs.Len() {
			st.jumpOrStop(i, target)
		}
		if st.rs.Len() == 0 {
			st.jumpWithout(target)
		}
		return batch.RowOutcome{}
	}
	st.jumpOrStop(row, target)
	return batch.RowOutcome{}
}

// jumpOrStop has a row jump to the step at place target, or ends the row as dead if it has jumped maxJumps times.
func (st *stepRun) jumpOrStop(row, target int) {
	if rows.At(st.rs.Trips, row) >= maxJumps {
		var cycle []string
		for k := target; k <= st.step.Index; k++ {
			cycle = append(cycle, st.run.plan.steps[k].Name)
		}
		st.lose(row, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeStepLimit, Attempts: 1,
			Reason: fmt.Sprintf("the row jumped %d times, at last round %s → %s: let the jump end", maxJumps,
				strings.Join(cycle, " → "), st.run.plan.steps[target].Name)})
		return
	}
	st.jumps = append(st.jumps, jump{row, target})
	st.gone = append(st.gone, uint32(row))
}

// jumpWithout obeys a function that was called without rows and jumps: the function at the place target is called without rows,
// too. After maxJumps such jumps it ends the run.
func (st *stepRun) jumpWithout(target int) {
	if st.run.jumpsWithout++; st.run.jumpsWithout > maxJumps {
		st.halt(batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeStepLimit, Attempts: 1,
			Reason: fmt.Sprintf("the run jumped %d times without rows, at last to %s: let the jump end", maxJumps, st.run.plan.steps[target].Name)})
		if len(st.rs.Behind) == 0 {
			st.run.blameOn(batch.Errorf(batch.CodeStepLimit, "%s: the flow jumped %d times without rows, at last to %s: let the jump end",
				st.step.Name, maxJumps, st.run.plan.steps[target].Name))
		}
		return
	}
	st.run.queue(&rows.Set{Born: target, Forced: true, Behind: st.rs.Behind}, target)
}

// target returns the place to which a jump to the function with a name leads, from the step at place from. If the function stands
// in the flow several times, that is its last place up to from, or its first place if all come later. The bool is false if the
// function is not in the flow.
func (p *Plan) target(name string, from int) (int, bool) {
	places := p.places[name]
	if len(places) == 0 {
		return 0, false
	}
	target := places[0]
	for _, place := range places {
		if place <= from {
			target = place
		}
	}
	return target, true
}

package flowexec

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// jump is a row that goes to another step than the next.
type jump struct {
	row  int
	step int
}

// through calls a row function for all rows under way, in order. Those that do not get through end or jump, and are gone.
// says: the call says what to ask the connector for, and is left out for rows that have said it. False: the run is over.
func (r *run) through(rs *rows.Set, call callFunc, says bool) bool {
	r.now = rs
	g := r.grows(rs)
	r.growth = g
	for i, n := 0, rs.Len(); i < n; {
		hi := n
		if g != nil {
			hi = min(hi, i+g.stretch)
		}
		if r.work.abandoned != nil || len(r.spent) > 0 {
			hi = i + 1
		}
		if r.aside != nil || rs.Along != nil {
			if r.stillWaits(rs, i) || says && r.saysAgain(i) {
				i++
				continue
			}
			hi = r.stretch(rs, i, hi)
		}
		if len(r.spent) > 0 && r.left(i) <= 0 {
			r.lose(i, timedOut(errRowTimeout, r.step, r.plan))
			i++
			continue
		}
		attempt := attemptOf(rs, i)
		r.x.frame.Call.Attempt = attempt
		t := r.try(i, attempt)
		at, f := r.x.guarded(call, i, hi)
		r.tried(i, t)
		r.x.frame.Call.Attempt = 1
		if f == nil {
			i = hi
			r.renewAfterTimeout()
			if g != nil && r.grown(g, i) {
				i = r.enough(g, i)
			}
			continue
		}
		if i = r.settle(at, f, call, attempt); r.halted {
			return false
		}
	}
	return true
}

// stretch is how far rows behind i go into one call: up to one that is behind a parked row, or has been tried before.
func (r *run) stretch(rs *rows.Set, i, hi int) int {
	const most = 64 // a call that ends early is looked for again
	hi = min(hi, i+most)
	for k := i + 1; k < hi; k++ {
		if r.behind(rs, k) || attemptOf(rs, k) > 1 || keptOf(rs, k) != nil {
			return k
		}
	}
	if attemptOf(rs, i) > 1 {
		return i + 1
	}
	return hi
}

// saysAgain puts what row i had said before it parked beside what others say, if it had.
func (r *run) saysAgain(i int) bool {
	f, k := &r.x.frame, keptOf(r.now, i)
	if k == nil {
		return false
	}
	if r.step.form == kis.FormLoad {
		f.Keys = append(f.Keys, k.key)
	} else if !k.answered() {
		for _, e := range k.effects {
			e.Row = i
			f.Effects = append(f.Effects, e)
		}
	}
	return true
}

// renewAfterTimeout: a function may have come back rightly, but later than its context was cancelled.
func (r *run) renewAfterTimeout() {
	if r.x.ctx.Err() != nil && r.x.stopped() == nil {
		r.x.renew()
	}
}

// settle decides what becomes of a row whose function returned an error, with retries; it returns the row to go on with.
func (r *run) settle(row int, f *fault, call callFunc, attempt int) int {
	first := attempt
	for f != nil {
		o, again := r.judge(row, f, attempt)
		switch {
		case r.halted:
			return row
		case f.paused:
			if attempt == first {
				return row
			}
		case !again:
			if o.Outcome != 0 {
				r.lose(row, o)
			}
			return row + 1
		default:
			attempt++
			if !r.again(row) {
				if !r.halted {
					r.x.gone = append(r.x.gone, uint32(row))
				}
				return row + 1
			}
		}
		r.x.frame.Call.Attempt = attempt
		t := r.try(row, attempt)
		_, f = r.x.guarded(call, row, row+1)
		r.tried(row, t)
		r.x.frame.Call.Attempt = 1
	}
	r.renewAfterTimeout()
	return row + 1
}

// judge says how the rows of a call end that returned an error, or that it is to be tried again; it has waited then. An
// outcome of 0 means that they are taken care of.
func (r *run) judge(row int, f *fault, attempt int) (o batch.RowOutcome, again bool) {
	x := r.x
	if o := x.stopped(); o != nil {
		r.halt(*o)
		return *o, false
	}
	if cause := x.timeout(); cause != nil {
		x.renew()
		if f.paused {
			return o, true
		}
		o = timedOut(cause, r.step, r.plan)
		o.Attempts = uint32(attempt)
		return o, false
	}
	if f.signal != nil {
		return r.obey(row, f.signal), false
	}
	o = f.outcome()
	o.Attempts = uint32(attempt)
	wait := jitter(r.step.retryAfter)
	if attempt > r.step.retries {
		if wait = r.loadAgain(row, attempt); wait == 0 {
			r.blameOn(f)
			return o, false
		}
	}
	switch {
	case r.step.form.Whole() && r.least() <= max(wait, r.plan.timeout/2) && len(r.groups(r.now)) > 1:
		r.blameOn(f) // each key alone is called at once, while there is time: those that are not to blame need no other attempt
		return o, false
	case wait == 0 && (r.step.form.Whole() || r.left(row) > 0):
	case wait >= r.left(row) && !r.step.form.Whole():
		r.blameOn(f)
		return r.noTime(f, attempt), false
	case r.step.form.Whole() && r.loseSpent(wait, r.noTime(f, attempt)):
		r.blameOn(f)
		return r.noTime(f, attempt), false
	case r.keyed && r.now.Len() > 0:
		r.retryLater(row, attempt+1, wait)
		return batch.RowOutcome{}, false
	case !r.sleep(row, attempt, wait, r.asksAgain(attempt)):
		if stopped := x.stopped(); stopped != nil && !r.returned {
			r.halt(*stopped)
		}
		return o, false
	}
	return o, true
}

// noTime is how a row ends that has no time for another attempt.
func (r *run) noTime(f *fault, attempt int) batch.RowOutcome {
	o := timedOut(errRowTimeout, r.step, r.plan)
	o.Attempts = uint32(attempt)
	o.Reason += "; the last error was: " + f.outcome().Reason
	return o
}

// retryLater parks the row whose function failed; in Batch and FaaS all rows of the call.
func (r *run) retryLater(row, attempt int, wait time.Duration) {
	now := r.x.lane.lanes.clock.now()
	switch {
	case r.asksAgain(attempt - 1):
		r.askLater(hold{since: r.askedSince(row, attempt-1), due: now, attempt: uint32(attempt), load: true}, wait)
	case r.step.form.Whole():
		r.spendRetry(row, attempt, wait)
		r.parkAll(hold{due: now + wait, attempt: uint32(attempt)})
	default:
		r.spendRetry(row, attempt, wait)
		r.park(row, hold{due: now + wait, attempt: uint32(attempt)})
	}
}

// askLater parks the rows of a Load in KisFlow's shape until its connector saves, at most for that long.
func (r *run) askLater(h hold, wait time.Duration) {
	r.parkAll(h)
	for _, origin := range r.now.Origins {
		g := r.aside.groups[r.key(origin)]
		if g == nil || g.in != r.now {
			continue // its row has ended, or it is behind another
		}
		g.due = h.due + wait
		if r.step.connector != nil {
			g.saveWait = &saveWait{r.saves, h.due + soonest(wait)}
		}
	}
}

// soonest is how long a Load in KisFlow's shape waits at least before a Save has it try again: with many Saves that load
// nothing of it, it is called a few times as often as without any.
func soonest(wait time.Duration) time.Duration { return wait / 8 }

// blameOn notes the error that the first rows died of.
func (r *run) blameOn(err error) {
	if r.cause == nil {
		r.cause = err
	}
}

// loadAgain is how long to wait until a Load in KisFlow's shape is tried again: what it asks for may not have been saved yet.
// 0: its time to wait is over.
func (r *run) loadAgain(row, attempt int) time.Duration {
	const first, most = 10 * time.Millisecond, time.Second
	if !r.asksAgain(attempt) || len(r.groups(r.now)) > 1 {
		return 0 // several keys: first it is tried for each alone
	}
	left := r.askedSince(row, attempt) + r.step.wait - r.x.lane.lanes.clock.now()
	return jitter(max(min(first<<min(attempt-r.step.retries-1, 10), most, left), 0))
}

// asksAgain reports whether an attempt is one of a Load in KisFlow's shape that has no retries left.
func (r *run) asksAgain(attempt int) bool {
	s := r.step
	return s.form == kis.FormFaaS && s.mode == definition.ModeLoad && s.onMissing == definition.OnMissingWait && attempt > s.retries
}

// askedSince is when such a Load began to wait.
func (r *run) askedSince(row, attempt int) time.Duration {
	if attempt == r.step.retries+1 {
		r.loadSince = r.x.lane.lanes.clock.now()
	} else if r.keyed && r.now.Len() > 0 {
		return holdOf(r.now, row).since
	}
	return r.loadSince
}

// jitter spreads retries by a fifth to either side.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d/5*2)+1))
}

// obey does what a row function's signal says of its row; in Batch and FaaS, of all rows.
func (r *run) obey(row int, signal *kis.Signal) batch.RowOutcome {
	switch signal.Kind {
	case kis.SignalDrop:
		return batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeDropped, Reason: decode.Trimmed(signal.Reason)}
	case kis.SignalAbort:
		if !r.plan.unsharded {
			return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeNeedsWholeBatch, Attempts: 1,
				Reason: "the function aborts its batch (" + decode.Trimmed(signal.Reason) + "), but the flow's shard_key splits batches: " +
					"use kis.Drop, or remove shard_key"}
		}
		r.halt(batch.RowOutcome{Outcome: batch.Aborted, Code: batch.CodeAborted, Reason: decode.Trimmed(signal.Reason)})
		return batch.RowOutcome{}
	}
	target, ok := r.plan.target(signal.Target, r.step.Index)
	if !ok {
		return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1,
			Reason: fmt.Sprintf("the function jumps to %q, which is not in flow %s: name one of its functions", decode.Trimmed(signal.Target), r.plan.flow)}
	}
	if r.step.form.Whole() {
		for i := range r.now.Len() {
			r.jumpOrStop(i, target)
		}
		if r.now.Len() == 0 {
			r.jumpWithout(target)
		}
		return batch.RowOutcome{}
	}
	r.jumpOrStop(row, target)
	return batch.RowOutcome{}
}

// jumpOrStop notes that a row jumps, unless it did so too often. The row is gone either way.
func (r *run) jumpOrStop(row, target int) {
	if rows.At(r.now.Trips, row) >= maxJumps {
		var cycle []string
		for k := target; k <= r.step.Index; k++ {
			cycle = append(cycle, r.plan.steps[k].Name)
		}
		r.lose(row, batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeStepLimit, Attempts: 1,
			Reason: fmt.Sprintf("the row jumped %d times, at last round %s → %s: let the jump end", maxJumps,
				strings.Join(cycle, " → "), r.plan.steps[target].Name)})
		return
	}
	r.x.jumps = append(r.x.jumps, jump{row, target})
	r.x.gone = append(r.x.gone, uint32(row))
}

// jumpWithout enters a step without rows, as a function does that was entered without any and jumps.
func (r *run) jumpWithout(target int) {
	if r.empty++; r.empty > maxJumps {
		r.halt(batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeStepLimit, Attempts: 1,
			Reason: fmt.Sprintf("the run jumped %d times without rows, at last to %s: let the jump end", maxJumps, r.plan.steps[target].Name)})
		if len(r.now.Behind) == 0 {
			r.blameOn(batch.Errorf(batch.CodeStepLimit, "%s: the flow jumped %d times without rows, at last to %s: let the jump end",
				r.step.Name, maxJumps, r.plan.steps[target].Name))
		}
		return
	}
	r.pass(&rows.Set{Born: target, Forced: true, Behind: r.now.Behind}, target)
}

// target is where a jump from a step to a function goes: to its last place up to the step, else to its first behind it.
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

// jump sends the rows that jump to where they go.
func (r *run) jump(rs *rows.Set) {
	if len(r.x.jumps) == 0 {
		return
	}
	type group struct {
		from   *rows.Set
		target int
	}
	var groups []group
	places, trips, jumped := make(map[group][]uint32), make(map[group][]uint32), make(map[group][]uint32)
	for _, j := range r.x.jumps {
		from, row := rs, uint32(j.row)
		if j.step <= r.step.Index {
			from, row = rs.Ancestor(row, j.step)
		}
		if from == nil {
			r.end(rs, uint32(j.row), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLineageLost, Attempts: 1,
				Reason: fmt.Sprintf("the row jumps back to %s, but nobody can say what it was there: %s",
					r.plan.steps[j.step].Name, lineageAdvice)})
			continue
		}
		g := group{from, j.step}
		if places[g] == nil {
			groups = append(groups, g)
		}
		places[g] = append(places[g], row)
		trips[g], jumped[g] = append(trips[g], rows.At(rs.Trips, j.row)+1), append(jumped[g], uint32(j.row))
	}
	for _, g := range groups {
		sub := r.x.mem.Subset(g.from, places[g], g.target)
		if r.plan.steps[g.target].Changes {
			sub = r.x.mem.AsCame(g.from, places[g], g.target)
		}
		sub.Trips, sub.Paths = trips[g], rows.Pick(rs.Paths, jumped[g]) // rows that came of one jump back as several
		r.pass(sub, g.target)
	}
}

const lineageAdvice = "name the origins with kis.From(ctx).Origins or flow.From, pass the same pointers on, or as many rows as were given"

package flowexec

import (
	"math/rand/v2"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// budgets counts the time that rows use up of their flow's timeout: calls that take long, attempts after the first few, and waits. A row whose budget
// is used up ends with ROW_TIMEOUT. Quick calls count for nothing, so that most rows cost nothing here. It belongs to the run's goroutine; the
// watchdog reads it only after it has abandoned that goroutine.
type budgets struct {
	st    *stepRun
	spent map[rows.RunRow]time.Duration // the time that each input row has used up; nil means that none has used up any
	until map[rows.RunRow]time.Duration // until when the waits of each input row for connectors are charged, by the clock of the lanes
}

const (
	// slow is how long a call or a wait must take for its time to count.
	slow = 10 * time.Millisecond
	// quick is how many attempts of a row may be quick, each after a short wait, without counting. Beyond that all time counts, so that a row with
	// millions of attempts has the flow's timeout too.
	quick = 5
)

// budget returns how long a call may take for row i, and the error that cancels it after that: the function's timeout, or what the row has left of
// the flow's timeout if that is less. In Batch and FaaS the row with the least time left counts. reading means that methods of the row's type are
// called, not the function.
func (b *budgets) budget(i int, reading bool) (time.Duration, error) {
	left := b.left(i)
	if b.st.step.form.Whole() && !reading {
		left = min(left, b.least())
	}
	if b.st.step.timeout <= left {
		return b.st.step.timeout, errFunctionTimeout
	}
	return left, errRowTimeout
}

// left returns how much of the flow's timeout row i has left; 0 or less means none. A row that does not exist has all of it.
func (b *budgets) left(i int) time.Duration {
	timeout := b.st.run.plan.timeout
	if len(b.spent) == 0 || i >= b.st.rs.Len() {
		return timeout
	}
	return timeout - b.spent[b.st.rs.Origins[i]]
}

// least returns how much of the flow's timeout the row with the least time has left.
func (b *budgets) least() time.Duration {
	least := b.st.run.plan.timeout
	if len(b.spent) == 0 {
		return least
	}
	for i := range b.st.rs.Len() {
		least = min(least, b.left(i))
	}
	return least
}

// most returns how much of the flow's timeout the row with the most time has left.
func (b *budgets) most() time.Duration {
	var most time.Duration
	for i := range b.st.rs.Len() {
		most = max(most, b.left(i))
	}
	return most
}

// leastOf returns how much time the row with the least time has left, among the rows that are not over; it returns never if all rows are over.
func (b *budgets) leastOf(over []bool) time.Duration {
	least := never
	for i := range over {
		if !over[i] {
			least = min(least, b.left(i))
		}
	}
	return least
}

// spend charges row i for a call that took as long as took. A call shorter than slow is not charged.
func (b *budgets) spend(i int, took time.Duration) {
	if took >= slow && i >= 0 && i < b.st.rs.Len() {
		b.chargeCall(i, took)
	}
}

// spendRetry charges row i for the wait before its next attempt. For the first attempts (quick) a wait shorter than slow is not charged.
func (b *budgets) spendRetry(i, attempt int, wait time.Duration) {
	if attempt > quick {
		wait = max(wait, 10*time.Microsecond) // to park takes time, too
	} else if wait < slow {
		return
	}
	b.chargeCall(i, wait)
}

// chargeCall charges row i for a time, however short it is. In Batch and FaaS it charges every input row of the call.
func (b *budgets) chargeCall(i int, took time.Duration) {
	if !b.st.step.form.Whole() {
		b.charge(b.st.rs.Origins[i], took)
		return
	}
	charged := make(map[rows.RunRow]bool) // the outputs of one row are called together
	for _, origin := range b.st.rs.Origins {
		if !charged[origin] {
			b.charge(origin, took)
			charged[origin] = true
		}
	}
}

// chargeWait charges all rows that are not over for a wait. Then it sets over to true for the rows that have no time left.
func (b *budgets) chargeWait(over []bool, took time.Duration) {
	charged := make(map[rows.RunRow]bool) // the outputs of one row wait together
	for i, origin := range b.st.rs.Origins {
		if !over[i] && !charged[origin] {
			b.charge(origin, took)
			charged[origin] = true
		}
	}
	for i := range over {
		over[i] = over[i] || b.left(i) <= 0
	}
}

// charge takes time off the budget of an input row.
func (b *budgets) charge(origin rows.RunRow, took time.Duration) {
	if b.spent == nil {
		b.spent = make(map[rows.RunRow]time.Duration)
	}
	b.spent[origin] += took
}

// chargeSpan charges an input row for its wait for a connector from one time until another, but for what of that is charged already: rows that
// come of it wait together, also when they are asked for one after the other.
func (b *budgets) chargeSpan(origin rows.RunRow, from, until time.Duration) {
	from = max(from, b.until[origin])
	if until <= from {
		return
	}
	if b.until == nil {
		b.until = make(map[rows.RunRow]time.Duration)
	}
	b.until[origin] = until
	b.charge(origin, until-from)
}

// trial is one attempt, for which a row is charged however short it is. The zero trial stands
// for one of the first attempts, for which only slow calls are charged.
type trial struct {
	origin rows.RunRow
	began  time.Duration
	before time.Duration // what the row, or in Batch and FaaS the first row, had spent before
	// counts is false in the zero trial only.
	counts bool
}

// try begins an attempt for row i, or in Batch and FaaS for all rows. For the first attempts (quick) the trial is zero. The rest of the work is in
// counted, so that the compiler inlines try.
func (b *budgets) try(i, attempt int) (t trial) {
	if attempt > quick {
		t = b.counted(i)
	}
	return t
}

// counted begins a trial of row i for which the row will be charged, however short it is. For a row that does not exist the trial is zero.
func (b *budgets) counted(i int) (t trial) {
	if i < b.st.rs.Len() {
		origin := b.st.rs.Origins[i]
		t = trial{origin, b.st.x.lane.lanes.clock.now(), b.spent[origin], true}
	}
	return t
}

// tried charges the rows of an attempt that has ended, as far as they were not charged during it. For a zero trial it does nothing.
func (b *budgets) tried(i int, t trial) {
	if t.counts {
		b.settle(i, t)
	}
}

// settle does the work of the method tried for a trial that is charged.
func (b *budgets) settle(i int, t trial) {
	if i >= b.st.rs.Len() || b.st.rs.Origins[i] != t.origin {
		return
	}
	took := max(b.st.x.lane.lanes.clock.now()-t.began, time.Microsecond) // a clock may be coarse
	if noted := b.spent[t.origin] - t.before; took > noted {
		b.chargeCall(i, took-noted)
	}
}

// jitter returns d, made longer or shorter at random by up to a fifth, so that retries do not all come at the same time.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d/5*2)+1))
}

// soonest returns how long a Load in KisFlow's shape waits at least before a Save may end its wait: an eighth of wait, which is how long it waits
// without a Save. So Saves of other keys have it called at most about eight times as often as no Saves would.
func soonest(wait time.Duration) time.Duration { return wait / 8 }

package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// This file counts what rows use up of the flow's timeout.

// budget is how long row i of the rows under way may take now, and what happens when it took longer. In Batch and FaaS it is
// that of the row with the least time left.
func (r *run) budget(i int, reading bool) (time.Duration, error) {
	left := r.left(i)
	if r.step.form.Whole() && !reading {
		left = min(left, r.least())
	}
	if r.step.timeout <= left {
		return r.step.timeout, errFunctionTimeout
	}
	return left, errRowTimeout
}

// least is what the row with the least time has left of the rows under way.
func (r *run) least() time.Duration {
	least := r.plan.timeout
	if len(r.spent) == 0 {
		return least
	}
	for i := range r.now.Len() {
		least = min(least, r.left(i))
	}
	return least
}

// left is what row i of the rows under way has left of the flow's timeout.
func (r *run) left(i int) time.Duration {
	if len(r.spent) == 0 || i >= r.now.Len() {
		return r.plan.timeout
	}
	return r.plan.timeout - r.spent[r.now.Origins[i]]
}

// slow is how long a row takes at least for it to be noted.
const slow = 10 * time.Millisecond

// spend takes time off what a row has left of the flow's timeout.
func (r *run) spend(i int, took time.Duration) {
	if took >= slow && i >= 0 && i < r.now.Len() {
		r.spendAll(i, took)
	}
}

// quick is how many attempts of a row may be quick, each after a short wait, without being noted. Beyond that all counts: a row with
// millions of attempts has the flow's timeout, too.
const quick = 5

// spendRetry takes the wait for a row's next attempt off what the row has left.
func (r *run) spendRetry(i, attempt int, wait time.Duration) {
	if attempt > quick {
		wait = max(wait, 10*time.Microsecond) // to park takes time, too
	} else if wait < slow {
		return
	}
	r.spendAll(i, wait)
}

// trial is an attempt whose time counts, however short.
type trial struct {
	origin rows.RunRow
	began  time.Duration
	before time.Duration // that its row, or the first one in Batch and FaaS, had spent
	counts bool
}

// try begins an attempt for row i, or in Batch and FaaS for all rows. Most attempts count for nothing: the test stands apart, so that
// the compiler inlines it.
func (r *run) try(i, attempt int) (t trial) {
	if attempt > quick {
		t = r.counted(i)
	}
	return t
}

// counted is an attempt that counts, which begins now.
func (r *run) counted(i int) (t trial) {
	if i < r.now.Len() {
		t = trial{r.now.Origins[i], r.x.lane.lanes.clock.now(), r.spent[r.now.Origins[i]], true}
	}
	return t
}

// tried takes the time of an attempt that has ended off what its rows have left, as far as it is not noted yet.
func (r *run) tried(i int, t trial) {
	if t.counts {
		r.settleTrial(i, t)
	}
}

// settleTrial is tried, for an attempt that counts.
func (r *run) settleTrial(i int, t trial) {
	if i >= r.now.Len() || r.now.Origins[i] != t.origin {
		return
	}
	took := max(r.x.lane.lanes.clock.now()-t.began, time.Microsecond) // a clock may be coarse
	if noted := r.spent[t.origin] - t.before; took > noted {
		r.spendAll(i, took-noted)
	}
}

// spendAll is spend for however little.
func (r *run) spendAll(i int, took time.Duration) {
	if r.spent == nil {
		r.spent = make(map[rows.RunRow]time.Duration)
	}
	if !r.step.form.Whole() {
		r.spent[r.now.Origins[i]] += took
		return
	}
	charged := make(map[rows.RunRow]bool) // the outputs of one row are called together
	for _, origin := range r.now.Origins {
		if !charged[origin] {
			r.spent[origin] += took
			charged[origin] = true
		}
	}
}

// charge takes a wait off what a row has left of the flow's timeout.
func (r *run) charge(origin rows.RunRow, waited time.Duration) {
	if r.spent == nil {
		r.spent = make(map[rows.RunRow]time.Duration)
	}
	r.spent[origin] += waited
}

package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// noTime returns the outcome of a row that has no time left for another attempt: ROW_TIMEOUT. f is the fault of the last attempt,
// whose number is attempt.
func (st *stepRun) noTime(f *fault, attempt int) batch.RowOutcome {
	pointNoTime.Hit()
	o := timedOut(errRowTimeout, st.step, st.run.plan)
	o.Attempts = uint32(attempt)
	o.Reason += "; the last error was: " + f.outcome().Reason
	return o
}

// retryLater parks a row until its next attempt, whose number is attempt, for wait. In Batch and FaaS it parks all rows of the
// call.
func (st *stepRun) retryLater(row, attempt int, wait time.Duration) {
	now := st.x.lane.lanes.clock.now()
	switch {
	case st.asksAgain(attempt - 1):
		st.askLater(hold{since: st.askedSince(row, attempt-1), due: now, attempt: uint32(attempt), load: true}, wait)
	case st.step.form.Whole():
		st.run.budgets.spendRetry(row, attempt, wait)
		st.parkAll(hold{due: now + wait, attempt: uint32(attempt)})
	default:
		pointRetryParked.Hit()
		st.run.budgets.spendRetry(row, attempt, wait)
		st.park(row, hold{due: now + wait, attempt: uint32(attempt)})
	}
}

// askLater parks the rows of a Load in KisFlow's shape, for wait at the longest: they go on earlier when something is saved
// through its connector.
func (st *stepRun) askLater(h hold, wait time.Duration) {
	pointAskedAgain.Hit()
	st.parkAll(h)
	for _, origin := range st.rs.Origins {
		g := st.run.parking.groups[st.run.work.key(origin)]
		if g == nil || g.in != st.rs {
			continue // its row has ended, or it is behind another
		}
		g.due = h.due + wait
		if st.step.connector != nil {
			g.saveWait = &saveWait{st.saves, h.due + soonest(wait)}
		}
	}
}

// loadAgain returns how long to wait before a Load in KisFlow's shape is called again, although it has no retries left: the values
// that it needs may not have been saved yet. It returns 0 if it is not to be called again so: the step is no Load that waits, the
// time to wait (option.wait) is over, or the call has several keys, each of which is to be tried alone first.
func (st *stepRun) loadAgain(row, attempt int) time.Duration {
	const first, most = 10 * time.Millisecond, time.Second
	if !st.asksAgain(attempt) || len(st.whole.groups(st.rs)) > 1 {
		return 0 // several keys: first it is tried for each alone
	}
	left := st.askedSince(row, attempt) + st.step.wait - st.x.lane.lanes.clock.now()
	return jitter(max(min(first<<min(attempt-st.step.retries-1, 10), most, left), 0))
}

// asksAgain reports whether the step is a Load in KisFlow's shape (a FaaS function with the mode Load) that is called again and
// again until a Save: its option.on_missing is wait, and the attempt was later than the last retry.
func (st *stepRun) asksAgain(attempt int) bool {
	s := st.step
	return s.form == kis.FormFaaS && s.mode == definition.ModeLoad && s.onMissing == definition.OnMissingWait && attempt > s.retries
}

// askedSince returns when a Load in KisFlow's shape began to wait for a Save, by the clock of the lanes: now if the attempt is the
// first beyond the retries.
func (st *stepRun) askedSince(row, attempt int) time.Duration {
	if attempt == st.step.retries+1 {
		st.loadSince = st.x.lane.lanes.clock.now()
	} else if st.run.keyed && st.rs.Len() > 0 {
		return holdOf(st.rs, row).since
	}
	return st.loadSince
}

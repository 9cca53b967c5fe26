package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// sleep waits for d before the next attempt of row i, and charges the row for it. A run without keys rests meanwhile; otherwise the
// goroutine blocks. asks says that the function is a Load in KisFlow's shape, for which the wait also ends when something is saved through
// its connector. sleep returns true when the wait is over, and false if the run was cancelled or is given back.
func (r *run) sleep(i, attempt int, d time.Duration, asks bool) bool {
	switch {
	case !r.keyed && asks && r.st.step.connector != nil:
		began := time.Now()
		if !r.rest(soonest(d), nil, nil, nil) || !r.rest(d-soonest(d), r.st.step.connector, nil, nil) {
			return false
		}
		r.budgets.spendRetry(i, attempt, min(d, time.Since(began)))
		return true
	case !r.keyed:
		r.budgets.spendRetry(i, attempt, d)
		return r.rest(d, nil, nil, nil)
	}
	r.budgets.spendRetry(i, attempt, d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.x.ctx.Done():
		return false
	}
}

// rest lets the run rest, for d at the longest: until all the keys were saved in the connector c, until something was saved in c if there
// are no keys, or until the call a has ended. c and a may be nil. Then it waits until the run has its lane again. It sets run.woke to the
// time when the wait was over, and returns true. It returns false if the run was cancelled or is given back.
func (r *run) rest(d time.Duration, c *definition.Connector, keys []string, a *ask) bool {
	x, ln := r.x, r.x.lane
	lanes := ln.lanes
	sources := lanes.sources
	wants := len(keys)
	if c != nil && wants == 0 {
		wants = 1
	}
	s := newRestingRun(r, wants)
	if !ln.detach(s) {
		r.giveBack()
		return false
	}
	x.leavePart()
	if c != nil && len(keys) == 0 {
		sources.saves.add(c.Name, r.st.saves, s)
		defer sources.saves.remove(c.Name, s)
	}
	if len(keys) > 0 {
		if err := sources.keys.use(x.ctx, c, func(w *keyWatch) { w.addResting(s, keys) }); err != nil {
			d = min(d, time.Second)
		}
		defer func() {
			if w := sources.keys.of(c); w != nil {
				for _, key := range keys {
					w.remove(key, nil, s)
				}
			}
		}()
	}
	var answered <-chan struct{}
	if a != nil {
		answered = a.done
	}
	if !s.await(lanes.ctx, d, answered) {
		ln.resting.drop(s)
		return false
	}
	r.woke = lanes.clock.now()
	ln.resting.requestLane(s)
	select {
	case <-s.resumed:
	case <-s.released:
		r.giveBack()
		return false
	}
	x.enterPart(r.work)
	x.startRun(r.part.Deadline)
	return x.ctx.Err() == nil
}

// giveBack ends the run without outcomes: all of its rows are in RunResult.Returned.
func (r *run) giveBack() {
	pointRestReleased.Hit()
	r.returned, r.halted = true, true
}

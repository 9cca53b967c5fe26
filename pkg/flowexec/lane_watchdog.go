package flowexec

import "time"

// runWatchdog is the goroutine of the watchdog, one for all lanes of a flow, until stop is closed. It does two things:
//
//   - While a lane executes a run, it looks at the lane's executor every tick (run_guard.go), which enforces timeouts and deadlines. It
//     abandons an executor whose function does not return.
//   - When the clock's timer fires, it lets parked rows go on whose time has come.
//
// One call of a function, as the watchdog sees it. A call that returns has ended, in any of the first three states:
//
//	        a tick              the row's timeout or the
//	        passes              deadline is over, or Stop             a second passes
//	called ---------> watched ----------------------------> cancelled -----------------> abandoned
//
// An abandoned goroutine ends if its call returns after all.
//
// While a call is watched it tells the guard of each row, so that each row has a timeout of its own. When a goroutine is abandoned, the lane
// gets another one, which goes on with the same run (executor.succeed).
func (l *Lanes) runWatchdog(stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	stopping := l.ctx.Done()
	for {
		if !l.busy.any() { // sleep without ticks
			ticker.Stop()
			select {
			case <-l.busy.wake:
				ticker.Reset(tick)
			case <-l.clock.timer.C:
				l.resumeDue()
				ticker.Reset(tick) // a lane may be busy by now
				continue
			case <-stop:
				return
			}
		}
		select {
		case <-ticker.C:
		case <-l.clock.timer.C:
			l.resumeDue()
			continue
		case <-stopping:
			stopping = nil // it is closed for good; the ticks go on
		case <-stop:
			return
		}
		now := time.Now()
		for _, ln := range l.all() {
			ln.look(now, stopping == nil)
		}
	}
}

// resumeDue ends the waits of parked rows whose time has come, in all lanes, and sets the clock's timer for the next time.
func (l *Lanes) resumeDue() {
	l.clock.fired()
	for _, ln := range l.all() {
		due, next := ln.parked.resumeDue(l.clock.now())
		l.clock.wakeAt(next)
		l.sources.forget(due)
	}
}

// look checks the call that the lane's executor is in; the watchdog calls it at each tick. stopping says that the context of the lanes has
// ended. If the executor has to be abandoned, the lane goes on in another goroutine.
func (ln *lane) look(now time.Time, stopping bool) {
	ln.mu.Lock()
	x := ln.exec
	ln.mu.Unlock()
	if x == nil || !x.look(now, stopping) {
		return
	}
	config := &ln.lanes.config
	pointAbandoned.Hit()
	config.Metrics.addAbandoned(1)
	config.Logger.Warn("a function did not return after its context was cancelled: its goroutine is abandoned, and its lane goes on in another one",
		"flow", config.Flow, "function", x.frame.Call.Function)
	x.succeed(x.overdue(), x.hung(), true)
}

package flowexec

import "time"

// runWatchdog is the watchdog of all lanes. It sleeps while none is busy.
func (l *Lanes) runWatchdog(ended <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	stopping := l.ctx.Done()
	for {
		if l.busy.Load() == 0 {
			ticker.Stop()
			select {
			case <-l.wake:
				ticker.Reset(tick)
			case <-l.earlier.C:
				l.expire()
				continue
			case <-ended:
				return
			}
		}
		select {
		case <-ticker.C:
		case <-l.earlier.C:
			l.expire()
			continue
		case <-stopping:
			stopping = nil
		case <-ended:
			return
		}
		now := time.Now()
		for _, ln := range l.all() {
			ln.look(now, stopping == nil)
		}
	}
}

// look abandons the lane's goroutine if it does not come back.
func (ln *lane) look(now time.Time, stopping bool) {
	ln.mu.Lock()
	x := ln.exec
	ln.mu.Unlock()
	if x == nil || !x.look(now, stopping) {
		return
	}
	config := &ln.lanes.config
	config.Metrics.addAbandoned(1)
	config.Logger.Warn("abandoned a function that goes on after its context was cancelled",
		"flow", config.Flow, "function", x.frame.Call.Function)
	x.succeed(x.overdue(), x.hung(), true)
}

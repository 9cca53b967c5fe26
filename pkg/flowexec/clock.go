package flowexec

import (
	"math"
	"sync"
	"time"
)

// clock is the clock of one Lanes. It counts the time since the lanes were started, which parked rows and resting runs use in place of
// time.Time, and it wakes the watchdog when the next of them is due. It is safe for concurrent use.
type clock struct {
	start time.Time
	// timer fires at next. The watchdog receives from its channel, and calls fired then.
	timer *time.Timer

	mu   sync.Mutex
	next time.Duration // the constant never if the timer is not set; guarded by mu
}

// never stands for no time: it is a time by the clock that does not come.
const never = time.Duration(math.MaxInt64)

// newClock starts a clock. Its timer is not set.
func newClock() *clock {
	c := &clock{start: time.Now(), timer: time.NewTimer(time.Hour), next: never}
	c.timer.Stop()
	return c
}

// now returns the time since the clock was started.
func (c *clock) now() time.Duration { return time.Since(c.start) }

// since converts a time to a time by the clock: how long after the clock's start it is.
func (c *clock) since(t time.Time) time.Duration { return t.Sub(c.start) }

// wakeAt sets the timer to a time by the clock, unless the timer is set to an earlier one already. A call with never changes nothing.
func (c *clock) wakeAt(at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at < c.next {
		c.next = at
		c.timer.Reset(at - c.now())
	}
}

// fired is called when the timer has fired, so that the next wakeAt sets the timer again.
func (c *clock) fired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = never
}

// stop stops the timer for good.
func (c *clock) stop() { c.timer.Stop() }

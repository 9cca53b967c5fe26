package flowexec

import (
	"sync"
	"sync/atomic"
)

// pendingRuns counts the runs and parcels of all lanes of a flow whose last Done has not returned: queued, running, parked and resting
// ones. Drain and Stop wait until there are none. It is like a sync.WaitGroup that can be closed. It is safe for concurrent use.
type pendingRuns struct {
	count atomic.Int64 // the number of counted runs, plus closedBit once no more runs are taken
	idle  chan struct{}
	// setIdle closes idle, at its first call. It is called when pendingRuns is closed and no run is left.
	setIdle func()
}

// closedBit is added to pendingRuns.count when no more runs are taken.
const closedBit = 1 << 62

// newPendingRuns makes a count of no runs.
func newPendingRuns() *pendingRuns {
	p := &pendingRuns{idle: make(chan struct{})}
	p.setIdle = sync.OnceFunc(func() { close(p.idle) })
	return p
}

// begin counts one run. It returns true if the run may be queued, and false if no more runs are taken. The run is counted even then,
// because its rows still have to be given back: the caller calls end after their Done.
func (p *pendingRuns) begin() bool { return p.count.Add(1)&closedBit == 0 }

// more counts one more run. It is called when a counted run is cut in two or parks rows, also after close.
func (p *pendingRuns) more() { p.count.Add(1) }

// end takes one run out of the count: Done has returned for all of its rows.
func (p *pendingRuns) end() {
	if p.count.Add(-1) == closedBit {
		p.setIdle()
	}
}

// close has begin return false from now on. It returns a channel that is closed when no run is counted any more. close is safe to call
// twice.
func (p *pendingRuns) close() <-chan struct{} {
	if p.count.Or(closedBit)&^closedBit == 0 {
		p.setIdle()
	}
	return p.idle
}

// busyLanes counts the lanes of a flow that execute a run. The watchdog sleeps while there are none. It is safe for concurrent use.
type busyLanes struct {
	count atomic.Int32
	// wake has a value after the count rose from 0, until the watchdog has received it.
	wake chan struct{}
}

// newBusyLanes makes a count of no lanes.
func newBusyLanes() *busyLanes { return &busyLanes{wake: make(chan struct{}, 1)} }

// begin adds a lane to the count: the lane begins to execute a run.
func (b *busyLanes) begin() {
	if b.count.Add(1) == 1 {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// end takes a lane out of the count: its run has ended, rests, or goes on in another goroutine.
func (b *busyLanes) end() { b.count.Add(-1) }

// any reports whether a lane executes a run.
func (b *busyLanes) any() bool { return b.count.Load() > 0 }

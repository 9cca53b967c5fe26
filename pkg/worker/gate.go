package worker

import (
	"context"
	"sync"
	"time"
)

// A closing of the gate, for runs under way to end, is as short as that allows; see gate.
const (
	shortestClosing = 20 * time.Millisecond
	longestClosing  = time.Second
	// openTimes is how many times longer the gate is open between two closings than it was closed.
	openFactor = 4
)

// gate lets runs begin, and keeps others out where a row is to run alone: two workers died of it, and a third death is to be
// its own. The rows of other flows pay for that with moments only, however long calls take that are under way. The policy:
//
//   - One such row at a time has the turn. It runs as soon as nothing else does. While it waits for that others begin, except
//     during short closings: where all that is under way ends within one, the row has its moment.
//   - A closing that was too short is followed by one twice as long, up to longestClosing, and the gate is open openTimes as
//     long before that.
//   - After a closing of longestClosing the row runs beside what is still under way, which has run so long without harm. Runs
//     that a worker died of are never beside it: for their end it waits on.
//   - Others may begin again when the row has run for longestClosing. Those that a worker died of wait until it has ended.
//
// So nobody is kept out for more than twice longestClosing, nor for more than a fifth of the time; and a row that must run
// alone gets to run although calls never end all at once.
type gate struct {
	turn chan struct{} // has a token while a row is to run alone, or does

	mu          sync.Mutex
	ordinary    int           // runs under way of rows that no worker died of; guarded by mu, as what follows
	suspects    int           // runs under way of rows that a worker died of once
	aloneRuns   bool          // the row that has the turn runs
	closed      bool          // a closing is under way
	aloneUntil  time.Time     // while a row runs alone: when others may begin again
	entering    int           // runs that wait to begin
	waiting     int           // goroutines that wait for changed: these, and the one that has the turn
	changed     chan struct{} // closed, and replaced, when those that wait are to look again
	closingTime time.Duration // how long the next closing may be
	closedAt    time.Time     // when the last one began
	nextClosing time.Time     // before then there is none
}

func newGate() *gate {
	return &gate{turn: make(chan struct{}, 1), changed: make(chan struct{}), closingTime: shortestClosing}
}

// begin waits until a run may begin, or ctx is done: then the run has to find that out for itself. marked: a worker died of its
// rows. end must be called after it.
func (g *gate) begin(ctx context.Context, marked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entering++
	for ctx.Err() == nil {
		if g.closed || marked && g.aloneRuns {
			g.wait(ctx, time.Time{})
		} else if !g.aloneUntil.IsZero() && time.Now().Before(g.aloneUntil) {
			g.wait(ctx, g.aloneUntil)
		} else {
			break
		}
	}
	g.entering--
	if marked {
		g.suspects++
	} else {
		g.ordinary++
	}
}

// end says that a run is no longer under way.
func (g *gate) end(marked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if marked {
		g.suspects--
	} else {
		g.ordinary--
	}
	if g.suspects == 0 { // the last one, or the last that a row can't run beside
		g.notify()
	}
}

// await waits for the turn to run alone; false: ctx is done, and there is nothing to give back.
func (g *gate) takeTurn(ctx context.Context) bool {
	select {
	case g.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// rest has the one that has the turn wait until nothing runs or wants to, the gate may be closed again, or ctx is done.
func (g *gate) waitToClose(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ctx.Err() == nil && g.ordinary+g.suspects+g.entering > 0 && time.Now().Before(g.nextClosing) {
		g.wait(ctx, g.nextClosing)
	}
}

// close keeps others out until the row that has the turn may run, and reports that it may: then give must be called after it. It
// also says so when ctx is done. False: the gate is open again, and rest says for how long.
func (g *gate) closeForAlone(ctx context.Context) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closedAt, g.closed = time.Now(), true
	over := g.closedAt.Add(g.closingTime)
	for ctx.Err() == nil && g.ordinary+g.suspects > 0 && time.Now().Before(over) {
		g.wait(ctx, over)
	}
	g.closed, g.aloneUntil = false, time.Now().Add(longestClosing)
	switch {
	case g.ordinary+g.suspects == 0:
		g.closingTime = min(max(2*time.Since(g.closedAt), shortestClosing), longestClosing)
	case ctx.Err() != nil, g.suspects == 0 && g.closingTime == longestClosing:
	default:
		g.closingTime = min(2*g.closingTime, longestClosing)
		g.open()
		return false
	}
	g.aloneRuns = true
	g.notify() // they wait for until now
	return true
}

// give gives the turn back after the row has run.
func (g *gate) returnTurn() {
	g.mu.Lock()
	g.aloneRuns = false
	g.open()
	g.mu.Unlock()
	<-g.turn
}

// open lets others begin, for some time. It is called with the lock held.
func (g *gate) open() {
	now := time.Now()
	if g.aloneUntil.After(now) {
		g.aloneUntil = now
	}
	g.nextClosing = now.Add(openFactor * g.aloneUntil.Sub(g.closedAt))
	g.aloneUntil = time.Time{}
	g.notify()
}

// wait waits for a change, until then at the longest, or until ctx is done. Without a then there is no such bound. It is called
// with the lock held.
func (g *gate) wait(ctx context.Context, then time.Time) {
	changed := g.changed
	g.waiting++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.waiting--
	}()
	var over <-chan time.Time
	if !then.IsZero() {
		timer := time.NewTimer(time.Until(then))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-changed:
	case <-over:
	case <-ctx.Done():
	}
}

// tell has those look again that wait. It is called with the lock held.
func (g *gate) notify() {
	if g.waiting > 0 {
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

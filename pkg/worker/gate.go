package worker

import (
	"context"
	"sync"
	"time"
)

// Limits for the time that the gate stays closed. While it is closed no run begins, so that the runs under way can end; see
// gate.
const (
	shortestClosing = 20 * time.Millisecond // the first closing lasts at most so long
	longestClosing  = time.Second           // every closing lasts at most so long
	// openFactor is how many times longer the gate is open between two closings than it was closed.
	openFactor = 4
)

// gate lets runs begin. It keeps other runs out while a row runs alone: two workers died while they ran that row, and a third
// death is to prove that this row is the cause. Rows of other flows wait only for moments, however long the calls under way
// take. The policy:
//
//   - One row at a time has the turn to run alone. It runs as soon as nothing else runs. Until then other runs may begin, except during
//     short closings. If all runs under way end within a closing, the row runs.
//
//   - After a closing that was too short the gate is open for openFactor times as long, and the next closing is twice as long, up to
//     longestClosing.
//
//   - After a closing of longestClosing the row runs beside the runs that are still under way: they have run for so long without harm.
//     This does not hold for suspects, which are runs of rows that one worker died of. For their end the row waits.
//
//   - Other runs may begin again when the row has run for longestClosing. Suspects wait until the row has ended.
//
//     takeTurn            closeForAlone                     returnTurn
//     open ─────────────► open, ─────────────────► closed ─► alone ───────────► open
//     turn taken ◄───────────────┘
//     too short
//
// So no run waits for more than twice longestClosing, and the gate is closed for at most a fifth of the time. A row that must
// run alone gets to run even where there is always a call under way.
type gate struct {
	turn chan struct{} // holds a token while a row waits to run alone, or runs alone

	mu sync.Mutex
	// The fields below are guarded by mu. ordinary counts runs under way of rows that no worker died of.
	ordinary    int
	suspects    int           // runs under way of rows that a worker died of once
	aloneRuns   bool          // the row that has the turn runs
	closed      bool          // a closing is under way
	aloneUntil  time.Time     // while a row runs alone: when other runs may begin again
	entering    int           // runs that wait in begin
	waiting     int           // goroutines that wait for changed: those in begin, and the one that has the turn
	changed     chan struct{} // closed, and replaced by a new channel, when waiting goroutines should look again
	closingTime time.Duration // how long the next closing may be
	closedAt    time.Time     // when the last closing began
	nextClosing time.Time     // the gate is not closed again before then
}

// newGate makes a gate that is open: every run may begin.
func newGate() *gate {
	return &gate{turn: make(chan struct{}, 1), changed: make(chan struct{}), closingTime: shortestClosing}
}

// begin blocks until a run may begin, or ctx is done; the run has to check ctx itself. suspect means that a worker has died
// while it ran these rows. end must be called after the run, also if ctx is done.
func (g *gate) begin(ctx context.Context, suspect bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entering++
	for ctx.Err() == nil {
		if g.closed || suspect && g.aloneRuns {
			pointGateClosed.Hit()
			g.wait(ctx, time.Time{})
		} else if !g.aloneUntil.IsZero() && time.Now().Before(g.aloneUntil) {
			g.wait(ctx, g.aloneUntil)
		} else {
			break
		}
	}
	g.entering--
	if suspect {
		g.suspects++
	} else {
		g.ordinary++
	}
}

// end notes that a run is over. It must be called once for each call of begin, with the same suspect.
func (g *gate) end(suspect bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if suspect {
		g.suspects--
	} else {
		g.ordinary--
	}
	if g.suspects == 0 { // only then the row that has the turn may be able to run
		g.notify()
	}
}

// takeTurn blocks until the caller has the turn to run a row alone. It returns false when ctx is done; then there is no turn
// to return.
func (g *gate) takeTurn(ctx context.Context) bool {
	select {
	case g.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitToClose blocks, for the caller that has the turn, until the gate may be closed again, nothing runs or waits, or ctx is
// done.
func (g *gate) waitToClose(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ctx.Err() == nil && g.ordinary+g.suspects+g.entering > 0 && time.Now().Before(g.nextClosing) {
		g.wait(ctx, g.nextClosing)
	}
}

// closeForAlone keeps other runs out until the row that has the turn may run. It returns true when it may, also when ctx is
// done: then returnTurn must be called after the run. It returns false when the closing was too short: the gate is open again,
// and waitToClose waits for the next time.
func (g *gate) closeForAlone(ctx context.Context) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closedAt, g.closed = time.Now(), true
	over := g.closedAt.Add(g.closingTime) // until then the row waits for the runs under way
	for ctx.Err() == nil && g.ordinary+g.suspects > 0 && time.Now().Before(over) {
		g.wait(ctx, over)
	}
	g.closed, g.aloneUntil = false, time.Now().Add(longestClosing)
	switch {
	case g.ordinary+g.suspects == 0: // nothing runs; the next closing may take twice as long as this one took
		g.closingTime = min(max(2*time.Since(g.closedAt), shortestClosing), longestClosing)
	case ctx.Err() != nil, g.suspects == 0 && g.closingTime == longestClosing: // the row runs beside long runs that have done no harm
		pointBesideLong.Hit()
	default: // the closing was too short
		pointShortClosing.Hit()
		g.closingTime = min(2*g.closingTime, longestClosing)
		g.open()
		return false
	}
	pointAlone.Hit()
	g.aloneRuns = true
	g.notify() // the waiting runs wait until aloneUntil from now on
	return true
}

// returnTurn ends the run of the row that ran alone and gives the turn back.
func (g *gate) returnTurn() {
	g.mu.Lock()
	g.aloneRuns = false
	g.open()
	g.mu.Unlock()
	<-g.turn
}

// open lets other runs begin and sets when the gate may be closed next. The caller holds the lock.
func (g *gate) open() {
	now := time.Now()
	if g.aloneUntil.After(now) {
		g.aloneUntil = now
	}
	g.nextClosing = now.Add(openFactor * g.aloneUntil.Sub(g.closedAt))
	g.aloneUntil = time.Time{}
	g.notify()
}

// wait blocks until changed is closed, ctx is done, or the time has come that the parameter then gives. A zero time means no
// limit. The caller holds the lock, which wait gives up meanwhile.
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

// notify wakes every goroutine that waits at the gate, so that it checks again whether it may go on. The caller holds the
// lock.
func (g *gate) notify() {
	if g.waiting > 0 {
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

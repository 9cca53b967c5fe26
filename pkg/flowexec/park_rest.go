package flowexec

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// restingRun is a run without keys that waits. It keeps its goroutine, with all that it has done so far, and leaves its lane to
// another one; when its wait is over it gets the lane back from that one, between two runs. The lane's copy of the flow is
// whoever has the lane's.
type restingRun struct {
	x        *executor
	part     *Part
	rows     int           // of it
	resumed  chan struct{} // closed when it has the lane again
	released chan struct{} // closed when its rows are to be given back
	waitOver chan struct{} // closed when all that it waits for has happened

	wantsLane bool // it asks for the lane; guarded by lane.mu

	mu    sync.Mutex
	wants int // keys that were not saved yet; guarded by mu
}

// keySaved is told of one key.
func (s *restingRun) keySaved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wants--; s.wants == 0 {
		close(s.waitOver)
	}
}

// connectorSaved is told that the connector which the run loads from has saved something.
func (s *restingRun) connectorSaved() { s.keySaved() }

// sleep waits at the cost of row i, and parks the run meanwhile. A Load in KisFlow's shape asks again when its connector
// saves. False: the run was cancelled or is given back.
func (r *run) sleep(i, attempt int, d time.Duration, asks bool) bool {
	switch {
	case !r.keyed && asks && r.step.connector != nil:
		began := time.Now()
		if !r.rest(soonest(d), nil, nil, nil) || !r.rest(d-soonest(d), r.step.connector, nil, nil) {
			return false
		}
		r.spendRetry(i, attempt, min(d, time.Since(began)))
		return true
	case !r.keyed:
		r.spendRetry(i, attempt, d)
		return r.rest(d, nil, nil, nil)
	}
	r.spendRetry(i, attempt, d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.x.ctx.Done():
		return false
	}
}

// rest parks the run until keys of a connector are saved, or without keys anything, or a call has ended, and for d at the longest;
// woke is when that was. False: the run was cancelled or is given back.
func (r *run) rest(d time.Duration, c *definition.Connector, keys []string, a *ask) bool {
	x, lanes := r.x, r.x.lane.lanes
	s := &restingRun{x: x, part: r.part, rows: r.n, resumed: make(chan struct{}), released: make(chan struct{}), waitOver: make(chan struct{}), wants: len(keys)}
	if !x.lane.detach(s) {
		r.giveBack()
		return false
	}
	x.leavePart()
	if c != nil && len(keys) == 0 {
		s.wants = 1
		lanes.config.Saves.add(c.Name, r.saves, s)
		defer lanes.config.Saves.remove(c.Name, s)
	}
	if len(keys) > 0 {
		if err := lanes.watched(x.ctx, c, func(w *keyWatch) { w.addRest(s, keys) }); err != nil {
			d = min(d, time.Second)
		}
		defer func() {
			if w := lanes.watchOf(c); w != nil {
				for _, key := range keys {
					w.remove(key, nil, s)
				}
			}
		}()
	}
	deadline := never
	if !r.part.Deadline.IsZero() {
		deadline = time.Until(r.part.Deadline)
	}
	timer := time.NewTimer(min(d, deadline))
	defer timer.Stop()
	var answered <-chan struct{}
	if a != nil {
		answered = a.done
	}
	select {
	case <-timer.C:
	case <-s.waitOver:
	case <-answered:
	case <-s.released:
	case <-lanes.ctx.Done():
		if context.Cause(lanes.ctx) != errShutdown {
			x.lane.dropResting(s)
			return false
		}
		<-s.released // Stop gives it back
	}
	r.woke = lanes.now()
	x.lane.requestLane(s)
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

// giveBack ends the run without an outcome for any row.
func (r *run) giveBack() { r.returned, r.halted = true, true }

// detach has the lane go on with another goroutine. False: the run is to be given back instead.
func (ln *lane) detach(s *restingRun) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	back := ln.closed
	for _, c := range ln.parked.releases {
		back = back || c.slots == nil && c.includesPart(s.part)
	}
	ln.parked.releases = nil
	if back {
		return false
	}
	ln.parked.running = false
	ln.exec = nil
	ln.resting = append(ln.resting, s)
	ln.lanes.countParked(s.rows)
	s.x.away = true
	ln.lanes.setBusy(-1)
	ln.lanes.wg.Add(1)
	ln.launch(nil, s.x.copy)
	return true
}

// requestLane asks for the lane.
func (ln *lane) requestLane(s *restingRun) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	s.wantsLane = true
	ln.ready.Signal()
}

// dropResting forgets a resting run.
func (ln *lane) dropResting(s *restingRun) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if i := slices.Index(ln.resting, s); i >= 0 {
		ln.resting = slices.Delete(ln.resting, i, i+1)
		ln.lanes.countParked(-s.rows)
	}
}

// yieldToResting hands the lane to a run that has rested. It must be called with mu held. False: none asks for it.
func (ln *lane) yieldToResting() bool {
	i := slices.IndexFunc(ln.resting, func(s *restingRun) bool { return s.wantsLane })
	if i < 0 {
		return false
	}
	s := ln.resting[i]
	ln.resting = slices.Delete(ln.resting, i, i+1)
	ln.lanes.countParked(-s.rows)
	ln.exec, ln.parked.running, s.x.away = s.x, true, false
	ln.lanes.setBusy(1)
	close(s.resumed)
	return true
}

// releaseResting has resting runs given back. It must be called with mu held.
func (ln *lane) releaseResting(c releaseRequest) {
	if c.slots != nil {
		return // they have none
	}
	ln.resting = slices.DeleteFunc(ln.resting, func(s *restingRun) bool {
		back := c.includesPart(s.part)
		if back {
			ln.lanes.countParked(-s.rows)
			close(s.released)
		}
		return back
	})
}

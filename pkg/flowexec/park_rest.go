package flowexec

import (
	"context"
	"slices"
	"sync"
	"time"
)

// restingRun is a run without keys that waits. It keeps its goroutine, with all that it has done so far, and another goroutine takes over the
// lane. When the wait is over the run asks for the lane, and gets it when the other goroutine has ended its own run. The flow's copy stays
// with the lane: both goroutines use it, one after the other.
//
//	                      wait over                lane yields
//	running --> resting -------------> wants lane -------------> running
//	               |                       |
//	               +-----------------------+--- Release, Stop ---> given back
//	               |
//	               +--- LanesConfig.Context ends ---> dropped: the run ends, and its rows fail
type restingRun struct {
	x    *executor // the run's executor, which has the goroutine
	part *Part
	rows int // the number of rows, for metrics

	resumed  chan struct{} // closed when the run has the lane again
	released chan struct{} // closed when the run is to give back its rows
	waitOver chan struct{} // closed when everything that the run waits for has happened

	wantsLane bool // the run asks for the lane; guarded by lane.mu

	mu    sync.Mutex
	wants int // how many keys the run still waits for, or 1 if it waits for a Save of any key; guarded by mu
}

// newRestingRun makes a restingRun. wants is how many calls of happened or connectorSaved end the run's wait: one for each key, or one for any
// Save. 0 means that the run waits only for a time or for the answer of a call.
func newRestingRun(r *run, wants int) *restingRun {
	return &restingRun{
		x: r.x, part: r.part, rows: r.n, wants: wants,
		resumed: make(chan struct{}), released: make(chan struct{}), waitOver: make(chan struct{}),
	}
}

// happened implements waiter: one of the keys that the run waits for was saved. The last one ends the wait.
func (s *restingRun) happened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wants--; s.wants == 0 {
		close(s.waitOver)
	}
}

// connectorSaved implements waiter: the run waits for no key, so that any Save ends its wait.
func (s *restingRun) connectorSaved() { s.happened() }

// await blocks until the run's wait is over: waitOver or answered is closed, d has passed, the part's deadline has passed, or the rows are to
// be given back. A nil answered is never closed. It returns true then. It returns false if ctx, the context of the lanes, ended for another
// reason than Stop: then the run is over. After Stop, await waits until the rows are to be given back.
func (s *restingRun) await(ctx context.Context, d time.Duration, answered <-chan struct{}) bool {
	deadline := never
	if !s.part.Deadline.IsZero() {
		deadline = time.Until(s.part.Deadline)
	}
	timer := time.NewTimer(min(d, deadline))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.waitOver:
	case <-answered:
	case <-s.released:
	case <-ctx.Done():
		if context.Cause(ctx) != errShutdown {
			return false
		}
		<-s.released
	}
	return true
}

// restingRuns are the runs that rest in a lane. The lane's lock guards runs.
type restingRuns struct {
	mu      *sync.Mutex // lane.mu
	changed *sync.Cond  // lane.changed
	metrics flowMetrics

	runs []*restingRun
}

// add adds a run that begins to rest. The caller holds mu.
func (rs *restingRuns) add(s *restingRun) {
	rs.runs = append(rs.runs, s)
	rs.metrics.addParked(s.rows)
}

// removeAt takes the run at place i out of the resting ones, and returns it. The caller holds mu.
func (rs *restingRuns) removeAt(i int) *restingRun {
	s := rs.runs[i]
	rs.runs = slices.Delete(rs.runs, i, i+1)
	rs.metrics.addParked(-s.rows)
	return s
}

// requestLane asks for the lane for a run whose wait is over. The caller does not hold mu.
func (rs *restingRuns) requestLane(s *restingRun) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	s.wantsLane = true
	rs.changed.Signal()
}

// drop takes a run out of the resting ones that has ended without getting its lane again. The caller does not hold mu.
func (rs *restingRuns) drop(s *restingRun) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if i := slices.Index(rs.runs, s); i >= 0 {
		rs.removeAt(i)
	}
}

// takeNext takes the first run out of the resting ones that asks for the lane; nil means that none asks. The caller holds mu.
func (rs *restingRuns) takeNext() *restingRun {
	i := slices.IndexFunc(rs.runs, func(s *restingRun) bool { return s.wantsLane })
	if i < 0 {
		return nil
	}
	return rs.removeAt(i)
}

// isEmpty implements waitingRows: it reports whether no run rests.
func (rs *restingRuns) isEmpty() bool { return len(rs.runs) == 0 }

// release implements waitingRows: runs that a Release asks for are told to give back their rows. Their rows have no keys, so that a Release of
// some slots does not ask for them.
func (rs *restingRuns) release(c releaseRequest) []*group {
	if c.slots != nil {
		return nil
	}
	rs.runs = slices.DeleteFunc(rs.runs, func(s *restingRun) bool {
		released := c.includesPart(s.part)
		if released {
			rs.metrics.addParked(-s.rows)
			close(s.released)
		}
		return released
	})
	return nil
}

package scheduler

import "time"

// A queued row of a batch that is over would keep the whole batch in memory while other rows before it wait for credit. A sweep takes
// these rows out of the queues. It looks at all queued rows, so it is made only when it pays.

// sweepAtLeast is the time after which a flow's queues are swept again even if only one batch became over since the last sweep
// began.
const sweepAtLeast = time.Second

// sweep is the state of sweeping one flow's queues: taking out rows of batches that are over.
type sweep struct {
	over       int         // batches that became over since the last sweep began
	looked     int         // segments that this sweep looked at
	last       int         // segments that the last sweep looked at
	began      time.Time   // when the sweep under way began, or the last one
	queues     []*queue    // still to be looked at; nil where no sweep is under way
	workerFlow *workerFlow // the worker flow that has these queues; nil for the flow's own queues
	seat       int         // seat of the next worker flow to look at
}

// isDue reports whether a sweep pays now. At least one batch must have become over since the last sweep began, and either
// sweepAtLeast has passed since then, or the batches that became over are at least a sixteenth as many as the segments that
// the last sweep looked at.
func (w *sweep) isDue(now time.Time) bool {
	return w.over > 0 && (w.over >= w.last/16 || now.Sub(w.began) >= sweepAtLeast)
}

// continueSweep goes on with the sweep of a flow, as far as the budget goes. It begins one where none is under way.
func (s *Scheduler) continueSweep(f *flow) {
	w := &f.sweep
	if w.queues == nil {
		w.over, w.looked, w.began, w.workerFlow, w.seat = 0, 0, s.now, nil, 0
		w.queues = append(w.queues, &f.waiting)
		for i := range f.wholeLines {
			w.queues = append(w.queues, &f.wholeLines[i].returned, &f.wholeLines[i].submitted)
		}
		s.sweepHeld(f)
	}
	for {
		for len(w.queues) > 0 {
			if s.budget <= 0 {
				return
			}
			looked, done := w.queues[0].sweep(func(g *segment) bool {
				if g.batch.over && w.workerFlow != nil {
					s.noteUnqueued(w.workerFlow, g)
				}
				return g.batch.over
			})
			s.spend(1 + 2*looked)
			if w.looked += looked; done {
				w.queues = w.queues[1:]
			}
		}
		for w.workerFlow = nil; w.workerFlow == nil && w.seat < len(f.workerFlows); w.seat++ {
			s.spend(1)
			if wf := f.workerFlows[w.seat]; wf != nil {
				w.workerFlow = wf
			}
		}
		wf := w.workerFlow
		if wf == nil {
			break
		}
		w.queues = append(w.queues, &wf.queue)
		if wf.hasAside() {
			for _, b := range wf.shares.crowded {
				w.queues = append(w.queues, wf.shares.aside[b])
			}
			s.sendQueuedSoon(wf) // buckets may have nothing left
		}
	}
	f.sweepDue = false
	w.queues, w.last = nil, w.looked
}

// sweepHeld drops those of the rows waiting for held slots whose batches are over. If more than countFrom rows wait it does
// nothing, since they are routed soon.
func (s *Scheduler) sweepHeld(f *flow) {
	if f.held.rows > countFrom {
		return
	}
	s.spend(costSlot*len(f.held.slots) + f.held.rows)
	f.held.dropEnded()
}

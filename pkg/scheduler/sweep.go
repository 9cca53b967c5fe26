package scheduler

import "time"

// Rows of batches that are over, behind others that wait for credit, would keep their batches in memory although nobody waits
// for them. So they are taken out of the queues. It costs a look at all that is queued, and is done when it pays.

// sweepAtLeast is how often a few batches are worth it.
const sweepAtLeast = time.Second

// sweep is how far that is.
type sweep struct {
	over       int         // batches since the last one that had rows in queues, perhaps
	looked     int         // segments of the one under way
	last       int         // segments of the last one
	began      time.Time   // the last one
	queues     []*queue    // still to be looked at; nil: it has not begun
	workerFlow *workerFlow // whose the first is; nil: nobody's
	seat       int         // of the next workerFlow
}

func (w *sweep) isDue(now time.Time) bool {
	return w.over > 0 && (w.over >= w.last/16 || now.Sub(w.began) >= sweepAtLeast)
}

// sweepSome goes on with it.
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

// sweepHeld drops rows of batches that are over from those that are held. Many are left where they are: they go soon anyway.
func (s *Scheduler) sweepHeld(f *flow) {
	if f.held.rows > countFrom {
		return
	}
	s.spend(costSlot*len(f.held.slots) + f.held.rows)
	f.held.dropEnded()
}

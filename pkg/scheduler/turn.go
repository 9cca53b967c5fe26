package scheduler

import "time"

// turn is the state of one call of Step: its time, the rest of its budget, and the actions that it returns.
type turn struct {
	now     time.Time
	budget  int // units of Config.Slice that are left for this Step; below zero if it did more
	actions []Action
}

// act adds an action to those that this Step returns.
func (t *turn) act(a Action) { t.actions = append(t.actions, a) }

// spend takes units of work off the Step's budget.
func (t *turn) spend(units int) { t.budget -= units }

// wake puts a flow into the list of flows that have pending work, unless it is in it.
func (s *Scheduler) wake(f *flow) {
	if !f.awake {
		f.awake = true
		s.awake = append(s.awake, f)
	}
}

// updateMembershipSoon notes that updateMembership has to be called for a worker flow. Step does that as pending work of the
// flow, once, however often it was noted.
func (s *Scheduler) updateMembershipSoon(wf *workerFlow) {
	if !wf.membershipDue {
		wf.membershipDue = true
		wf.flow.membershipDue = append(wf.flow.membershipDue, wf)
		s.wake(wf.flow)
	}
}

// sendQueuedSoon notes that sendQueued has to be called for a worker flow. Step does that as pending work of the flow, once,
// however often it was noted.
func (s *Scheduler) sendQueuedSoon(wf *workerFlow) {
	if !wf.sendDue {
		wf.sendDue = true
		wf.flow.sendDue = append(wf.flow.sendDue, wf)
		s.wake(wf.flow)
	}
}

// sendWholeSoon notes that sendWhole has to be called for a flow, if batches without keys wait in it. Step does that as
// pending work of the flow.
func (s *Scheduler) sendWholeSoon(f *flow) {
	if len(f.wholeLines) > 0 {
		f.wholeDue = true
		s.wake(f)
	}
}

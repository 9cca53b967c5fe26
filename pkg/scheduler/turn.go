package scheduler

import "time"

// turn is the state of one call of Step: its time, the rest of its budget, and the actions that it returns.
type turn struct {
	now     time.Time
	budget  int // the rest of Config.Slice; below zero when overdrawn
	actions []Action
}

// act adds an action to those that the Step returns.
func (t *turn) act(a Action) { t.actions = append(t.actions, a) }

// spend takes units from the Step's budget.
func (t *turn) spend(units int) { t.budget -= units }

// wake puts a flow into the list of flows that have pending work, unless it is in it.
func (s *Scheduler) wake(f *flow) {
	if !f.awake {
		f.awake = true
		s.awake = append(s.awake, f)
	}
}

// updateMembershipSoon has updateMembership called for a worker flow, once, when Step comes to its flow in the list of awake flows.
func (s *Scheduler) updateMembershipSoon(wf *workerFlow) {
	if !wf.membershipDue {
		wf.membershipDue = true
		wf.flow.membershipDue = append(wf.flow.membershipDue, wf)
		s.wake(wf.flow)
	}
}

// sendQueuedSoon has sendQueued called for a worker flow, once, when Step comes to its flow in the list of awake flows.
func (s *Scheduler) sendQueuedSoon(wf *workerFlow) {
	if !wf.sendDue {
		wf.sendDue = true
		wf.flow.sendDue = append(wf.flow.sendDue, wf)
		s.wake(wf.flow)
	}
}

// sendWholeSoon has sendWhole called when Step comes to the flow in the list of awake flows, if the flow has whole batches that wait.
func (s *Scheduler) sendWholeSoon(f *flow) {
	if len(f.wholeLines) > 0 {
		f.wholeDue = true
		s.wake(f)
	}
}

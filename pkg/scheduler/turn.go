package scheduler

import "time"

// turn is the Step under way.
type turn struct {
	now     time.Time
	budget  int
	actions []Action
}

func (t *turn) act(a Action) { t.actions = append(t.actions, a) }

// spend takes from the Step's budget.
func (t *turn) spend(units int) { t.budget -= units }

// wake puts a flow among those that have something to do.
func (s *Scheduler) wake(f *flow) {
	if !f.awake {
		f.awake = true
		s.awake = append(s.awake, f)
	}
}

// move has the workerFlow's place looked at: it may have become ready, or be no more.
func (s *Scheduler) updateMembershipSoon(wf *workerFlow) {
	if !wf.membershipDue {
		wf.membershipDue = true
		wf.flow.membershipDue = append(wf.flow.membershipDue, wf)
		s.wake(wf.flow)
	}
}

// pumpSoon has the workerFlow send what it can when it is its turn.
func (s *Scheduler) sendQueuedSoon(wf *workerFlow) {
	if !wf.sendDue {
		wf.sendDue = true
		wf.flow.sendDue = append(wf.flow.sendDue, wf)
		s.wake(wf.flow)
	}
}

// pumpWholeSoon sends whole batches when it is their turn.
func (s *Scheduler) sendWholeSoon(f *flow) {
	if len(f.wholeLines) > 0 {
		f.wholeDue = true
		s.wake(f)
	}
}

package scheduler

import "github.com/kisgrid/kisgrid/pkg/batch"

// However much an event concerns, its Step must not hold up those behind it. So an event only notes what is to be done for a
// flow, and work does it, as far as the Step's budget goes; the rest follows in further Steps, with other events in between.
// Two rules keep each key's rows in order meanwhile:
//   - A flow's rows that are not at a worker, in a workerFlow's queue, or held stand in its inbox, in order. While there are any,
//     or its slots are about to move, rows that come are put behind them.
//   - Rows that leave a worker or a queue are older than all that stand in the inbox, so they are put in front.

// slice is how much one Step does, in units of about 10 ns.
const slice = 100_000

// What things cost, in these units, beside one for each row.
const (
	costSegment = 20
	costPart    = 60
	costSlot    = 10
	costTable   = 30_000
)

// Behind reports whether work of earlier events is left. Then Step is to be called soon, with Continue if nothing else
// happened: deadlines and order hold in any case, but rows wait for it.
func (s *Scheduler) Behind() bool {
	return len(s.awake) > 0 || len(s.resending) > 0 || s.deadlinePassed() || len(s.searches) > 0
}

// late reports whether a batch is to be failed whose deadline passed before the last Tick.
func (s *Scheduler) deadlinePassed() bool {
	return len(s.deadlines) > 0 && !s.deadlines[0].Deadline.After(s.ticked)
}

// work goes on with what is to be done.
func (s *Scheduler) doPending() {
	for s.budget > 0 && s.Behind() {
		// None of the four may keep the others waiting.
		for leave := s.budget / 2; s.budget > leave && s.deadlinePassed(); {
			b := s.deadlines[0]
			s.spend(costPart + b.Rows())
			s.fail(b, b.openRows(), batch.Failed, batch.CodeDeadline)
		}
		for leave := s.budget / 2; s.budget > leave && len(s.resending) > 0; {
			s.resendNext(s.resending[0])
		}
		if len(s.searches) > 0 {
			s.continueSearch()
		}
		for n := len(s.awake); n > 0 && s.budget > 0; n-- {
			f := s.awake[0]
			s.awake[0] = nil
			s.awake = s.awake[1:]
			f.awake = false
			if !s.doPendingOf(f) {
				s.wake(f)
			}
		}
	}
}

// progress goes on with what is to be done for a flow; true when that is all.
func (s *Scheduler) doPendingOf(f *flow) bool {
	// Whatever it is, it gets on by a step while there is a budget.
	for ; s.budget > 0; s.spend(1) {
		switch {
		case f.handOver != nil:
			s.continueHandOver(f)
		case len(f.membershipDue) > 0:
			wf := f.membershipDue[0]
			f.membershipDue[0] = nil
			f.membershipDue = f.membershipDue[1:]
			wf.membershipDue = false
			s.updateMembership(wf)
		case len(f.expiring) > 0:
			s.takeBackExpired(f)
		case len(f.held.handedOver) > 0:
			s.releaseHeld(f)
		case !f.inboxEmpty():
			s.routeNext(f)
		case len(f.sendDue) > 0:
			wf := f.sendDue[len(f.sendDue)-1]
			f.sendDue = f.sendDue[:len(f.sendDue)-1]
			wf.sendDue = false
			s.sendQueued(wf)
		case f.wholeDue:
			f.wholeDue = false
			s.sendWhole(f)
		case f.expiryDue:
			f.expiryDue = false
			s.findExpired(f)
		case f.starvationDue:
			s.failStarving(f)
		case f.sweepDue:
			s.continueSweep(f)
		default:
			s.stopCounting(f)
			return true
		}
	}
	return false
}

// settled reports whether rows with keys may be routed at once: none stand before them, and no slot is about to move.
func (f *flow) settled() bool {
	return f.handOver == nil && len(f.membershipDue) == 0 && len(f.held.handedOver) == 0 && f.inboxEmpty()
}

// Continue lets a Step go on with what earlier ones left.
type Continue struct{}

func (Continue) step(*Scheduler) {}

package scheduler

import "github.com/kisgrid/kisgrid/pkg/batch"

// An event must not hold up those behind it, however many rows it concerns. So an event only notes the work that follows for a flow,
// and doPending does as much of it as the Step's budget allows. The rest is done in further Steps, between other events.
//
// Two rules keep the rows of each key in order meanwhile:
//   - Each row of a flow that has no outcome is at a worker, in a queue, held, or in the flow's inbox. While there are rows in the
//     inbox, or slots are about to move, rows that are submitted go behind them.
//   - Rows that leave a worker or a queue are older than all rows in the inbox, so they go in front.

// slice is the default of Config.Slice: how much work one Step does at most, which takes about 1 ms.
const slice = 100_000

// Costs of work, in the units of Config.Slice. A row costs about one unit.
const (
	costSegment = 20     // cost of handling a segment, without its rows
	costPart    = 60     // cost of handling a part, without its rows
	costSlot    = 10     // cost of handling a slot or a worker flow
	costTable   = 30_000 // cost of making a table of slot owners
)

// Behind reports whether work of earlier events is left. Then the owner should call Step soon, with the event Continue if no
// other event came. The order of rows is kept in any case, but rows wait until the work is done.
func (s *Scheduler) Behind() bool {
	return len(s.awake) > 0 || len(s.resending) > 0 || s.deadlinePassed() || len(s.searches) > 0
}

// deadlinePassed reports whether a batch has to fail because its deadline was not after the last Tick.
func (s *Scheduler) deadlinePassed() bool {
	return len(s.deadlines) > 0 && !s.deadlines[0].Deadline.After(s.ticked)
}

// doPending does pending work until none is left or the budget of the Step is used up. There are four kinds of it: batches
// whose deadline passed, parts to be sent again, a search, and the flows that have work. Each kind gets some of the budget in
// every round, so that none of them keeps the others waiting.
func (s *Scheduler) doPending() {
	for s.budget > 0 && s.Behind() {
		for half := s.budget / 2; s.budget > half && s.deadlinePassed(); {
			b := s.deadlines[0]
			s.spend(costPart + b.Rows())
			pointDeadline.Hit()
			s.fail(b, b.openRows(), batch.Failed, batch.CodeDeadline)
		}
		for half := s.budget / 2; s.budget > half && len(s.resending) > 0; {
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

// doPendingOf does pending work of one flow until none is left or the Step's budget is used up. It returns true if none is
// left. The cases stand in the order of their priority: a hand-over comes first, since nobody knows who owns a slot before it
// is done. Each case makes some progress as long as the budget is above zero.
func (s *Scheduler) doPendingOf(f *flow) bool {
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

// Continue is an event without content. Its Step goes on with work that earlier ones left.
type Continue struct{}

func (Continue) step(*Scheduler) {}

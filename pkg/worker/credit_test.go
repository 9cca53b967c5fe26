package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// words are rows for batchOf, with this many bytes of text each.
func words(rows, bytes int) []string {
	all := make([]string, rows)
	for i := range all {
		all[i] = strings.Repeat("x", bytes)
	}
	return all
}

func TestCreditBoundsWhatIsHeldAndComesBack(t *testing.T) {
	budget := amount{1 << 10, 1 << 20}
	inBubble(t, budget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		b.pump()
		number, answered := uint64(0), 0
		for round := range 50 {
			gate := fmt.Sprint("gate", round)
			r.hold(gate)
			sent := 0
			for b.spend(batchOf(number+1, "whole", append([]string{gate}, words(49, 10)...)...)) {
				number++
				sent++
				if held := r.server.budget.sums().held.rows; held > budget.rows {
					t.Fatalf("%d rows held of a budget of %d", held, budget.rows)
				}
			}
			if sent == 0 {
				t.Fatalf("no credit for anything in round %d", round)
			}
			r.open(gate)
			for range sent {
				b.result()
				answered++
			}
			b.ack()
		}
		if answered < 400 {
			t.Errorf("%d parts in 50 rounds: the credit does not come back", answered)
		}
	})
}

func TestOverdraftEndsTheSession(t *testing.T) {
	inBubble(t, amount{1 << 10, 1 << 20}, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		for i := range uint64(2) { // the first overdraws what there is, and is more than the account's share
			b.sendPart(batchOf(i+1, "whole", append([]string{"slow"}, words(999, 1)...)...))
			synctest.Wait()
		}
		wantCode(t, b.ends(), batch.CodeBadMessage, "credit was used up")
		if n := r.metric("kisgrid_worker_parts_held"); n != 1 {
			t.Errorf("%v parts held, want the first alone", n)
		}
	})
}

func TestNextSessionIsToldAllTheCreditLeft(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		b.pump()
		r.hold("slow")
		if !b.spend(batchOf(1, "whole", "slow", "a", "b")) {
			t.Fatal("no credit at the beginning")
		}
		b.catchUp()
		left := b.credit["whole"]
		b.hangUp()
		synctest.Wait()

		again := r.dial()
		again.hello("c-1", true)
		again.pump()
		again.catchUp()
		if got := again.credit["whole"]; got != left {
			t.Errorf("told %v, left were %v", got, left)
		}
		s := r.server.budget.sums()
		if granted := s.used.minus(s.held); granted != left {
			t.Errorf("the worker counts %v granted, the coordinator %v", granted, left)
		}
	})
}

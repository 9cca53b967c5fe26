package worker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestResumeRepeatsNoWork(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		b.sendPart(batchOf(1, "whole", "a"))
		b.sendPart(batchOf(2, "whole", "b"))
		b.result()
		first := b.result()
		b.ack()
		b.sendPart(batchOf(3, "whole", "c"))
		lost := b.result()
		b.received = first.GetNumber() // it does not acknowledge the last one
		b.sendPart(batchOf(7, "whole", "slow"))
		synctest.Wait()
		b.hangUp()
		synctest.Wait()

		again := r.dial()
		again.received = first.GetNumber()
		w := again.hello("c-1", true)
		if !w.GetResumed() || w.GetPartsReceived() != 7 {
			t.Errorf("Welcome %v", w)
		}
		if got := again.result(); got.GetNumber() != lost.GetNumber() || got.GetPart() != 3 || !slices.Equal(texts(got), []string{"c"}) {
			t.Errorf("sent again: %v", got)
		}
		again.sendPart(batchOf(7, "whole", "slow")) // the worker has it
		synctest.Wait()
		r.open("slow")
		if got := again.result(); got.GetPart() != 7 || !got.GetLast() {
			t.Errorf("result %v", got)
		}
		again.sendPart(batchOf(8, "whole", "d")) // without another definition
		if got := again.result(); got.GetPart() != 8 {
			t.Errorf("result %v", got)
		}
		if ran := r.began(); !slices.Equal(slices.Sorted(slices.Values(ran)), []string{"a", "b", "c", "d", "slow"}) {
			t.Errorf("%q ran", ran)
		}
		for name, want := range map[string]float64{"results_resent_total": 1, "parts_repeated_total": 1, "parts_received_total": 5, "peers": 1, "sessions": 1} {
			if got := r.metric("kisgrid_worker_" + name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

// A result that ends while there is no session is sent on the next one.
func TestResultsWaitForTheNextSession(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		b.sendPart(batchOf(1, "whole", "slow"))
		synctest.Wait()
		b.hangUp()
		time.Sleep(lease - time.Second)
		r.open("slow")
		synctest.Wait()
		again := r.dial()
		if w := again.hello("c-1", true); !w.GetResumed() || w.GetPartsReceived() != 1 {
			t.Errorf("Welcome %v", w)
		}
		if got := again.result(); got.GetPart() != 1 || !got.GetLast() {
			t.Errorf("result %v", got)
		}
		if n := r.metric("kisgrid_worker_results_resent_total"); n != 0 {
			t.Errorf("%v results sent again that were never sent", n)
		}
	})
}

// The session before is over, and what it brought is counted in, when the next one is welcome.
func TestNextSessionOvertakesTheOneBefore(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		before := r.dial()
		before.hello("c-1", false)
		before.define("whole")
		r.hold("slow")
		for i := range uint64(5) {
			before.sendPart(batchOf(i+1, "whole", "slow"))
		}
		next := r.dial()
		w := next.hello("c-1", true)
		if !w.GetResumed() {
			t.Errorf("Welcome %v", w)
		}
		wantCode(t, before.ends(), batch.CodeCancelled, "opened another session")
		received := uint64(r.metric("kisgrid_worker_parts_received_total"))
		if w.GetPartsReceived() != received {
			t.Errorf("told %d parts, took %d", w.GetPartsReceived(), received)
		}
		synctest.Wait()
		if now := uint64(r.metric("kisgrid_worker_parts_received_total")); now != received {
			t.Errorf("%d parts came in on the old session after Welcome", now-received)
		}
		time.Sleep(3 * lease) // the end of the old session must not count against the new one
		next.ack()
		synctest.Wait()
		if n := r.metric("kisgrid_worker_sessions"); n != 1 {
			t.Errorf("%v sessions", n)
		}
	})
}

func TestCoordinatorThatBeginsAnew(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("slow")
		b.sendPart(batchOf(1, "sharded", "slow"))
		synctest.Wait()
		b.sendPart(batchOf(2, "sharded", "a"))
		b.sendPart(batchOf(3, "sharded", "b"))
		synctest.Wait()

		anew := r.dial()
		if w := anew.hello("c-1", false); w.GetResumed() || w.GetPartsReceived() != 0 {
			t.Errorf("Welcome %v", w)
		}
		wantCode(t, b.ends(), batch.CodeCancelled, "starts again")
		anew.define("sharded")
		anew.sendPart(batchOf(1, "sharded", "c"))
		r.open("slow")
		if got := anew.result(); got.GetNumber() != 1 || !slices.Equal(texts(got), []string{"c"}) {
			t.Errorf("result %v", got)
		}
		if ran := r.began(); !slices.Equal(ran, []string{"slow", "c"}) {
			t.Errorf("%q ran", ran)
		}
		anew.ack()
		synctest.Wait()
		if held := r.server.budget.sums().held; !held.none() {
			t.Errorf("%v held", held)
		}
	})
}

func TestCoordinatorThatStaysAwayIsForgotten(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("slow")
		b.sendPart(batchOf(1, "sharded", "z"))
		b.result() // never acknowledged
		b.sendPart(batchOf(2, "sharded", "slow"))
		synctest.Wait()
		b.sendPart(batchOf(3, "sharded", "a"))
		synctest.Wait()
		b.hangUp()
		time.Sleep(lease - time.Millisecond)
		synctest.Wait()
		if n := r.metric("kisgrid_worker_peers"); n != 1 {
			t.Errorf("%v coordinators are kept before the lease is over", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := r.metric("kisgrid_worker_peers_expired_total"); n != 1 {
			t.Errorf("%v coordinators forgotten", n)
		}
		r.open("slow")
		synctest.Wait()
		if ran := r.began(); !slices.Equal(ran, []string{"z", "slow"}) {
			t.Errorf("%q ran", ran)
		}
		for _, name := range []string{"peers", "parts_held", "rows_held", "bytes_held", "results_kept", "rows_granted", "plans"} {
			if v := r.metric("kisgrid_worker_" + name); v != 0 {
				t.Errorf("%s is %v for nobody", name, v)
			}
		}
		again := r.dial()
		if w := again.hello("c-1", true); w.GetResumed() || w.GetPartsReceived() != 0 {
			t.Errorf("Welcome %v", w)
		}
	})
}

func TestManySessionsOfOneCoordinatorAtOnce(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		for round := range 20 {
			var all []*boss
			for range 4 {
				b := r.dial()
				b.send(hello("c-1", workerID, round%2 == 0))
				all = append(all, b)
			}
			synctest.Wait()
			open := 0
			for _, b := range all {
				if m, err := b.next(); err == nil && m.GetWelcome() != nil {
					open++
				}
			}
			if open == 0 {
				t.Fatal("nobody is welcome")
			}
			if n := r.metric("kisgrid_worker_sessions"); n != 1 {
				t.Fatalf("%v sessions of one coordinator", n)
			}
		}
	})
}

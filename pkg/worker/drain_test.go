package worker

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestDrain(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("slow")
		b.sendPart(batchOf(1, "sharded", "slow"))
		synctest.Wait()
		b.sendPart(batchOf(2, "sharded", "a", "b"))
		b.sendPart(batchOf(3, "sharded", "c"))
		if got := b.result(); got.GetPart() != 2 || got.GetLast() || !slices.Equal(texts(got), []string{"b"}) {
			t.Errorf("the free lane: %v", got)
		}
		drained := make(chan error)
		go func() { drained <- r.server.drain(t.Context()) }()

		if b.must().GetDraining() == nil {
			t.Error("the coordinator is not told")
		}
		returned := map[uint64][]uint32{}
		for range 2 {
			got := b.result()
			returned[got.GetPart()] = rowsOf(got.GetReturned())
			if !got.GetLast() || len(got.GetFinished())+len(got.GetNotDone()) != 0 {
				t.Errorf("result %v", got)
			}
		}
		if !slices.Equal(returned[2], []uint32{0}) || !slices.Equal(returned[3], []uint32{0}) {
			t.Errorf("returned %v", returned)
		}
		b.sendPart(batchOf(4, "sharded", "d", "e")) // it crosses the message
		if got := b.result(); got.GetPart() != 4 || !slices.Equal(rowsOf(got.GetReturned()), []uint32{0, 1}) {
			t.Errorf("a part that crosses: %v", got)
		}
		late := r.dial()
		late.send(hello("c-2", workerID, false))
		wantCode(t, late.ends(), batch.CodeShutdown, "has drained")

		time.Sleep(time.Minute)
		r.open("slow")
		if got := b.result(); got.GetPart() != 1 || !got.GetLast() || len(got.GetReturned()) != 0 {
			t.Errorf("what ran: %v", got)
		}
		select {
		case err := <-drained:
			t.Errorf("drained before the last result is acknowledged: %v", err)
		case <-time.After(time.Second):
		}
		b.ack()
		wantCode(t, b.ends(), batch.CodeShutdown, "has drained")
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if ran := r.began(); !slices.Equal(slices.Sorted(slices.Values(ran)), []string{"b", "slow"}) {
			t.Errorf("%q ran", ran)
		}
	})
}

// A coordinator whose session broke while the worker drains still gets its results.
func TestDrainWaitsForACoordinatorToComeBack(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		b.sendPart(batchOf(1, "whole", "a"))
		b.result()
		b.hangUp()
		drained := make(chan error)
		go func() { drained <- r.server.drain(t.Context()) }()
		time.Sleep(lease / 2)
		again := r.dial()
		if w := again.hello("c-1", true); !w.GetResumed() {
			t.Errorf("Welcome %v", w)
		}
		if again.must().GetDraining() == nil {
			t.Error("the coordinator is not told")
		}
		again.result()
		again.ack()
		began := time.Now()
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > crossingTime {
			t.Errorf("drained %v after the last word", waited)
		}
	})
}

func TestDrainEndsWithItsTime(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		b.sendPart(batchOf(1, "whole", "slow", "a", "b"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		wantCode(t, r.server.drain(ctx), batch.CodeDeadline, "1 coordinators still waited for 3 rows")
		if waited := time.Since(began); waited != 30*time.Second {
			t.Errorf("after %v", waited)
		}
		r.server.close()
		wantCode(t, b.ends(), batch.CodeShutdown, "shutting down")
	})
}

func TestDrainWithoutWorkIsQuick(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		began := time.Now()
		if err := r.server.drain(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("without a coordinator: %v, after %v", err, time.Since(began))
		}
	})
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		synctest.Wait()
		began := time.Now()
		if err := r.server.drain(t.Context()); err != nil || time.Since(began) != crossingTime {
			t.Errorf("with a quiet coordinator: %v, after %v", err, time.Since(began))
		}
		wantCode(t, b.ends(), batch.CodeShutdown, "has drained")
	})
}

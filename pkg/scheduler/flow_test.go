package scheduler_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// The names of a cluster's workers differ in a few digits only. Each worker must still get its share of the slots, and when one goes,
// each of the others must get its share of these slots.
func TestSlotsAreSpreadEvenly(t *testing.T) {
	for _, format := range []string{"worker-%d", "kisgrid-worker-7c9d8b6f5-%05x", "%d", "10.0.0.%d:7701"} {
		for _, workers := range []int{2, 3, 10, 200} {
			s := scheduler.New(scheduler.Config{})
			s.Step(scheduler.FlowSwitched{Flow: "orders", Revision: 1}, time.Time{})
			for w := range workers {
				id := fmt.Sprintf(format, w)
				s.Step(scheduler.WorkerConnected{Worker: id, Name: id}, time.Time{})
				s.Step(scheduler.WorkerReady{Worker: id, Flow: "orders", Revision: 1}, time.Time{})
			}
			before := s.Owners("orders")
			s.Step(scheduler.WorkerGone{Worker: fmt.Sprintf(format, 0)}, time.Time{})
			after := s.Owners("orders")
			shares, gains := map[string]int{}, map[string]int{}
			for slot := range keyslot.Count {
				was, is := before.Of(uint16(slot)), after.Of(uint16(slot))
				shares[was]++
				if was != is {
					gains[is]++
				}
			}
			checkEven(t, fmt.Sprintf("the slots of %d workers named %s", workers, format), shares, workers, keyslot.Count)
			checkEven(t, fmt.Sprintf("the slots of one that left %d workers named %s", workers, format), gains, workers-1, shares[fmt.Sprintf(format, 0)])
		}
	}
}

// checkEven fails where shares are not even. Of random shares the squared distances from the mean, in units of the mean, add up to
// about one for each worker, and are chi-squared distributed. Four standard deviations are allowed.
func checkEven(t *testing.T, what string, shares map[string]int, workers, slots int) {
	t.Helper()
	mean := float64(slots) / float64(workers)
	distance := float64(workers-len(shares)) * mean // of those with none
	for _, n := range shares {
		d := float64(n) - mean
		distance += d * d / mean
	}
	free := float64(workers - 1)
	if most := free + 4*math.Sqrt(2*free); distance > most {
		t.Errorf("%s are %.0f away from even, over %.0f", what, distance, most)
	}
}

// A worker that comes back under its name gets the slots that it had, whatever its id is.
func TestSlotsBelongToNames(t *testing.T) {
	h := newShell(t, scheduler.Config{})
	h.step(scheduler.FlowSwitched{Flow: "orders", Revision: 1})
	start := func(id, name string) {
		h.step(scheduler.WorkerConnected{Worker: id, Name: name})
		h.step(scheduler.WorkerReady{Worker: id, Flow: "orders", Revision: 1})
	}
	start("a-1", "a")
	start("b-1", "b")
	before := h.s.Owners("orders")
	h.step(scheduler.WorkerGone{Worker: "a-1"})
	start("a-2", "a")
	after := h.s.Owners("orders")
	for slot := range keyslot.Count {
		was, is := before.Of(uint16(slot)), after.Of(uint16(slot))
		if (was == "a-1") != (is == "a-2") {
			t.Fatalf("slot %d belonged to %s, and belongs to %s", slot, was, is)
		}
	}
}

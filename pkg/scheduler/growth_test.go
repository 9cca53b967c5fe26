package scheduler_test

import "testing"

// TestStepDoesNotGrow compares the memory that the scheduler allocates for a batch and its answers when there are few flows and workers, and
// when there are many: it depends on the batch's rows and parts alone.
func TestStepDoesNotGrow(t *testing.T) {
	perPart := func(workers, flows, rows int) float64 {
		m := newBench(workers, flows, rows)
		parts := 0
		for range 20 { // the first batches fill what is used again
			m.submit(flowName(0), true)
			m.answer(len(m.sent))
		}
		const batches = 20
		allocations := testing.AllocsPerRun(1, func() {
			parts = 0
			for range batches {
				m.submit(flowName(0), true)
				parts += len(m.sent)
				m.answer(len(m.sent))
			}
		})
		return allocations / float64(parts)
	}
	few := perPart(2, 1, 1000)
	for _, c := range []struct {
		what                 string
		workers, flows, rows int
		most                 float64
	}{
		{"500 flows instead of one", 2, 500, 1000, 1.2},
		{"64 workers instead of two", 64, 1, 1000, 1.5},
		{"100 rows in a batch instead of 1,000", 2, 1, 100, 1.2},
	} {
		if many := perPart(c.workers, c.flows, c.rows); many > c.most*few+0.5 {
			t.Errorf("%s: %.1f allocations a part, and %.1f before", c.what, many, few)
		}
	}
}

package scheduler

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestQueue compares a queue with a plain slice of what should be in it.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var want []*Batch
		notEmpty := func(t *rapid.T) {
			if len(want) == 0 {
				t.Skip("empty")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				var got []*Batch
				q.each(func(g *segment) { got = append(got, g.batch) })
				if !slices.Equal(got, want) || q.empty() != (len(want) == 0) {
					t.Fatalf("%d segments are queued, not the %d expected, or in another order", len(got), len(want))
				}
				for c := q.first; c != nil; c = c.next {
					for _, g := range slices.Concat(c.segments[:c.head], c.segments[len(c.segments):cap(c.segments)]) {
						if g.batch != nil {
							t.Fatal("a batch that has left is kept in memory")
						}
					}
					if c.next != nil && c.head == len(c.segments) {
						t.Fatal("there is an empty chunk, not the last one")
					}
				}
			},
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "segments") {
					b := new(Batch)
					q.push(segment{batch: b})
					want = append(want, b)
				}
			},
			"pop": func(t *rapid.T) {
				notEmpty(t)
				for range rapid.IntRange(1, len(want)).Draw(t, "segments") {
					if q.front().batch != want[0] {
						t.Fatal("another segment is in front")
					}
					q.pop()
					want = want[1:]
				}
			},
			"sweep": func(t *rapid.T) {
				notEmpty(t)
				over := map[*Batch]bool{}
				for range rapid.IntRange(1, 100).Draw(t, "batches") {
					over[rapid.SampledFrom(want).Draw(t, "batch")] = true
				}
				q.sweeping = nil
				for done := false; !done; {
					_, done = q.sweep(func(g *segment) bool { return over[g.batch] })
				}
				want = slices.DeleteFunc(want, func(w *Batch) bool { return over[w] })
			},
			"sweep some": func(t *rapid.T) {
				q.sweep(func(g *segment) bool {
					if over := rapid.IntRange(0, 1).Draw(t, "over") == 1; !over {
						return false
					}
					want = slices.DeleteFunc(want, func(w *Batch) bool { return w == g.batch })
					return true
				})
			},
			"take": func(*rapid.T) {
				all, n := q.take(), 0
				for ; !all.empty(); n++ {
					all.pop()
				}
				if n != len(want) {
					t.Fatalf("%d segments were taken of %d", n, len(want))
				}
				want = nil
			},
		})
	})
}

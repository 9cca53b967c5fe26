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
				for _, g := range q.segments[q.head:] {
					got = append(got, g.batch)
				}
				if !slices.Equal(got, want) || q.empty() != (len(want) == 0) {
					t.Fatalf("%d segments are queued, not the %d expected, or in another order", len(got), len(want))
				}
				for _, g := range q.segments[:q.head] {
					if g.batch != nil {
						t.Fatal("a batch that has left is kept in memory")
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
			"put back": func(*rapid.T) {
				b := new(Batch)
				q.putBack(segment{batch: b})
				want = append([]*Batch{b}, want...)
			},
			"drop": func(t *rapid.T) {
				notEmpty(t)
				b := rapid.SampledFrom(want).Draw(t, "batch")
				q.drop(func(g segment) bool { return g.batch == b })
				want = slices.DeleteFunc(want, func(w *Batch) bool { return w == b })
			},
			"take": func(*rapid.T) {
				if n := len(q.take()); n != len(want) {
					t.Fatalf("%d segments were taken of %d", n, len(want))
				}
				want = nil
			},
		})
	})
}

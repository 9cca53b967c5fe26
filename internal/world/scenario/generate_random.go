package scenario

import (
	"math"
	"math/rand/v2"
	"time"
)

// weight is a word, with how often it is taken.
type weight struct {
	word string
	n    int
}

// weighted returns one of the words.
func weighted(r *rand.Rand, all []weight) string {
	sum := 0
	for _, w := range all {
		sum += w.n
	}
	n := r.IntN(sum)
	for _, w := range all {
		if n -= w.n; n < 0 {
			return w.word
		}
	}
	return ""
}

// swarm switches few of the words on: none in a sixth of the cases, most often one to three.
func swarm(r *rand.Rand, words ...string) map[string]bool {
	on := map[string]bool{}
	for range pick(r, 0, 1, 1, 2, 3, min(6, len(words))) {
		on[pick(r, words...)] = true
	}
	return on
}

// chance reports true in so many cases of a hundred.
func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// pick returns one of its arguments.
func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// between returns a number from low to high.
func between(r *rand.Rand, low, high int) int { return low + r.IntN(high-low+1) }

// widely returns a number from low to high, in which small numbers are as frequent as large ones: as many below 10 as above 100.
func widely(r *rand.Rand, low, high int) int {
	n := float64(low) * math.Pow(float64(high+1)/float64(low), r.Float64())
	return min(high, max(low, int(n)))
}

// seconds returns a whole number of seconds.
func seconds(r *rand.Rand, low, high int) time.Duration {
	return time.Duration(between(r, low, high)) * time.Second
}

// within returns a time before the end, in whole milliseconds.
func within(r *rand.Rand, end time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(end/time.Millisecond))) * time.Millisecond
}

// widelyTime is widely for times, in whole milliseconds.
func widelyTime(r *rand.Rand, low, high time.Duration) time.Duration {
	return time.Duration(widely(r, int(low/time.Millisecond), int(high/time.Millisecond))) * time.Millisecond
}

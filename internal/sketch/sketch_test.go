package sketch

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Each bucket begins where the one before ends, so that every time has exactly one.
func TestBucketsAreInOrder(t *testing.T) {
	if Lower(0) != 0 || Lower(1) != time.Microsecond {
		t.Fatalf("the first buckets begin at %v and %v", Lower(0), Lower(1))
	}
	for b := 1; b < Buckets; b++ {
		if at := Lower(b); Bucket(at) != b || Bucket(at-1) != b-1 || at <= Lower(b-1) {
			t.Errorf("bucket %d begins at %v, which is in bucket %d; the time before is in %d", b, at, Bucket(at), Bucket(at-1))
		}
	}
	if Bucket(-1) != 0 || Bucket(math.MaxInt64) != Buckets-1 {
		t.Errorf("the ends are in %d and %d", Bucket(-1), Bucket(math.MaxInt64))
	}
}

// A quantile is close to the true one, and nothing was counted where it is 0.
func TestQuantile(t *testing.T) {
	if got := Quantile(&[Buckets]uint64{}, 0.5); got != 0 {
		t.Errorf("without times the median is %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(int64(2*time.Microsecond), int64(10*time.Minute)), 1, 300).Draw(t, "times")
		q := rapid.SampledFrom([]float64{0.5, 0.9, 0.99}).Draw(t, "q")
		var counts [Buckets]uint32
		for _, n := range times {
			counts[Bucket(time.Duration(n))]++
		}
		slices.Sort(times)
		want := float64(times[max(0, int(math.Ceil(q*float64(len(times))))-1)])
		if got := float64(Quantile(&counts, q)); got < want/1.51 || got > want*1.51 {
			t.Fatalf("the quantile %v is %v, estimated as %v", q, time.Duration(want), time.Duration(got))
		}
	})
}

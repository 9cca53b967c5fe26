// Package sketch counts times in fixed buckets, so that counts of many processes add up and their quantiles can be estimated. All processes
// must agree on the buckets, so they are a part of the protocol and never change: two for each doubling of the time, from 1 µs on. An
// estimate is wrong by no more than half of the time.
package sketch

import (
	"math/bits"
	"time"
)

// Buckets is the number of buckets. The first one has the times below 1 µs, and the last one all times from 54 minutes on.
const Buckets = 64

// unit is the unit in which buckets are computed: the first bucket ends at two of it.
const unit = 500 * time.Nanosecond

// Bucket returns the number of the bucket that a time belongs to.
func Bucket(t time.Duration) int {
	if t < 2*unit {
		return 0
	}
	n := uint64(t / unit)
	doublings := bits.Len64(n) - 1 // at least 1
	return min(2*(doublings-1)+int(n>>(doublings-1)&1)+1, Buckets-1)
}

// Lower returns the least time of a bucket.
func Lower(bucket int) time.Duration {
	if bucket <= 0 {
		return 0
	}
	doublings := (bucket-1)/2 + 1
	return unit<<doublings + unit<<(doublings-1)*time.Duration((bucket-1)%2)
}

// Quantile estimates the time that the share q of all counted times did not exceed, such as 0.99. counts has the number of times by bucket.
// It returns 0 if nothing was counted.
func Quantile[N ~uint32 | ~uint64](counts *[Buckets]N, q float64) time.Duration {
	var all float64
	for _, n := range counts {
		all += float64(n)
	}
	left := q * all
	for bucket, n := range counts {
		if n == 0 || left > float64(n) {
			left -= float64(n)
			continue
		}
		from := Lower(bucket)
		return from + time.Duration(left/float64(n)*float64(Lower(bucket+1)-from))
	}
	return 0
}

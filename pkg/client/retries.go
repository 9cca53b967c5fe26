package client

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// retries says how long to wait between tries, and when to stop. One value serves one call of Submit, or one stream that looks for a
// coordinator. It belongs to one goroutine.
type retries struct {
	limit time.Duration // the longest time from the first failure to the last try
	delay backoff.ExponentialBackOff
	first time.Time // when the first failure since the last success happened
	count int       // the number of failures since the last success
}

// retries makes a retries from the options of Dial. Delays double from firstDelay up to maxDelay, and each is drawn at random from half to
// one and a half of that value.
func (o *options) retries() *retries {
	return &retries{limit: o.retryFor, delay: backoff.ExponentialBackOff{
		InitialInterval: o.firstDelay, MaxInterval: o.maxDelay, Multiplier: 2, RandomizationFactor: 0.5,
	}}
}

// next counts a failure. It returns how long to wait before the next try, at least the RetryAfter of the error, and whether there is to be
// a next try: false means that it would begin later than limit after the first failure.
func (r *retries) next(now time.Time, err error) (time.Duration, bool) {
	if r.count == 0 {
		r.first = now
	}
	r.count++
	delay := r.delay.NextBackOff()
	if e, ok := errors.AsType[*batch.Error](err); ok {
		delay = max(delay, e.RetryAfter)
	}
	return delay, now.Add(delay).Sub(r.first) <= r.limit
}

// reset forgets the failures, after a success.
func (r *retries) reset() {
	r.count = 0
	r.delay.Reset()
}

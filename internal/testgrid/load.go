package testgrid

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/client"
)

// Load sends batches on one stream, one after the other, and hands each answer to the test. The zero values of Every, Open, Options
// and KeepOn are usable.
type Load struct {
	// Stream takes the batches. Run does not close it.
	Stream *client.Stream
	// Every is the time from one batch to the next. 0 means that the next batch is sent at once.
	Every time.Duration
	// Open is how many batches may be unanswered at a time. 0 means any number.
	Open int
	// Options are given to each Send.
	Options []client.SubmitOption
	// Next makes the batch with the number n, from 0. Nil ends the load. One goroutine calls it, the one that called Run.
	Next func(n int) *client.Batch
	// Answered is told how the batch with the number n ended, once for each batch. Several goroutines call it at the same time.
	Answered func(n int, r *client.Result, err error)
	// KeepOn has the load go on after a Send that failed. Then Answered gets the error of Send. Otherwise a failed Send ends the
	// load, Run returns its error, and Answered is not told of that batch.
	KeepOn bool
}

// Run sends batches until stop is closed, ctx is done, Next returns nil, or Send fails and KeepOn is false. Then it waits until each batch
// that was sent is answered, or ctx is done, and Answered has returned for it. It returns the error of the Send that ended the load; a ctx
// that is done is no error.
func (l *Load) Run(ctx context.Context, stop <-chan struct{}) (err error) {
	var answers sync.WaitGroup
	defer answers.Wait()
	var due <-chan time.Time
	if l.Every > 0 {
		ticker := time.NewTicker(l.Every)
		defer ticker.Stop()
		due = ticker.C
	}
	var slots chan struct{} // holds a token for each unanswered batch; nil means any number
	if l.Open > 0 {
		slots = make(chan struct{}, l.Open)
	}
	for n := 0; ; n++ {
		if n > 0 && due != nil && !wait(ctx, stop, due) || slots != nil && !acquire(ctx, stop, slots) || ended(ctx, stop) {
			return nil
		}
		b := l.Next(n)
		if b == nil {
			return nil
		}
		pending, err := l.Stream.Send(ctx, b, l.Options...)
		if err != nil && !l.KeepOn {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("send batch %d: %w", n, err)
		}
		answers.Go(func() {
			var r *client.Result
			if err == nil {
				r, err = pending.Wait(ctx)
			}
			l.Answered(n, r, err)
			if slots != nil {
				<-slots
			}
		})
	}
}

// wait waits until due and returns true. It returns false if stop is closed or ctx is done first.
func wait(ctx context.Context, stop <-chan struct{}, due <-chan time.Time) bool {
	select {
	case <-due:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}

// acquire waits until one more batch may be unanswered, and returns true. It returns false if stop is closed or ctx is done first.
func acquire(ctx context.Context, stop <-chan struct{}, slots chan<- struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}

// ended reports whether stop is closed or ctx is done.
func ended(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return ctx.Err() != nil
	}
}

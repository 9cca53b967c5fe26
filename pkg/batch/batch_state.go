package batch

import (
	"errors"
	"time"
)

// ErrUnanswered is in the chain of each error that leaves open what became of a batch: rows of it may have run, in this
// call or in an earlier one. Where errors.Is does not find it, nothing of the batch has run. The chain also has the *Error
// with the reason.
var ErrUnanswered = errors.New("the batch may have taken effect: submit the same batch again to have it run again and to learn how its rows ended")

// runState says how much is known of a batch's rows. It is kept with the batch, so that the next submission knows it, too.
//
//	noneRan ──Doubt, or Answered with failed rows──▶ mayHaveRun ──Answered──▶ allEnded
//	   └───────────────────────Answered─────────────────────────────────────────▲
type runState uint8

const (
	noneRan    runState = iota // no row ran
	mayHaveRun                 // rows may have run, and no answer says how each one ended
	allEnded                   // every row has its outcome, and none of them failed
)

// The methods below are for package client and for flowexec.Local, which run batches. Programs need none of them.

// Begin notes that a submission to the flow is under way, until Answered or Ended. A batch without an id gets one from
// next; where next is nil, the batch must have one. It returns the id. The error has CodeBadBatchID, and says why the batch
// can't be submitted here or now.
func (b *Batch) Begin(flow string, now time.Time, next func() ID) (ID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.submitting:
		return ID{}, Errorf(CodeBadBatchID, "batch %s is under way: wait for its answer before submitting it again", b.id)
	case b.rows != noneRan && b.flow != "" && b.flow != flow:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was first submitted to flow %q, not %q: submit it to that one", b.id, b.flow, flow)
	case b.rows == allEnded:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was answered: its result says how each row ended, and there is nothing to submit again", b.id)
	case b.givenUp:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was given up: do not call GiveUp for a batch that is to be submitted again", b.id)
	}
	if b.id.IsZero() {
		if next == nil {
			return ID{}, Errorf(CodeBadBatchID, "the batch has lost its id because another goroutine submitted it in the meantime: let only one goroutine use a batch at a time")
		}
		b.id, b.firstUsed, b.idSeen = next(), now, false
	}
	b.submitting = true
	return b.id, nil
}

// Sent notes that the batch was handed to the network, so that others may have seen its id.
func (b *Batch) Sent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idSeen = true
}

// Doubt notes that rows of the batch may have run in the flow, and that no answer will tell.
func (b *Batch) Doubt(flow string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.rows = max(b.rows, mayHaveRun)
}

// bind notes which flow may have run rows. The caller holds mu.
func (b *Batch) bind(flow string) {
	if b.flow == "" {
		b.flow = flow
	}
}

// Answered ends what Begin began: each row has its outcome. failed says that some rows failed, so the batch may be
// submitted again.
func (b *Batch) Answered(flow string, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.submitting, b.idSeen, b.rows = false, true, allEnded
	if failed {
		b.rows = mayHaveRun
	}
}

// Ended ends what Begin began, where there is no answer. If nobody can have seen the batch's id, it loses the id and is as
// good as new; the result tells so.
func (b *Batch) Ended() (asNew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submitting = false
	if !b.idSeen {
		b.id, b.firstUsed = ID{}, time.Time{}
	}
	return !b.idSeen
}

// GiveUp makes Begin refuse the batch from now on. It does nothing to a batch without an id, or to one whose rows all
// ended.
func (b *Batch) GiveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.givenUp = !b.id.IsZero() && b.rows != allEnded
}

// Judge returns err as the error of a call about the batch: it has ErrUnanswered in its chain where rows of the batch may
// have run. Every error about a batch passes through it last, just before the caller gets it. nil stays nil.
func (b *Batch) Judge(err error) error {
	if err == nil || b == nil || errors.Is(err, ErrUnanswered) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.submitting:
		return &unanswered{err, "the batch may have taken effect: the answer to the submission under way will tell"}
	case b.rows == allEnded:
		return &unanswered{err, "the batch has taken effect, as its result says"}
	case b.rows == mayHaveRun && b.givenUp:
		return &unanswered{err, "the batch may have taken effect: look at the data to find out"}
	case b.rows == mayHaveRun:
		return &unanswered{err, ErrUnanswered.Error()}
	}
	return err
}

// unanswered is an error about a batch of which rows may have run.
type unanswered struct {
	err    error
	advice string // what to do, in words
}

func (u *unanswered) Error() string   { return u.err.Error() + " (" + u.advice + ")" }
func (u *unanswered) Unwrap() []error { return []error{u.err, ErrUnanswered} }

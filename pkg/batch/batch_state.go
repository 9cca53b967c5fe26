package batch

import (
	"errors"
	"time"
)

// ErrUnanswered is in the chain of each error about a batch of which rows may have run, in this call or in an earlier
// one. If errors.Is does not find it in an error of a submission, nothing of the batch has run. The chain also has the
// *Error with the reason.
var ErrUnanswered = errors.New("the batch may have taken effect: submit the same batch again to have it run again and to learn how its rows ended")

// runState says how much is known of a batch's rows. It is kept with the batch, so that the next submission knows it, too.
//
//	noneRan ──Doubt, Use, or Answered with failed rows──▶ mayHaveRun ──Answered──▶ allEnded
//	   └───────────────────────────Answered──────────────────────────────────────────▲
type runState uint8

const (
	noneRan    runState = iota // no row ran
	mayHaveRun                 // rows may have run, and no answer says how each one ended
	allEnded                   // every row has its outcome, and none of them failed
)

// The methods below are for package client and for flowexec.Local, which run batches. Programs need none of them.

// Begin notes that a submission to the flow is under way, until Answered or Ended is called. It returns the batch's id. A
// batch without an id gets one from next; if next is nil, a batch without an id is an error. The error has
// CodeBadBatchID, and says why the batch can't be submitted now or to this flow.
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

// Doubt notes that rows of the batch may have run in the flow, and that no answer says how they ended.
func (b *Batch) Doubt(flow string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.rows = max(b.rows, mayHaveRun)
}

// bind notes which flow may have run rows of the batch, unless a flow is noted already. The caller holds mu.
func (b *Batch) bind(flow string) {
	if b.flow == "" {
		b.flow = flow
	}
}

// Answered ends the submission that Begin began, with an answer: each row has its outcome. failed says that some rows
// have the outcome Failed, so the batch may be submitted again.
func (b *Batch) Answered(flow string, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.submitting, b.idSeen, b.rows = false, true, allEnded
	if failed {
		b.rows = mayHaveRun
	}
}

// Ended ends the submission that Begin began, without an answer. If nobody else can have seen the batch's id, the batch
// loses the id and is as good as new; then asNew is true.
func (b *Batch) Ended() (asNew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submitting = false
	if !b.idSeen {
		b.id, b.firstUsed = ID{}, time.Time{}
	}
	return !b.idSeen
}

// GiveUp makes Begin refuse the batch from now on. It does nothing to a batch without an id, or to a batch of which every
// row has an outcome other than Failed.
func (b *Batch) GiveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.givenUp = !b.id.IsZero() && b.rows != allEnded
}

// Judge returns err as the error of a call about the batch: if rows of the batch may have run, it puts ErrUnanswered into
// the chain. Every error about a batch passes through Judge last, just before the program gets it. A nil err stays nil,
// and a nil batch leaves err as it is.
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

package batch

import (
	"errors"
	"time"
)

// ErrUnanswered matches every error of a call that leaves open what became of its batch: rows of it may have run, in this call
// or in an earlier one. An error that does not match it means that nothing of the batch ran. Beside it the chain holds the
// *Error with the reason.
var ErrUnanswered = errors.New("the batch may have taken effect: submitting the same batch again runs its rows again, and tells")

// ran is what is known of a batch's rows. It is kept with the batch, so that whoever submits it next knows.
//
//	nothing ──Doubt, Answered with failed rows──▶ mayHave ──Answered──▶ all
//	   └──────────────────Answered─────────────────────────────────────▶ all
type ran uint8

const (
	nothing ran = iota // no row ran
	mayHave            // rows may have run, and no answer tells how each ended
	all                // every row has its outcome, and none of them failed
)

// The methods below are for those who run batches: package client, and flowexec.Local. Programs need none of them.

// Begin lends the batch to who submits it to the flow, until Answered or Ended. A batch without an id gets the one that next
// draws; nil: it must have one. It returns the batch's id. The error, CodeBadBatchID, says why the batch can't be submitted here or now.
func (b *Batch) Begin(flow string, now time.Time, next func() ID) (ID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lent:
		return ID{}, Errorf(CodeBadBatchID, "batch %s is under way: wait for its answer before submitting it again", b.id)
	case b.ran != nothing && b.flow != "" && b.flow != flow:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was first submitted to flow %q, not %q: submit it to that one", b.id, b.flow, flow)
	case b.ran == all:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was answered: its result says how each row ended, and there is nothing to submit again", b.id)
	case b.givenUp:
		return ID{}, Errorf(CodeBadBatchID, "batch %s was given up: leave out GiveUp for what is to be submitted again", b.id)
	}
	if b.id.IsZero() {
		if next == nil {
			return ID{}, Errorf(CodeBadBatchID, "the batch has lost its id, as another goroutine submitted it meanwhile: let one at a time have it")
		}
		b.id, b.first, b.known = next(), now, false
	}
	b.lent = true
	return b.id, nil
}

// Sent notes that others may have seen the batch's id.
func (b *Batch) Sent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = true
}

// Doubt notes that rows of the batch may have run in the flow, and that no answer to that will come.
func (b *Batch) Doubt(flow string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.ran = max(b.ran, mayHave)
}

// bind notes the flow that may have run rows. The caller holds mu.
func (b *Batch) bind(flow string) {
	if b.flow == "" {
		b.flow = flow
	}
}

// Answered takes back what Begin lent: each row has its outcome. failed: some of them may be submitted again.
func (b *Batch) Answered(flow string, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bind(flow)
	b.lent, b.known, b.ran = false, true, all
	if failed {
		b.ran = mayHave
	}
}

// Ended takes back what Begin lent: there is no answer. A batch whose id nobody has seen is as good as new, and has no id any
// more; that is reported.
func (b *Batch) Ended() (asNew bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent = false
	if !b.known {
		b.id, b.first = ID{}, time.Time{}
	}
	return !b.known
}

// GiveUp has Begin refuse the batch from now on. It does nothing to a batch without an id, or one that was answered.
func (b *Batch) GiveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.givenUp = !b.id.IsZero() && b.ran != all
}

// Judge is err as the error of a call about the batch: it matches ErrUnanswered where rows of the batch may have run. Every
// error about a batch goes through it, as the last thing before its caller gets it. nil stays nil.
func (b *Batch) Judge(err error) error {
	if err == nil || b == nil || errors.Is(err, ErrUnanswered) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lent:
		return &unanswered{err, "the batch may have taken effect: the answer that is to come tells"}
	case b.ran == all:
		return &unanswered{err, "the batch has taken effect, as its result says"}
	case b.ran == mayHave && b.givenUp:
		return &unanswered{err, "the batch may have taken effect: look at what is there"}
	case b.ran == mayHave:
		return &unanswered{err, ErrUnanswered.Error()}
	}
	return err
}

// unanswered is an error about a batch of which rows may have run.
type unanswered struct {
	err    error
	advice string
}

func (u *unanswered) Error() string   { return u.err.Error() + " (" + u.advice + ")" }
func (u *unanswered) Unwrap() []error { return []error{u.err, ErrUnanswered} }

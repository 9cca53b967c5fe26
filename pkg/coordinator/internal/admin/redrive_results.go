package admin

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// This file has the messages that a redrive sends to its caller: progress, and where the caller asks for it the rows that the flow passes
// on (results).
//
// A letter is deleted when its row has ended; after that its results could not be had any more. So the results are sent first. If the
// redrive is cut off in between, the next redrive runs the letter again: the caller may get its results twice, but gets them at least once.

// tellResults sends the rows that the flow passed on for a letter to the redrive's caller, and drops them. It blocks while the caller does
// not read.
func (r *redrive) tellResults(a *Attempt) error {
	for _, piece := range a.Results {
		if err := r.tally.results(piece); err != nil {
			return err
		}
	}
	a.Results = nil
	return nil
}

// redriveTally counts the letters of one redrive by how they ended, and sends progress to the caller. The goroutine of the call owns it.
type redriveTally struct {
	send      func(*pb.DeadProgress) error
	results   func(*pb.Columns) error // sends rows that the flow passes on; nil means that nobody asked for them
	who       access.Caller           // who redrives; reasons are hidden from a caller that may not see rows
	selected  uint64
	outcomes  batch.Counts
	reasons   map[deadReason]uint64
	toldTotal uint64
	toldOnce  bool
}

// deadReason is a reason why letters stay in the store; letters that stay for the same reason are counted together.
type deadReason struct {
	flow, function string
	code           batch.Code
	reason         string
}

// maxReasons is the most different reasons that are sent one by one; letters with further reasons are counted together.
const maxReasons = 20

// count counts a letter whose redrive ended with outcome o. For a letter that stays in the store, because o is Dead or Failed, it also
// counts the reason.
func (t *redriveTally) count(flow, function string, o batch.Outcome, code batch.Code, reason string) {
	t.outcomes[o]++
	if o != batch.Dead && o != batch.Failed {
		return
	}
	if t.who.Identity != nil && (!t.who.May(access.Rows, flow) || len(t.who.Masks(flow)) > 0) {
		reason = ""
	}
	key := deadReason{flow, function, code, reason}
	if _, known := t.reasons[key]; !known && len(t.reasons) >= maxReasons {
		key.reason = fmt.Sprintf("and other reasons, beyond the first %d", maxReasons)
	}
	t.reasons[key]++
}

// sendProgress sends the counts to the caller if they have changed since they were sent last, or were never sent, or the redrive is over.
func (t *redriveTally) sendProgress(over bool) error {
	if n := t.outcomes.Total(); n == t.toldTotal && t.toldOnce && !over {
		return nil
	}
	t.toldTotal, t.toldOnce = t.outcomes.Total(), true
	m := &pb.DeadProgress{
		Selected: t.selected, Done: t.outcomes[batch.Done], Filtered: t.outcomes[batch.Filtered], Aborted: t.outcomes[batch.Aborted],
		Dead: t.outcomes[batch.Dead], Left: t.outcomes[batch.Failed],
	}
	for key, n := range t.reasons {
		m.Reasons = append(m.Reasons, &pb.DeadReason{Flow: key.flow, Function: key.function, Code: pb.Code(key.code), Reason: key.reason, Letters: n})
	}
	slices.SortFunc(m.GetReasons(), func(a, b *pb.DeadReason) int {
		return cmp.Or(-cmp.Compare(a.GetLetters(), b.GetLetters()), cmp.Compare(a.GetReason(), b.GetReason()))
	})
	return t.send(m)
}

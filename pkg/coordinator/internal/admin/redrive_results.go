package admin

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// This file is what a redrive tells its caller: how far it has come, and, where the caller asks for it, what the flow passes on.
//
// A letter is no more when its row has ended, and nobody can have its output afterwards. So the output goes out first. A redrive
// that is cut off in between runs the letter again: the caller may get its output twice, but never not at all while the
// coordinator and the connection live.

// RedriveDeadWithResults is RedriveDead that also gives what the flow passes on.
func (a *admin) RedriveDeadWithResults(in *pb.RedriveDeadWithResultsRequest, out pb.Admin_RedriveDeadWithResultsServer) error {
	t := &redriveTally{
		send: func(p *pb.DeadProgress) error {
			return out.Send(&pb.RedriveEvent{Kind: &pb.RedriveEvent_Progress{Progress: p}})
		},
		results: func(c *pb.Columns) error {
			return out.Send(&pb.RedriveEvent{Kind: &pb.RedriveEvent_Results{Results: c}})
		},
		reasons: map[deadReason]uint64{},
	}
	return wire.Status(a.redriveDead(out.Context(), in.GetFilter(), in.GetDryRun(), t))
}

// tellResults tells what the flow passed on for a letter that ends. It blocks while the caller takes nothing.
func (r *redrive) tellResults(a *Attempt) error {
	for _, piece := range a.Results {
		if err := r.tally.results(piece); err != nil {
			return err
		}
	}
	a.Results = nil
	return nil
}

// redriveTally counts letters by what became of them.
type redriveTally struct {
	send     func(*pb.DeadProgress) error
	results  func(*pb.Columns) error // takes what the flow passes on; nil: nobody asked for it
	selected uint64
	outcomes batch.Counts
	reasons  map[deadReason]uint64
	told     uint64
	toldOnce bool
}

// deadReason is why a letter stays.
type deadReason struct {
	flow, function string
	code           batch.Code
	reason         string
}

// maxReasons bounds how many different reasons are told.
const maxReasons = 20

func (t *redriveTally) count(flow, function string, o batch.Outcome, code batch.Code, reason string) {
	t.outcomes[o]++
	if o != batch.Dead && o != batch.Failed {
		return
	}
	key := deadReason{flow, function, code, reason}
	if _, known := t.reasons[key]; !known && len(t.reasons) >= maxReasons {
		key.reason = fmt.Sprintf("and other reasons, beyond the first %d", maxReasons)
	}
	t.reasons[key]++
}

// tell tells how far it has come, if that has changed or it is over.
func (t *redriveTally) tell(over bool) error {
	if n := t.outcomes.Total(); n == t.told && t.toldOnce && !over {
		return nil
	}
	t.told, t.toldOnce = t.outcomes.Total(), true
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

package coordinator

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/internal/transport"
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

// wantResults has a letter's batch bring what the flow passes on. It counts as untaken until the letter has ended; when the
// coordinator's budget of answers is used up, it is let go of, and the letter stays.
func (r *redrive) wantResults(sub *submission) {
	if r.tally.results == nil {
		return
	}
	sub.output = true
	sub.goesTo((&transport.Config{}).MessageBytes(), r.admin.limits) // what the command line takes
	sub.answers = &heldAnswers{budget: r.admin.budget, allowance: callCost(1, len(sub.columns.Data)), shed: func() bool {
		sub.shedOutput()
		return true
	}}
}

// letGoResults gives back what the output counted for.
func (s *submission) letGoResults() {
	if s.answers != nil {
		s.answers.close()
	}
}

// gather keeps what a result says that the flow passed on.
func (t *redrivenLetter) gather(e *ending) {
	sub := e.submission
	sub.leaveOut(e.result)
	o := e.result.GetOutput()
	if !sub.output || len(o.GetOrigins()) == 0 {
		return
	}
	all := batch.Output{Rows: wire.ToColumns(o.GetRows()), Origins: o.GetOrigins()}
	for piece := range wire.SplitOutput(all, sub.pieceBytes()) {
		t.results = append(t.results, wire.FromColumns(piece.Rows))
	}
}

// leaveWithout leaves a letter whose row has ended, but whose output is not all here. It can be run again for its output.
func (t *redrivenLetter) leaveWithout(sub *submission) {
	if sub.shed.Load() && len(t.results) > 0 { // it is let go of to make room
		t.results = nil
		sub.omit(errShed())
	}
	if why := sub.omitted.Load(); why != nil && t.outcome != batch.Failed {
		t.outcome, t.code, t.results = batch.Failed, why.Code, nil
		t.reason = "the row has ended, but what was passed on for it could not be told, so that the letter stays: redrive it again, which saves nothing twice, with fewer letters at once or without results"
	}
}

// tellResults tells what the flow passed on for a letter that ends. It blocks while the caller takes nothing.
func (r *redrive) tellResults(t *redrivenLetter) error {
	for _, piece := range t.results {
		if err := r.tally.results(piece); err != nil {
			return err
		}
	}
	t.results = nil
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

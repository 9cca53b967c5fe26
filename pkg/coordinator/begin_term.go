package coordinator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// BeginTerm begins the next term of a log, and tells the reader its number and the revision on which rows of the log run. It blocks until
// etcd has written it.
func (i *ingest) BeginTerm(ctx context.Context, in *pb.BeginTermRequest) (*pb.BeginTermResponse, error) {
	if err := i.whyClosed(); err != nil {
		return nil, wire.Status(err)
	}
	id, err := batch.LogIDFrom(in.GetLog())
	if err == nil && id.IsZero() {
		err = batch.Errorf(batch.CodeBadPositions, "the id of the log is zero: make it with LogIDOf")
	}
	if err != nil {
		return nil, wire.Status(err)
	}
	l, err := i.store.BeginTerm(ctx, in.GetFlow(), id, in.GetFloor(), cluster.TermOptions{Drained: in.GetDrained(), Resume: in.GetResume()})
	if err != nil {
		return nil, wire.Status(err)
	}
	return &pb.BeginTermResponse{Term: l.Term, Revision: l.Revision, Digest: wire.FromDigest(l.Digest), Floor: l.Floor}, nil
}

// refusesPositions returns the outcome of the rows of a part that have positions, if the worker's build knows none: it would run them
// without. nil means that the part may be sent.
func (p *workerPeer) refusesPositions(part *scheduler.Part) *batch.RowOutcome {
	if submissionOf(part.Batch).log == nil || p.takesPositions {
		return nil
	}
	pointNoPositions.Hit()
	return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeProtocolMismatch,
		Reason: "the row has a position in a log, and the worker's build knows none: upgrade the workers, and send the row again"}
}

// holdBack ends the rows of a batch that stand in a log behind a failed row of their key, in Ended: those rows would take effect before the
// failed one, which its reader sends again.
func (s *submission) holdBack(failed *behindfailed.Rows) {
	if s.failed = failed; s.log == nil || len(s.columns.Keys) == 0 {
		return
	}
	ended := len(s.Ended)
	for row, at := range s.columns.Positions {
		if first, held := failed.Begin(s.Flow, s.log, s.columns.Keys[row], at); held && !slices.ContainsFunc(s.Ended[:ended], func(o batch.RowOutcome) bool { return o.Row == uint32(row) }) {
			s.Ended = append(s.Ended, behindfailed.Outcome(uint32(row), first))
		}
	}
	if len(s.Ended) > ended {
		pointBehindFailed.Hit()
		slices.SortFunc(s.Ended, func(a, b batch.RowOutcome) int { return cmp.Compare(a.Row, b.Row) })
	}
}

// noteFailed notes the failed rows of an ending, if they stand in a log, for holdBack of later batches.
func (s *submission) noteFailed(e *ending) {
	if s.log == nil || len(s.columns.Keys) == 0 || s.failed == nil {
		return
	}
	note := func(row uint32, outcome batch.Outcome, code batch.Code) {
		if outcome == batch.Failed && code != batch.CodeBehindFailed {
			s.failed.Failed(s.Flow, s.log, s.columns.Keys[row], s.columns.Positions[row], time.Now())
		}
	}
	for _, row := range e.rows {
		note(row, e.outcome, e.code)
	}
	if e.part == nil {
		return
	}
	for _, o := range e.result.GetNotDone() {
		if e.counts(o.GetRow()) {
			note(e.part.Row(o.GetRow()), batch.Outcome(o.GetOutcome()), batch.Code(o.GetCode()))
		}
	}
}

package coordinator

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Processes of one cluster may have different limits, for good or while an operator changes them one process after the other. No process is
// sent more than it said that it accepts: a worker says that in Welcome, a client in Open or with its call. Only a row that is too large
// for the other side fails, with ROW_TOO_LARGE; its session or stream goes on.

// limitsOf returns the limits in the form in which clients are told them.
func limitsOf(l batch.Limits) *pb.Limits {
	return &pb.Limits{RowBytes: uint32(l.RowBytes), BatchBytes: uint32(l.BatchBytes), BatchRows: uint32(l.BatchRows)}
}

// clientTakes returns the most bytes of one answer to a client that said that it accepts so many. Clients of builds that say nothing accept
// the default limit of a message.
func (i *ingest) clientTakes(said uint32) int {
	const least = 2 << 20 // answers are sent in pieces of half of that
	takes := max(least, int(min(said, math.MaxInt32)))
	if said == 0 {
		takes = (&transport.Config{}).MessageBytes()
	}
	return min(takes, i.maxMessage)
}

// answerLimit returns how many bytes of rows fit into a message of so many bytes, beside its other fields.
func answerLimit(message int) int { return message - message/8 }

// fitAnswersTo sets the sizes of answers to a client that accepts messages of so many bytes.
func (s *submission) fitAnswersTo(takes int, limits batch.Limits) {
	s.answerPiece = min(wire.SplitBytes, takes/2)
	if longest := answerLimit(takes); longest < limits.BatchBytes {
		s.maxOutputRow = longest
	}
}

// pieceBytes is about how many bytes of rows go into one answer.
func (s *submission) pieceBytes() int { return cmp.Or(s.answerPiece, wire.SplitBytes) }

// endTooLong ends the rows whose output has a row that is too long for the client: they are dead, and their output is dropped. Workers do
// that themselves, except for those of early builds.
func (s *submission) endTooLong(a *pb.Answer) {
	if s.maxOutputRow == 0 || len(a.GetOutput().GetRows().GetData()) <= s.maxOutputRow {
		return
	}
	c, origins := wire.ToColumns(a.GetOutput().GetRows()), a.GetOutput().GetOrigins()
	refused := map[uint32]bool{}
	for i, origin := range origins {
		if n := len(c.Row(i)); n > s.maxOutputRow && !refused[origin] {
			refused[origin] = true
			s.endTooLongRow(a, origin, n)
		}
	}
	if len(refused) == 0 {
		return
	}
	var keep, left []uint32
	for i, origin := range origins {
		if !refused[origin] {
			keep, left = append(keep, uint32(i)), append(left, origin)
		}
	}
	a.Output = wire.FromOutput(batch.Output{Rows: c.Select(keep), Origins: left})
}

// endTooLongRow ends the row of which origin is the number, because a row of n bytes was passed on for it. Output of the whole batch has no
// such row; then the batch's output is incomplete.
func (s *submission) endTooLongRow(a *pb.Answer, origin uint32, n int) {
	reason := fmt.Sprintf("the output for the row has a row of %d bytes, and the client accepts %d bytes: have the function pass on less", n, s.maxOutputRow)
	if origin == batch.WholeBatch {
		s.noteOmitted(batch.Errorf(batch.CodeRowTooLarge, "%s", reason))
		return
	}
	if slices.ContainsFunc(a.GetNotDone(), func(o *pb.RowOutcome) bool { return o.GetRow() == origin }) {
		return
	}
	a.NotDone = append(a.NotDone, &pb.RowOutcome{
		Row: origin, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_ROW_TOO_LARGE, Reason: reason, NotKept: pb.NotKept_NOT_KEPT_NOTHING_LEFT,
	})
}

// partLimits is what a worker accepts in one part. 0 means as much as a batch may have here, or more.
type partLimits struct{ rows, bytes int64 }

// limitsOfWorker returns the limits that a worker told, where they are lower than this coordinator's own.
func limitsOfWorker(w *pb.Welcome, own batch.Limits) (l partLimits) {
	if n := w.GetBatchRows(); n > 0 && int64(n) < int64(own.BatchRows) {
		l.rows = int64(n)
	}
	if n := w.GetBatchBytes(); n > 0 && int64(n) < int64(own.BatchBytes) {
		l.bytes = int64(n)
	}
	return l
}

// refusal returns the outcome for the rows of a part that the worker does not accept; nil means that it accepts the part. The scheduler
// cuts parts to the worker's limits, so that only two cases are left: a single row that is too large, and a batch that must not be divided.
func (l partLimits) refusal(p *scheduler.Part) *batch.RowOutcome {
	if l == (partLimits{}) {
		return nil
	}
	rows, bytes := int64(p.Len()), int64(0)
	if p.Rows == nil {
		bytes = int64(p.Batch.Ends[p.Batch.Rows()-1])
	}
	for _, row := range p.Rows {
		bytes += int64(p.Batch.Ends[row])
		if row > 0 {
			bytes -= int64(p.Batch.Ends[row-1])
		}
	}
	switch {
	case l.bytes > 0 && bytes > l.bytes && rows == 1:
		return &batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge,
			Reason: fmt.Sprintf("the row has %d bytes, over the limit of %d bytes of the worker that it belongs to: raise --max-batch-bytes there, or send less", bytes, l.bytes)}
	case l.bytes > 0 && bytes > l.bytes:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeBatchTooLarge,
			Reason: fmt.Sprintf("the batch has %d bytes, and no worker takes more than %d bytes: raise --max-batch-bytes of the workers and submit the same batch again, or split it", bytes, l.bytes)}
	case l.rows > 0 && rows > l.rows:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeTooManyRows,
			Reason: fmt.Sprintf("the batch has %d rows, and no worker takes more than %d rows: raise --max-batch-rows of the workers and submit the same batch again, or split it", rows, l.rows)}
	}
	return nil
}

// refuse ends the rows of a part that the worker does not accept, as if the worker had answered, and gives back the credit that the
// scheduler has spent for the part.
func (s *sessionWriter) refuse(p *scheduler.Part, sub *submission, o batch.RowOutcome) {
	m := &pb.Result{Part: p.Number, Last: true}
	outcomes := make([]batch.RowOutcome, p.Len())
	bytes := int64(0)
	for i := range outcomes {
		row := p.Row(uint32(i))
		data := sub.columns.Row(int(row))
		bytes += int64(len(data))
		outcomes[i] = o
		outcomes[i].Row = uint32(i)
		if sub.redrive {
			outcomes[i].Outcome = batch.Failed // the letter stays as it is
		} else if o.Outcome == batch.Dead && sub.keepsDead {
			m.Dead = append(m.Dead, &pb.DeadRow{
				Row: uint32(i), Code: pb.Code(o.Code), Reason: o.Reason, Encoding: sub.columns.Encoding, Data: slices.Clone(data),
			})
		}
	}
	m.NotDone = wire.FromRowOutcomes(outcomes)
	ctx, worker := s.stream.Context(), s.peer.worker.ID
	s.peer.loop.post(ctx, scheduler.Answered{Worker: worker, Part: p.Number, NotDone: outcomes, Last: true, Result: &result{Result: m}})
	s.peer.loop.post(ctx, scheduler.Credited{Worker: worker, Flow: p.Batch.Flow, Rows: int64(len(outcomes)), Bytes: bytes})
}

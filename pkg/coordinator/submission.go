package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// submission is one batch under way: what the scheduler holds of it, its rows, and where its answers go.
type submission struct {
	scheduler.Batch
	id      batch.ID
	floor   uint64
	born    time.Time // when its producer first submitted it, by this process's clock
	output  bool
	columns batch.Columns
	// lent is what the rows' bytes lie in: nobody looks at them once users is 0. The answers are one user, and each part that
	// is to be sent is one.
	lent     *wire.Lent
	users    atomic.Int32
	revision *flowstate.Revision
	letters  *letterKeeper
	// keeps: dead rows are kept as letters. reportOnly: the client wants them to be reported only.
	keepsDead, reportOnly bool
	redrive               bool // it is a dead letter's row, run again
	// piece is about how many bytes of rows go into one answer; 0: wire.SplitBytes. longest is how many bytes one row of output may
	// have there; 0: as many as workers send.
	answerPiece, maxOutputRow int
	// start is the function that the rows enter first, startUse which of its places; "": the flow's first one.
	start    string
	startUse uint32
	// endings take what the scheduler decides; its taker turns each into an answer.
	endings *queue[ending]
	spent   size                        // of its stream's window
	answers *heldAnswers                // counts them until the client took them; nil: nobody does
	streams bool                        // its client takes them one by one; false: when the batch has ended
	span    *batchSpan                  // nil where nobody traces
	shed    atomic.Bool                 // output is not held any more
	omitted atomic.Pointer[batch.Error] // why output is not all there; nil: it is

	// Owned by the taker of endings.
	ended   []batch.RowOutcome // Ended, with whether they are kept
	counted bool               // ended was decided about
	begun   bool               // ended was told
}

// ending is how some of a submission's rows ended: part and result where a worker said so, else rows with one outcome for all.
type ending struct {
	submission *submission
	part       *scheduler.Part
	result     *result
	only       bitset.Set
	rows       []uint32
	outcome    batch.Outcome
	code       batch.Code
	failed     []batch.RowOutcome // rows, with whether they are kept
	refused    error              // the whole batch, before any row ran
	last       bool
	bytes      int64 // that count as untaken
}

func submissionOf(b *scheduler.Batch) *submission {
	return b.Owner.(*submission) //nolint:forcetypeassert // every batch is newSubmission's
}

// hold adds a user of the rows' bytes. It takes one, who need not be the caller.
func (s *submission) hold() { s.users.Add(1) }

// letGo ends a use. Who never does leaves the bytes to the garbage collector.
func (s *submission) letGo() {
	if s.users.Add(-1) == 0 && s.lent != nil {
		s.lent.Release()
	}
}

func (s *submission) put(e ending) {
	e.submission = s
	s.leaveOut(e.result)
	if !s.streams {
		e.result.taken() // else its worker would wait for rows behind it, and the answer for these
	}
	if s.answers != nil {
		e.bytes = e.result.size()
		s.answers.hold(e.bytes, e.result.waits())
	}
	if !s.endings.put(e) {
		e.result.taken()
	}
}

// shedOutput lets go of the output that is still to come, and of what is on its way out.
func (s *submission) shedOutput() { s.shed.Store(true) }

// leaveOut takes the output out of a result, where the batch's is not held any more.
func (s *submission) leaveOut(r *result) {
	if r != nil && s.shed.Load() && len(r.GetOutput().GetOrigins()) > 0 {
		r.Output = nil
		r.taken()
		s.omit(refuse.Shed())
	}
}

// omit notes why output is not all there. The first reason counts.
func (s *submission) omit(why *batch.Error) {
	if s.output {
		s.omitted.CompareAndSwap(nil, why)
	}
}

// newSubmission checks a batch from outside and makes it ready for the scheduler. Rows that can't run have their outcome
// already; an error means that the whole batch is refused.
func newSubmission(r *flowstate.Revision, limits batch.Limits, flow string, stream batch.StreamID, in *pb.Submission, now time.Time) (*submission, error) {
	if in.GetSequence() == 0 {
		return nil, batch.Errorf(batch.CodeBadBatchID, "the batch has no sequence: count a stream's batches from 1")
	}
	s := &submission{
		id: batch.ID{Stream: stream, Sequence: in.GetSequence()}, floor: in.GetFloor(), output: in.GetOutput(), revision: r,
		born: now.Add(-wire.Duration(in.GetAgeMilliseconds())), columns: wire.ToColumns(in.GetRows()),
	}
	s.users.Store(1)
	if err := s.columns.Check(limits); err != nil {
		return nil, err
	}
	s.Batch = scheduler.Batch{Flow: flow, Revision: r.Number, Digest: r.Digest, Ends: s.columns.Ends, Owner: s}
	if ms := in.GetDeadlineMilliseconds(); ms > 0 {
		s.Deadline = now.Add(wire.Duration(ms))
	}
	if err := s.fillKeys(in.GetShardKey()); err != nil {
		return nil, err
	}
	s.endTooLarge(limits)
	s.Keys = s.columns.Keys
	return s, nil
}

// fillKeys sees to it that each row has the hash of its shard key, if its flow has one. hashed names the field that the
// client hashed; empty where its producer brought keys of its own.
func (s *submission) fillKeys(hashed string) error {
	field := s.revision.ShardKey
	c := &s.columns
	if field == "" {
		c.Keys = nil
		return nil
	}
	if len(c.Keys) > 0 && (hashed == "" || hashed == field) {
		return nil
	}
	if c.Encoding != "" && c.Encoding != batch.JSON {
		return batch.Errorf(batch.CodeMissingKeys, "flow %s is sharded by %s, and the rows are encoded as %q, which only the client can read: "+
			"send the hash of each row's shard key with them", s.Flow, field, c.Encoding)
	}
	c.Keys = nil
	s.Ended = s.revision.Keys.Fill(c)
	return nil
}

// endTooLarge gives rows over the limit their outcome.
func (s *submission) endTooLarge(limits batch.Limits) {
	if len(s.columns.Data) <= limits.RowBytes {
		return
	}
	limit := uint32(limits.RowBytes)
	size := func(row uint32) uint32 { return s.columns.Ends[row] - s.columns.Start(int(row)) }
	s.Ended = slices.DeleteFunc(s.Ended, func(o batch.RowOutcome) bool { return size(o.Row) > limit })
	for row := range uint32(s.columns.Len()) {
		if size(row) > limit {
			s.Ended = append(s.Ended, batch.RowOutcome{
				Row: row, Outcome: batch.Dead, Code: batch.CodeRowTooLarge,
				Reason: fmt.Sprintf("the row has %d bytes, over the limit of %d bytes", size(row), limit),
			})
		}
	}
	slices.SortFunc(s.Ended, func(a, b batch.RowOutcome) int { return cmp.Compare(a.Row, b.Row) })
}

// answer turns an ending into the messages that tell it: none where there is nothing to tell yet, several where one would be
// large.
func (s *submission) answer(e ending) []*pb.Answer {
	var all []*pb.Answer
	if !s.begun {
		s.begun = true
		if s.ended == nil {
			s.ended = s.Ended
		}
		all = s.tell(all, s.ended)
	}
	switch {
	case e.refused != nil:
		all = append(all, s.message(&pb.Answer{Refused: wire.FromError(e.refused)}))
	case e.part != nil:
		all = s.translate(all, e)
	case len(e.rows) > 0:
		if e.failed == nil {
			e.failed = s.outcomes(&e)
		}
		all = s.tell(all, e.failed)
	}
	if e.last {
		s.span.end(e.refused)
		if len(all) == 0 {
			all = append(all, s.message(&pb.Answer{}))
		}
		all[len(all)-1].Last = true
		if why := s.omitted.Load(); why != nil {
			all[len(all)-1].OutputOmitted = wire.FromError(why)
		}
	}
	return all
}

// outcomes are those of the rows that the scheduler ended.
func (s *submission) outcomes(e *ending) []batch.RowOutcome {
	all := make([]batch.RowOutcome, len(e.rows))
	reason := failure(e.code, s.Flow)
	for i, row := range e.rows {
		all[i] = batch.RowOutcome{Row: row, Outcome: e.outcome, Code: e.code, Reason: reason}
	}
	return all
}

func (s *submission) message(a *pb.Answer) *pb.Answer {
	a.Sequence, a.Revision, a.Digest = s.id.Sequence, s.Revision, wire.FromDigest(s.Digest)
	return a
}

// tell adds answers that say how rows ended.
func (s *submission) tell(all []*pb.Answer, ended []batch.RowOutcome) []*pb.Answer {
	for some := range wire.SplitRowOutcomes(ended, s.pieceBytes()) {
		rows := make([]uint32, len(some))
		for i := range some {
			rows[i] = some[i].Row
		}
		all = append(all, s.message(&pb.Answer{Finished: wire.FromRanges(ranges.Of(rows)), NotDone: wire.FromRowOutcomes(some)}))
	}
	return all
}

// translate takes a worker's result over, from places in the part to places in the batch. The worker has split what is large,
// except for the output of one row.
func (s *submission) translate(all []*pb.Answer, e ending) []*pb.Answer {
	p := e.part
	r := e.result
	n, counts := uint32(p.Len()), e.counts
	a := s.message(&pb.Answer{})
	for _, o := range r.GetNotDone() {
		if counts(o.GetRow()) {
			o.Row = p.Row(o.GetRow())
			a.NotDone = append(a.NotDone, o)
		}
	}
	if len(r.GetFinished()) > 0 {
		var rows []uint32
		for _, f := range r.GetFinished() {
			for i := f.GetFirst(); i < min(f.GetFirst()+f.GetCount(), n); i++ {
				if counts(i) {
					rows = append(rows, p.Row(i))
				}
			}
		}
		a.Finished = wire.FromRanges(ranges.Of(rows))
	}
	if s.output && len(r.GetOutput().GetOrigins()) > 0 {
		a.Output = translateOutput(r.GetOutput(), p, counts)
		s.endTooLong(a)
	}
	// A large output goes ahead of what ends its rows.
	if o := a.GetOutput(); len(o.GetRows().GetData()) > s.pieceBytes() {
		a.Output = nil
		for piece := range wire.SplitOutput(batch.Output{Rows: wire.ToColumns(o.GetRows()), Origins: o.GetOrigins()}, s.pieceBytes()) {
			all = append(all, s.message(&pb.Answer{Output: wire.FromOutput(piece)}))
		}
	}
	if len(a.GetFinished()) == 0 && len(a.GetNotDone()) == 0 && a.GetOutput() == nil {
		return all
	}
	return append(all, a)
}

// translateOutput keeps the output of rows that count. What is right as it came is not copied.
func translateOutput(o *pb.Output, p *scheduler.Part, counts func(row uint32) bool) *pb.Output {
	out := o
	if stray := func(origin uint32) bool { return origin != batch.WholeBatch && !counts(origin) }; slices.ContainsFunc(o.GetOrigins(), stray) {
		var keep, origins []uint32
		for i, origin := range o.GetOrigins() {
			if !stray(origin) {
				keep, origins = append(keep, uint32(i)), append(origins, origin)
			}
		}
		if len(keep) == 0 {
			return nil
		}
		c := wire.ToColumns(o.GetRows())
		out = &pb.Output{Rows: wire.FromColumns(c.Select(keep)), Origins: origins}
	}
	if p.Rows == nil {
		return out
	}
	for i, origin := range out.GetOrigins() {
		if origin != batch.WholeBatch {
			out.Origins[i] = p.Row(origin)
		}
	}
	return out
}

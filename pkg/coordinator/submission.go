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

// submission is one batch in this process, from its arrival to its last answer: the scheduler's part of it, its rows, and where its answers
// go. Fields are set before the batch is handed to the scheduler and do not change afterwards, except where a comment says otherwise.
type submission struct {
	scheduler.Batch // the part of it that the scheduler knows
	id              batch.ID
	floor           uint64    // the lowest sequence of the stream that is unanswered or failed
	born            time.Time // when the client first submitted the batch, by this process's clock
	output          bool      // the client wants the rows that the flow passes on
	columns         batch.Columns
	// lent is the memory that the rows' bytes lie in. users counts who may still look at it: the answers are one user, and each part that
	// waits to be sent is one. At 0 the memory is used again.
	lent     *wire.Lent
	users    atomic.Int32
	revision *flowstate.Revision // on which the rows run
	letters  *letterKeeper
	// keepsDead says that dead rows are kept as dead letters. reportOnly says that the client wants them to be reported only.
	keepsDead, reportOnly bool
	redrive               bool // the batch is a dead letter's row, which runs again
	// answerPiece is about how many bytes of rows go into one answer; 0 means wire.SplitBytes. maxOutputRow is the most bytes of one row of
	// output that the client accepts; 0 means that it accepts any row that a worker sends.
	answerPiece, maxOutputRow int
	// start is the function that the rows enter first; empty means the flow's first one. startUse says which of its places in the flow is
	// meant, counted from 0.
	start    string
	startUse uint32
	// endings gets the outcomes of rows from the scheduler. A goroutine of the call takes the endings and turns each into answers.
	endings       *queue[ending]
	spent         size                        // the part of its stream's window that the batch has used
	answers       *heldAnswers                // counts answers until the client has read them; nil means that nobody counts them
	streamed      bool                        // the client gets answers one by one; false means all at once, when the batch has ended
	span          *batchSpan                  // nil means that nobody traces
	outputDropped atomic.Bool                 // the output is no longer kept; set by any goroutine
	omitted       atomic.Pointer[batch.Error] // why output is missing; nil means that all of it is there; set by any goroutine

	// Only the goroutine that takes endings uses these.
	ownOutcomes []batch.RowOutcome // the outcomes in Ended, with whether dead rows are kept
	ownDecided  bool               // it is decided whether the dead rows in Ended are kept
	ownTold     bool               // the outcomes in Ended are in an answer already
}

// ending says how some rows of a submission ended. A worker's result comes with its part. Rows that the scheduler ended have one outcome
// for all of them. The last ending of a batch has last set and may have no rows.
type ending struct {
	submission *submission
	part       *scheduler.Part    // nil where the scheduler ended the rows
	result     *result            // the worker's result for rows of part
	only       bitset.Set         // the rows of part for which the result counts; nil means all of them
	rows       []uint32           // the rows that the scheduler ended, by number in the batch
	outcome    batch.Outcome      // of rows
	code       batch.Code         // why rows have that outcome
	failed     []batch.RowOutcome // the outcomes of rows, with whether dead rows are kept; nil until that is decided
	refused    error              // the whole batch was refused before any row ran
	last       bool               // every row of the batch has its outcome now
	bytes      int64              // how many bytes count as held for the client
}

// submissionOf returns the submission whose batch the scheduler names.
func submissionOf(b *scheduler.Batch) *submission {
	return b.Owner.(*submission) //nolint:forcetypeassert // every batch is newSubmission's
}

// retain adds a user of the rows' memory, on behalf of the goroutine that will call release.
func (s *submission) retain() { s.users.Add(1) }

// release ends a use of the rows' memory. A use that is never ended leaves the memory to the garbage collector.
func (s *submission) release() {
	if s.users.Add(-1) == 0 && s.lent != nil {
		s.lent.Release()
	}
}

// put queues an ending for the goroutine that answers the client, and counts its bytes as held for the client. It does not block.
func (s *submission) put(e ending) {
	e.submission = s
	s.stripDropped(e.result)
	if !s.streamed {
		e.result.taken() // otherwise the worker would wait for rows that come after this result, while the client waits for all rows
	}
	if s.answers != nil {
		e.bytes = e.result.size()
		s.answers.hold(e.bytes, e.result.waits())
	}
	if !s.endings.put(e) {
		e.result.taken()
	}
}

// dropOutput has the batch's output dropped: the output that is still to come, and the output in answers that are not sent yet.
func (s *submission) dropOutput() { s.outputDropped.Store(true) }

// stripDropped takes the output out of a result, if the batch's output is dropped.
func (s *submission) stripDropped(r *result) {
	if r != nil && s.outputDropped.Load() && len(r.GetOutput().GetOrigins()) > 0 {
		r.Output = nil
		r.taken()
		s.noteOmitted(refuse.Shed())
	}
}

// noteOmitted notes why output is missing. If it is called again, the first reason stays.
func (s *submission) noteOmitted(why *batch.Error) {
	if s.output {
		s.omitted.CompareAndSwap(nil, why)
	}
}

// newSubmission checks a batch that a client sent and makes it ready for the scheduler. Rows that can't run get their outcome at once. An
// error means that the whole batch is refused.
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

// fillKeys makes sure that each row has the hash of its shard key, if its flow has one. hashed names the field that the client has hashed.
// It is empty where the producer gave keys of its own.
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

// endTooLarge ends rows that are over the limit: they are dead with ROW_TOO_LARGE.
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

// answer turns an ending into answers: none while there is nothing to say, several where one would be too large.
func (s *submission) answer(e ending) []*pb.Answer {
	var all []*pb.Answer
	if !s.ownTold {
		s.ownTold = true
		if s.ownOutcomes == nil {
			s.ownOutcomes = s.Ended
		}
		all = s.addOutcomes(all, s.ownOutcomes)
	}
	switch {
	case e.refused != nil:
		all = append(all, s.message(&pb.Answer{Refused: wire.FromError(e.refused)}))
	case e.part != nil:
		all = s.addResult(all, e)
	case len(e.rows) > 0:
		if e.failed == nil {
			e.failed = s.outcomesOf(&e)
		}
		all = s.addOutcomes(all, e.failed)
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

// outcomesOf lists the outcomes of the rows in an ending that the scheduler has decided, with the reason that clients read.
func (s *submission) outcomesOf(e *ending) []batch.RowOutcome {
	all := make([]batch.RowOutcome, len(e.rows))
	reason := failure(e.code, s.Flow)
	for i, row := range e.rows {
		all[i] = batch.RowOutcome{Row: row, Outcome: e.outcome, Code: e.code, Reason: reason}
	}
	return all
}

// message fills in the batch and the revision that an answer is about, and returns the answer.
func (s *submission) message(a *pb.Answer) *pb.Answer {
	a.Sequence, a.Revision, a.Digest = s.id.Sequence, s.Revision, wire.FromDigest(s.Digest)
	return a
}

// addOutcomes adds answers with the outcomes of rows.
func (s *submission) addOutcomes(all []*pb.Answer, ended []batch.RowOutcome) []*pb.Answer {
	for some := range wire.SplitRowOutcomes(ended, s.pieceBytes()) {
		rows := make([]uint32, len(some))
		for i := range some {
			rows[i] = some[i].Row
		}
		all = append(all, s.message(&pb.Answer{Finished: wire.FromRanges(ranges.Of(rows)), NotDone: wire.FromRowOutcomes(some)}))
	}
	return all
}

// addResult adds answers with a worker's result. It translates row numbers in the part to row numbers in the batch. The worker has split
// large results already, except for the output of a single row.
func (s *submission) addResult(all []*pb.Answer, e ending) []*pb.Answer {
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
	// A large output goes ahead of the outcomes of its rows, in answers of its own.
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

// translateOutput keeps the output of rows that count, with row numbers of the batch. Output that needs no change is not copied.
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

// fitAnswersTo sets the sizes of answers to a client that accepts messages of so many bytes.
func (s *submission) fitAnswersTo(takes int, limits batch.Limits) {
	s.answerPiece = min(wire.SplitBytes, takes/2)
	if longest := answerLimit(takes); longest < limits.BatchBytes {
		s.maxOutputRow = longest
	}
}

// pieceBytes returns about how many bytes of rows go into one answer to this batch's client.
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

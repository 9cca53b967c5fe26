package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// submission is one batch in this process, from its arrival to its last answer: what the scheduler knows of it, its rows, and where its
// answers go. Fields are set before the batch is handed to the scheduler and do not change afterwards, except where a comment says
// otherwise.
type submission struct {
	scheduler.Batch // what the scheduler knows of the batch
	id              batch.ID
	floor           uint64             // the lowest sequence of the batch's stream that is unanswered or failed, as the client says
	failed          *behindfailed.Rows // gets the failed rows of a batch whose rows stand in a log
	log             *batch.Positions   // the log in which the rows stand, with the positions of columns; nil means in none
	born            time.Time          // when the client first submitted the batch, by this process's clock
	output          bool               // the client wants the rows that the flow passes on
	columns         batch.Columns
	// lent is the memory that the rows' bytes lie in. users is the number of its users: the answers are one user, and each part that waits
	// to be sent is one. When it falls to 0 the memory goes back to its pool.
	lent     *wire.Lent
	users    atomic.Int32
	revision *flowstate.Revision // the revision on which the rows run; nil for a batch that was refused
	letters  *letterKeeper
	// keepsDead says that dead rows are kept as dead letters. reportOnly says that the client wants them to be reported only.
	keepsDead, reportOnly bool
	// first says that the batch was never sent to a coordinator before, so that no row of it can have been kept as a dead letter.
	first   bool
	redrive bool // the batch is a dead letter's row, which runs again
	// origin says where the rows come from, for their dead letters; nil means that the client did not say.
	origin *pb.Origin
	// answerPiece is the number of bytes of rows, about, that go into one answer; 0 means wire.SplitBytes. maxOutputRow is the most bytes
	// of one row of output that the client accepts; 0 means that it accepts any row that a worker sends.
	answerPiece, maxOutputRow int
	// start is the function that the rows enter first; empty means the flow's first function. A function may stand in the flow several
	// times; startUse says which of these places is meant, counted from 0.
	start    string
	startUse uint32
	// endings gets the outcomes of rows from the scheduler. A goroutine of the call takes the endings and turns each into answers.
	endings       *queue[ending]
	spent         size                        // how much credit of its stream's window the batch has used
	answers       *heldAnswers                // counts the bytes of answers until the client has read them; nil means that they are not counted
	streamed      bool                        // the client gets answers one by one; false means all at once, when the batch has ended
	tellFinished  bool                        // answers list every row that has ended
	took          prometheus.Observer         // gets the time that the batch took; nil means that it is not measured
	span          *batchSpan                  // nil means that tracing is off
	outputDropped atomic.Bool                 // output is dropped when it comes; set by any goroutine
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
	only       bitset.Set         // the places in part of the rows for which the result counts; nil means all rows
	rows       []uint32           // the rows that the scheduler ended, by number in the batch
	outcome    batch.Outcome      // the outcome of each row in rows
	code       batch.Code         // why the rows in rows have that outcome
	failed     []batch.RowOutcome // the outcomes of rows, with whether dead rows are kept; nil until that is decided
	refused    error              // the whole batch was refused before any row ran
	last       bool               // every row of the batch has its outcome now
	bytes      int64              // number of bytes that heldAnswers counts for this ending
}

// submissionOf returns the submission that a batch of the scheduler belongs to.
func submissionOf(b *scheduler.Batch) *submission {
	return b.Owner.(*submission) //nolint:forcetypeassert // every batch is newSubmission's
}

// retain adds a user of the rows' memory. The new user must call release when it does not need the memory any more.
func (s *submission) retain() { s.users.Add(1) }

// release removes a user of the rows' memory. After the last one the memory goes back to its pool. If a user never calls release, the
// garbage collector frees the memory.
func (s *submission) release() {
	if s.users.Add(-1) == 0 && s.lent != nil {
		s.lent.Release()
	}
}

// put queues an ending of this submission for the goroutine that answers the client, and counts its bytes in answers. It does not block. If
// the client has left, the ending is dropped.
func (s *submission) put(e ending) {
	e.submission = s
	s.noteFailed(&e)
	if e.last && s.took != nil {
		s.took.Observe(time.Since(s.born).Seconds())
	}
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

// dropOutput makes the batch's output be dropped from now on: the output that is still to come, and the output of results that have not
// been turned into answers yet. Any goroutine may call it.
func (s *submission) dropOutput() { s.outputDropped.Store(true) }

// stripDropped removes the output from a result, and notes that output is missing, if the batch's output is dropped. r may be nil.
func (s *submission) stripDropped(r *result) {
	if r != nil && s.outputDropped.Load() && len(r.GetOutput().GetOrigins()) > 0 {
		r.Output = nil
		r.taken()
		s.noteOmitted(refuse.Shed())
	}
}

// noteOmitted notes why output of the batch is missing, if the client wants output. If it is called again, the first reason stays.
func (s *submission) noteOmitted(why *batch.Error) {
	if s.output {
		s.omitted.CompareAndSwap(nil, why)
	}
}

// newSubmission checks a batch that a client sent and makes its submission, which runs on revision r. Rows that can't run, such as rows
// that are too large, get their outcome at once, in Ended. An error means that the whole batch is refused.
func newSubmission(r *flowstate.Revision, limits batch.Limits, flow string, stream batch.StreamID, in *pb.Submission, now time.Time) (*submission, error) {
	if in.GetSequence() == 0 {
		return nil, batch.Errorf(batch.CodeBadBatchID, "the batch has no sequence: count a stream's batches from 1")
	}
	s := &submission{
		id: batch.ID{Stream: stream, Sequence: in.GetSequence()}, floor: in.GetFloor(), output: in.GetOutput(), first: in.GetFirst(), revision: r,
		born: now.Add(-wire.Duration(in.GetAgeMilliseconds())), columns: wire.ToColumns(in.GetRows()),
	}
	s.users.Store(1)
	if err := s.columns.Check(limits); err != nil {
		return nil, err
	}
	var err error
	if s.log, err = wire.ToPositions(in.GetLog(), &s.columns); err != nil {
		return nil, err
	}
	s.origin = originOf(in.GetOrigin())
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

// fillKeys makes sure that each row has the hash of its shard key, if the flow has a shard key. hashed is the field that the client has
// hashed; it is empty if the client sent no keys, or sent its own instead of a field's. Rows whose key can't be read get their outcome, in
// Ended. fillKeys fails if the rows have to be read and are not JSON.
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

// endTooLarge ends the rows that have more bytes than a row may have: they are dead with ROW_TOO_LARGE, in Ended.
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

// answer turns an ending into the answers to send to the client: none if there is nothing to tell, several if one would be too large. The
// first answers also have the outcomes in Ended; the last answer for the batch has Last set.
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

// outcomesOf returns the outcomes of the rows in e.rows, which the scheduler ended, with the reason that clients read.
func (s *submission) outcomesOf(e *ending) []batch.RowOutcome {
	all := make([]batch.RowOutcome, len(e.rows))
	reason := failure(e.code, s.Flow)
	for i, row := range e.rows {
		all[i] = batch.RowOutcome{Row: row, Outcome: e.outcome, Code: e.code, Reason: reason}
	}
	return all
}

// message fills in a's fields for the batch's sequence and revision, and returns a.
func (s *submission) message(a *pb.Answer) *pb.Answer {
	a.Sequence, a.Revision, a.Digest = s.id.Sequence, s.Revision, wire.FromDigest(s.Digest)
	return a
}

// addOutcomes appends to all the answers that tell the outcomes of rows, and returns the result.
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

// addResult appends to all the answers that pass on an ending's result of a worker, and returns the result. It translates row numbers in
// the part to row numbers in the batch, and leaves out rows for which the result does not count. The worker has split large results
// already, except for the output of a single row.
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
	switch {
	case s.tellFinished && r.GetLast():
		a.Finished = wire.FromRanges(ranges.Of(endedByLast(r, p, counts)))
	case len(r.GetFinished()) > 0:
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

// endedByLast returns the rows of a part that have ended by the part's last result, by number in the batch, without those for which counts
// returns false. Some may have ended by an earlier result.
func endedByLast(r *result, p *scheduler.Part, counts func(row uint32) bool) (rows []uint32) {
	returned := bitset.New(p.Len())
	for _, back := range r.GetReturned() {
		for i := back.GetFirst(); i < min(back.GetFirst()+back.GetCount(), uint32(p.Len())); i++ {
			returned.Add(i)
		}
	}
	for i := range uint32(p.Len()) {
		if counts(i) && !returned.Has(i) {
			rows = append(rows, p.Row(i))
		}
	}
	return rows
}

// translateOutput returns the output of the rows for which counts returns true, with row numbers in the batch instead of the part; nil
// means that there is none. It may change o, and shares its memory where it can.
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

// fitAnswersTo sets how large answers and rows of output may be for a client that accepts takes bytes in one message.
func (s *submission) fitAnswersTo(takes int, limits batch.Limits) {
	s.answerPiece = min(wire.SplitBytes, takes/2)
	if longest := answerLimit(takes); longest < limits.BatchBytes {
		s.maxOutputRow = longest
	}
}

// pieceBytes returns the number of bytes of rows, about, that go into one answer to this batch's client.
func (s *submission) pieceBytes() int { return cmp.Or(s.answerPiece, wire.SplitBytes) }

// endTooLong changes an answer in which rows have output with a row that is too long for the client: these rows are dead, and their output
// is dropped. Workers do that themselves, except for those of early builds.
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

// endTooLongRow adds to an answer that the row with number origin is dead, because its output has a row of n bytes, which is too long for
// the client. If origin is batch.WholeBatch, the output belongs to no single row; then it is only noted that the batch's output is
// incomplete.
func (s *submission) endTooLongRow(a *pb.Answer, origin uint32, n int) {
	pointRowTooLong.Hit()
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

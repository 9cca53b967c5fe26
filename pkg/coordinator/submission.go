package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// submission is one batch under way: what the scheduler holds of it, its rows, and where its answers go.
type submission struct {
	scheduler.Batch
	id       batch.ID
	floor    uint64
	born     time.Time // when its producer first submitted it, by this process's clock
	output   bool
	columns  batch.Columns
	revision *revision
	// endings take what the scheduler decides; its taker turns each into an answer.
	endings *outbox[ending]

	// Owned by the taker of endings.
	begun bool // Ended was told
}

// ending is how some of a submission's rows ended: part and result where a worker said so, else rows with one outcome for all.
type ending struct {
	submission *submission
	part       *scheduler.Part
	result     any // *pb.Result
	only       scheduler.Rows
	rows       []uint32
	outcome    batch.Outcome
	code       batch.Code
	refused    error // the whole batch, before any row ran
	last       bool
}

func submissionOf(b *scheduler.Batch) *submission { return b.Owner.(*submission) }

func (s *submission) put(e ending) {
	e.submission = s
	s.endings.put(e)
}

// newSubmission checks a batch from outside and makes it ready for the scheduler. Rows that can't run have their outcome
// already; an error means that the whole batch is refused.
func newSubmission(c *catalog, limits batch.Limits, flow string, stream batch.StreamID, in *pb.Submission, now time.Time) (*submission, error) {
	if in.GetSequence() == 0 {
		return nil, batch.Errorf(batch.CodeBadBatchID, "the batch has no sequence: count a stream's batches from 1")
	}
	r, err := c.revision(flow, in.GetRevision())
	if err != nil {
		return nil, err
	}
	s := &submission{
		id: batch.ID{Stream: stream, Sequence: in.GetSequence()}, floor: in.GetFloor(), output: in.GetOutput(), revision: r,
		born: now.Add(-time.Duration(in.GetAgeMilliseconds()) * time.Millisecond), columns: wire.ToColumns(in.GetRows()),
	}
	if err := s.columns.Check(limits); err != nil {
		return nil, err
	}
	s.Batch = scheduler.Batch{Flow: flow, Revision: r.number, Ends: s.columns.Ends, Owner: s}
	if ms := in.GetDeadlineMilliseconds(); ms > 0 {
		s.Deadline = now.Add(time.Duration(ms) * time.Millisecond)
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
	field := s.revision.shardKey
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
	s.Ended = s.revision.keys.Fill(c)
	return nil
}

// endTooLarge gives rows over the limit their outcome.
func (s *submission) endTooLarge(limits batch.Limits) {
	limit := uint32(limits.RowBytes)
	if len(s.columns.Data) <= limits.RowBytes {
		return
	}
	start := uint32(0)
	for i, end := range s.columns.Ends {
		if end-start > limit {
			s.Ended = slices.DeleteFunc(s.Ended, func(o batch.RowOutcome) bool { return o.Row == uint32(i) })
			s.Ended = append(s.Ended, batch.RowOutcome{
				Row: uint32(i), Outcome: batch.Dead, Code: batch.CodeRowTooLarge,
				Reason: fmt.Sprintf("the row has %d bytes, over the limit of %d bytes", end-start, limit),
			})
		}
		start = end
	}
	slices.SortFunc(s.Ended, func(a, b batch.RowOutcome) int { return cmp.Compare(a.Row, b.Row) })
}

// answer turns an ending into the message that tells it, or nil where there is nothing to tell yet.
func (s *submission) answer(e ending) *pb.Answer {
	a := &pb.Answer{Sequence: s.id.Sequence, Revision: s.Revision, Last: e.last}
	if !s.begun {
		s.begun = true
		a.NotDone = wire.FromRowOutcomes(s.Ended)
	}
	switch {
	case e.refused != nil:
		a.Refused = wire.FromError(e.refused)
	case e.part != nil:
		s.translate(a, e)
	case len(e.rows) > 0:
		reason := failure(e.code, s.Flow)
		for _, row := range e.rows {
			a.NotDone = append(a.NotDone, &pb.RowOutcome{Row: row, Outcome: pb.Outcome(e.outcome), Code: pb.Code(e.code), Reason: reason})
		}
		a.Finished = wire.FromRanges(wire.Ranges(e.rows))
	}
	if !a.Last && len(a.Finished) == 0 && len(a.NotDone) == 0 && a.Output == nil {
		return nil
	}
	return a
}

// translate takes a worker's result over, from places in the part to places in the batch.
func (s *submission) translate(a *pb.Answer, e ending) {
	p, r := e.part, e.result.(*pb.Result)
	n := uint32(p.Len())
	counts := func(row uint32) bool { return row < n && (e.only == nil || e.only.Has(row)) }
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
		a.Finished = wire.FromRanges(wire.Ranges(rows))
	}
	if !s.output || len(r.GetOutput().GetOrigins()) == 0 {
		return
	}
	if p.Rows == nil && e.only == nil {
		a.Output = r.GetOutput()
		return
	}
	a.Output = translateOutput(r.GetOutput(), p, counts)
}

func translateOutput(o *pb.Output, p *scheduler.Part, counts func(row uint32) bool) *pb.Output {
	keep := make([]uint32, 0, len(o.GetOrigins()))
	for i, origin := range o.GetOrigins() {
		if origin == batch.WholeBatch || counts(origin) {
			keep = append(keep, uint32(i))
		}
	}
	out := o
	if len(keep) < len(o.GetOrigins()) {
		c := wire.ToColumns(o.GetRows())
		out = &pb.Output{Rows: wire.FromColumns(c.Select(keep)), Origins: make([]uint32, len(keep))}
		for i, k := range keep {
			out.Origins[i] = o.GetOrigins()[k]
		}
	}
	for i, origin := range out.GetOrigins() {
		if origin != batch.WholeBatch {
			out.Origins[i] = p.Row(origin)
		}
	}
	return out
}

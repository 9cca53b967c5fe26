package client

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// LogID names a log: an ordered sequence of rows outside of the cluster that one flow reads. Make it with LogIDOf.
type LogID = batch.LogID

// Positions say where the rows of a batch stand in a log.
type Positions = batch.Positions

// LogIDOf makes the id of the log that parts describe: such as a broker's cluster, a topic, its id, a partition, a group of readers, a
// flow, and the generation of the reading. The same parts always give the same id.
func LogIDOf(parts ...string) LogID { return batch.LogIDOf(parts...) }

// Term is the time during which one reader reads a log. It does not change.
type Term struct {
	Flow string
	Log  LogID
	// Number is higher than that of all earlier terms of the log.
	Number uint64
	// Revision is the one revision of the flow on which rows of the log run, for as long as positions are open.
	Revision batch.Revision
	// Floor is the highest floor with which a term of the log began.
	Floor uint64
}

// TermOption is an option of BeginTerm.
type TermOption func(*pb.BeginTermRequest)

// Drained says that every row of the log which was ever sent lies below the floor, or has an outcome that stays. The log then changes to
// the flow's active revision. Without it the log stays on its revision, because the effects of its rows would have other names on another
// one, and rows that are sent again would take effect twice.
func Drained() TermOption { return func(r *pb.BeginTermRequest) { r.Drained = true } }

// Resume is for a reader that keeps no position itself: the term begins with the floor of an earlier one, if that is higher than the given one.
// Term.Floor says where to start.
func Resume() TermOption { return func(r *pb.BeginTermRequest) { r.Resume = true } }

// BeginTerm makes the caller the reader of a log: it begins the log's next term. From the answer on, stores refuse what earlier readers
// send as soon as they have seen a batch of the new term. floor is the lowest position that is not settled: where the reader starts.
//
// BeginTerm blocks until a coordinator has answered or ctx is over. It does not repeat the call: another call is safe at any time, and
// gives a higher number. The error has CodeLogRewound if an earlier term began with a higher floor, CodeUnknownFlow or CodeFlowDisabled if
// the flow takes no batches, CodeRevisionGone if the history has lost the log's revision, and CodeProtocolMismatch if the coordinator is
// of a build that knows no positions.
func (c *Client) BeginTerm(ctx context.Context, flow string, log LogID, floor uint64, opts ...TermOption) (*Term, error) {
	if err := checkFlow(flow); err != nil {
		return nil, err
	}
	if err := checkContext(ctx, "BeginTerm"); err != nil {
		return nil, err
	}
	if log.IsZero() {
		return nil, batch.Errorf(batch.CodeBadPositions, "begin a term of a log without id: make the id with LogIDOf")
	}
	in := &pb.BeginTermRequest{Flow: flow, Log: log[:], Floor: floor}
	for i, option := range opts {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "option %d of BeginTerm is nil: leave it out", i+1)
		}
		option(in)
	}
	out, err := c.ingest.BeginTerm(ctx, in)
	if err != nil {
		return nil, c.unreachable(wire.FromStatus(err))
	}
	revision, err := wire.ToRevision(out.GetRevision(), out.GetDigest())
	if err != nil {
		return nil, err
	}
	return &Term{Flow: flow, Log: log, Number: out.GetTerm(), Revision: revision, Floor: out.GetFloor()}, nil
}

// Place says where the rows of a batch stand in the term's log, and ties the batch to the log's revision. It must be called before the
// first submission. floor is the lowest position that is not settled: no row below it is sent again. positions has one position for each
// row, ascending; the batch keeps the slice. The error has CodeBadPositions.
//
// A row that ends Failed is sent again, in the same batch or in a new one, together with the rows of its key behind it, which fail with
// CodeBehindFailed.
func (t *Term) Place(b *Batch, floor uint64, positions []uint64) error {
	if b == nil {
		return batch.Errorf(batch.CodeEmptyBatch, "the batch is nil: make one with Rows or Pack")
	}
	if err := b.SetPositions(Positions{Log: t.Log, Term: t.Number, Floor: floor, Rows: positions}); err != nil {
		return err
	}
	b.PinTo(t.Revision)
	return nil
}

// positioned reports whether the rows of the batch stand in a log.
func (p *Pending) positioned() bool { return p.positions != nil }

// request makes the message of a call for the batch. A batch with positions goes into a field that builds before positions do not know:
// they refuse the call, where they would run the rows without positions otherwise.
func (p *Pending) request(flow string, floor uint64, now time.Time) *pb.SubmitRequest {
	in := &pb.SubmitRequest{Flow: flow, Stream: p.id.Stream[:], TakesBytes: maxAnswerBytes}
	if p.positioned() {
		in.Positioned = p.submission(floor, now)
	} else {
		in.Submission = p.submission(floor, now)
	}
	return in
}

// errNoPositions is the error of a batch with positions whose stream has a coordinator of a build that knows none.
func errNoPositions() error {
	return batch.Errorf(batch.CodeProtocolMismatch, "the batch has positions in a log, and the coordinator's build knows none: upgrade the coordinators, and send the rows again")
}

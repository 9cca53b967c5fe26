package client

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Pending is a batch whose answer is to come. It is safe for concurrent use.
type Pending struct {
	batch    *batch.Batch  // its age and revision: guarded by Stream.mu until done is closed
	columns  batch.Columns // with keys; shared with the batch otherwise
	shardKey string        // the field that the keys hash; empty where they are not this package's
	options  submitOptions
	deadline time.Time // zero for none
	timed    bool      // the deadline is Timeout's, and before the context's
	id       batch.ID
	span     Span // nil where nobody traces

	order    uint64         // guarded by Stream.mu: its place among all that were sent on the stream
	sent     bool           // guarded by Stream.mu: it went out in the session that is under way
	revision batch.Revision // guarded by Stream.mu: the one that it named when it last went out
	first    bool           // guarded by Stream.mu: no coordinator can have taken it before that

	// Gathered by the one goroutine that reads answers; constant once done is closed, and arranged is done.
	result   *batch.Result
	outputs  []batch.Output
	lent     []*wire.Lent // what outputs lie in
	bytes    int          // of outputs
	omitted  error        // why there is no output; nil: it is what there is
	err      error        // set before done is closed
	done     chan struct{}
	arranged sync.Once
}

// newPending checks what can be checked of a batch without the cluster. life bounds the batch: Submit's context, or the stream's.
func newPending(life context.Context, b *batch.Batch, limits batch.Limits, opts []SubmitOption) (*Pending, error) {
	if b == nil {
		return nil, batch.Errorf(batch.CodeEmptyBatch, "the batch is nil: make one with Rows or Pack")
	}
	columns, err := b.Columns()
	if err != nil {
		return nil, batch.Errorf(batch.CodeRowUnencodable, "the batch can't be submitted: %w", err)
	}
	if err := columns.Check(limits); err != nil {
		return nil, err
	}
	p := &Pending{batch: b, columns: columns, done: make(chan struct{})}
	for i, option := range opts {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "option %d of the batch is nil: leave it out", i+1)
		}
		option(&p.options)
	}
	p.deadline, _ = life.Deadline()
	if t := p.options.timeout; t > 0 {
		if end := time.Now().Add(t); p.deadline.IsZero() || end.Before(p.deadline) {
			p.deadline, p.timed = end, true
		}
	}
	return p, nil
}

// unlimited is for batches whose coordinator has not told its limits: columns that no coordinator takes are wrong all the same.
var unlimited = batch.Limits{BatchBytes: math.MaxUint32, BatchRows: math.MaxInt32}

// late reports whether the batch's Timeout is over by then. The rows of such a batch are not to run any more: a deadline is a
// moment, and a batch that is sent later would be given time anew.
func (p *Pending) late(then time.Time) bool { return p.timed && !then.Before(p.deadline) }

// errLate is the error of a batch that is not sent because it is late, after the error of the last try, nil for none.
func (p *Pending) errLate(err error) error {
	if err == nil {
		return batch.Errorf(batch.CodeDeadline, "its Timeout of %s was over before the batch could be sent: give it more time", p.options.timeout)
	}
	return batch.Errorf(batch.CodeDeadline, "its Timeout of %s is over before the batch can be sent again: give it more time: %w", p.options.timeout, err)
}

// fillKeys hashes the rows' shard keys, where the producer has not. If a row has none, the coordinator is left to find out
// which, and to give it its outcome.
func (p *Pending) fillKeys(key *batch.KeyField, shardKey string) {
	if len(p.columns.Keys) != 0 || p.columns.Encoding != "" && p.columns.Encoding != batch.JSON {
		return
	}
	if bad := key.Fill(&p.columns); len(bad) > 0 {
		p.columns.Keys = nil
		return
	}
	p.shardKey = shardKey
}

// Batch is the batch that was sent. It may be sent again once the Pending is done.
func (p *Pending) Batch() *Batch { return p.batch }

// Done is closed when Wait will not block any more.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait blocks until the batch is answered or ctx is over; in the latter case the batch goes on, and Wait may be called again.
// An error that matches ErrUnanswered, as ctx's does, leaves open whether the batch took effect; any other means that nothing of
// it ever ran. One error comes beside a result, which is complete but for its output: CodeBatchTooLarge, where that is more than
// the coordinator has memory for, or than the client takes. The rows need not run again.
func (p *Pending) Wait(ctx context.Context) (*Result, error) {
	if err := given(ctx, "Wait"); err != nil {
		return nil, p.batch.Judge(err)
	}
	select {
	case <-p.done:
	default:
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, p.batch.Judge(ended(ctx, "the batch is still under way, wait again"))
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	p.arranged.Do(p.arrange) // here, so that many waiters share the work that one reader would have
	return p.result, p.omitted
}

// arrange puts the result into the batch's order.
func (p *Pending) arrange() {
	if p.omitted != nil {
		p.outputs = nil // part of it would look like all of it
	}
	p.result.Output = batch.Merge(p.outputs)
	if len(p.outputs) > 1 { // and so copied
		for _, l := range p.lent {
			l.Release()
		}
	}
	p.outputs, p.lent = nil, nil
	p.result.Sort()
}

// begin makes an empty result: answers of an earlier try don't count, the batch is answered anew. A batch that may have been
// taken before names the same revision again; a new one that which is active now.
func (p *Pending) begin(active batch.Revision) {
	p.sent = true
	p.traceSent()
	p.revision, p.first = p.batch.Pinned(), false
	if p.revision.Number == 0 {
		p.revision, p.first = active, true
	}
	p.omitted = nil
	p.result, p.outputs, p.lent, p.bytes = &batch.Result{BatchID: p.id, Rows: p.columns.Len()}, nil, nil, 0
}

// pin has the batch run on the revision that it named, whenever it is sent again: nobody knows whether it was taken.
func (p *Pending) pin() { p.batch.PinTo(p.revision) }

// submission is the message that sends the batch, columns uncopied.
func (p *Pending) submission(floor uint64, now time.Time) *pb.Submission {
	m := &pb.Submission{
		Sequence:        p.id.Sequence,
		Floor:           floor,
		Revision:        p.revision.Number,
		Digest:          wire.FromDigest(p.revision.Digest),
		First:           p.first,
		Output:          !p.options.noOutput,
		AgeMilliseconds: uint64(p.batch.Age(now) / time.Millisecond),
		ReportOnly:      p.options.reportOnly,
		Rows:            wire.FromColumns(p.columns),
		ShardKey:        p.shardKey,
		TraceParent:     p.traceParent(),
	}
	if !p.deadline.IsZero() {
		// Zero would mean none.
		m.DeadlineMilliseconds = uint64(max(1, p.deadline.Sub(now)/time.Millisecond))
	}
	return m
}

// add merges an answer's rows, which may be lent, into the result; they are put in order when all are there. The error is CodeBadMessage.
func (p *Pending) add(a *pb.Answer, lent *wire.Lent) error {
	notDone, err := wire.ToRowOutcomes(a.GetNotDone(), p.result.Rows)
	if err != nil {
		return err
	}
	output, err := wire.ToOutput(a.GetOutput(), p.result.Rows)
	if err != nil {
		return err
	}
	r := p.result
	r.Revision = a.GetRevision()
	if r.NotDone == nil {
		r.NotDone = notDone
	} else {
		r.NotDone = append(r.NotDone, notDone...)
	}
	if p.omitted == nil {
		p.omitted = wire.ToError(a.GetOutputOmitted())
	}
	if p.bytes += len(output.Rows.Data); p.bytes > math.MaxUint32 {
		return batch.Errorf(batch.CodeBadMessage, "the output is over 4 GiB: submit the same batch again with NoOutput")
	}
	if output.Rows.Len() > 0 {
		p.outputs = append(p.outputs, output)
		if lent != nil {
			p.lent = append(p.lent, lent)
		}
	}
	return nil
}

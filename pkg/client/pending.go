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

// Pending is a batch on its way, and then its result. It is safe for concurrent use. The states of a batch, as the client sees it:
//
//	        window has room           credit                    last answer
//	Send ───────────────────► outbox ────────► sent, in a session ───────────► done: a result
//	 │                         │  ▲               │        │
//	 │ ctx, Timeout            │  └───────────────┘        │ refused, or the
//	 ▼                         │    session ends: it       │ answer can't be read
//	an error of Send,          │    keeps its id, and      ▼
//	nothing was sent           │    names its revision    done: an error
//	                           │
//	                           │ Timeout, or no coordinator for WithRetryFor, or the stream ends
//	                           ▼
//	                          done: an error, which matches ErrUnanswered if the batch was ever sent
//
// Submit uses a Pending, too: there each try is a call, and "outbox" is the pause between tries. A Batch whose Pending is done with an error
// or with failed rows may be submitted again, in a new Pending, until it is given up or too old: see producer.
type Pending struct {
	batch     *batch.Batch     // Stream.mu guards its age and revision until done is closed
	columns   batch.Columns    // those of the batch, and keys that fillKeys has added
	positions *batch.Positions // where the rows stand in a log; nil means in none
	shardKey  string           // the field that those keys hash; empty if fillKeys added none
	options   submitOptions
	deadline  time.Time // zero means none
	timed     bool      // the deadline comes from Timeout, and is earlier than the context's
	id        batch.ID
	span      Span // nil means no span

	// Stream.mu guards the next four fields.
	order    uint64         // the number of the batch's Send within its stream
	sent     bool           // the batch was sent in the present session
	revision batch.Revision // the revision that the batch named when it was last sent
	first    bool           // no coordinator can have taken the batch before it was last sent

	// One goroutine at a time writes the next fields: the one that reads answers, or the one that ends the batch. They are constant once done
	// is closed; arrange then changes result once more.
	result   *batch.Result
	outputs  []batch.Output // the outputs of the answers, until arrange merges them
	lent     []*wire.Lent   // the memory that outputs lie in
	bytes    int            // the size of outputs
	omitted  error          // why the result has no output; nil means that nothing was left out
	err      error          // why there is no result
	done     chan struct{}  // closed at the end
	arranged sync.Once      // arrange has run
}

// newPending checks a batch against limits and applies its options; it does not ask the cluster. life is the context of Submit, or of the
// stream: its deadline is also that of the batch.
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
	p := &Pending{batch: b, columns: columns, positions: b.Positions(), done: make(chan struct{})}
	p.columns.Positions = nil
	if p.positioned() {
		p.columns.Positions = p.positions.Rows
	}
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

// unlimited are the limits with which Submit checks a batch, because a call does not know those of its coordinator. They refuse only
// batches that no message can carry.
var unlimited = batch.Limits{BatchBytes: math.MaxUint32, BatchRows: math.MaxInt32}

// late reports whether the batch's Timeout is over at the time then. It is false if the deadline of the context is earlier than the
// Timeout: then the context ends the batch. A late batch must not be sent: messages carry the time that is left, so its rows would get new
// time.
func (p *Pending) late(then time.Time) bool { return p.timed && !then.Before(p.deadline) }

// errLate is the error of a batch that is not sent because it is late. err is the error of its last try; nil means that there was none.
func (p *Pending) errLate(err error) error {
	if err == nil {
		return batch.Errorf(batch.CodeDeadline, "the batch's Timeout of %s was over before it could be sent: set a longer one", p.options.timeout)
	}
	return batch.Errorf(batch.CodeDeadline, "the batch's Timeout of %s is over before it can be sent again: set a longer one: %w", p.options.timeout, err)
}

// fillKeys hashes the shard key of each row, unless the program has passed keys or the rows are not JSON. key reads the shard key of a row,
// and shardKey is that field's name. If a row has no shard key, fillKeys adds no keys at all: the coordinator then hashes, and gives that
// row its outcome.
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

// Batch returns the batch that was sent. It may be sent again once the Pending is done.
func (p *Pending) Batch() *Batch { return p.batch }

// Done returns a channel that is closed when the batch has its result or error, so that Wait does not block.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait blocks until the batch has its result or error, or ctx is over. In the latter case the batch stays under way, and Wait may be called
// again. An error that matches ErrUnanswered, as that of ctx does, leaves open whether the batch took effect; any other error means that no
// row of it ever ran. One error comes beside a result: CodeBatchTooLarge, if the output is larger than the coordinator's memory allows
// or than the client takes. The result is then complete except for its output, and the rows need not run again.
func (p *Pending) Wait(ctx context.Context) (*Result, error) {
	if err := checkContext(ctx, "Wait"); err != nil {
		return nil, p.batch.Judge(err)
	}
	select {
	case <-p.done:
	default:
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, p.batch.Judge(contextError(ctx, "the batch is still under way, wait again"))
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	p.arranged.Do(p.arrange) // in Wait and not in receive, so that the one goroutine that reads answers need not do the work of all batches
	return p.result, p.omitted
}

// arrange puts the result's rows and outputs, which came in several answers, into the order of the batch's rows. It is called once, after
// the last answer.
func (p *Pending) arrange() {
	if p.omitted != nil {
		p.outputs = nil // a part of the output would look like all of it
	}
	p.result.Output = batch.Merge(p.outputs)
	if len(p.outputs) > 1 { // then Merge has copied them
		for _, l := range p.lent {
			l.Release()
		}
	}
	p.outputs, p.lent = nil, nil
	p.result.Sort()
}

// begin prepares the Pending each time before its batch is sent. It makes an empty result, since the answers of an earlier try do not
// count. A batch that a coordinator may have taken before names the same revision again; any other batch names active, the flow's active
// revision.
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

// pin ties the batch to the revision that it named, so that it runs on the same one when it is sent again. That is necessary when nobody
// knows whether a coordinator took the batch.
func (p *Pending) pin() { p.batch.PinTo(p.revision) }

// submission makes the message that sends the batch. The message shares the memory of the columns. floor is the lowest sequence of the
// stream that may still be submitted again. now is the present time, from which the batch's age and the time until its deadline are
// counted.
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
		Origin:          p.options.origin,
		Log:             wire.FromPositions(p.positions),
	}
	if !p.deadline.IsZero() {
		// At least 1, since zero would mean no deadline.
		m.DeadlineMilliseconds = uint64(max(1, p.deadline.Sub(now)/time.Millisecond))
	}
	return m
}

// add adds the outcomes and the output of one answer to the result; arrange puts them into order when the last answer has come. lent is the
// memory that the answer lies in; nil means that the answer has memory of its own. The error has CodeBadMessage.
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

package flowexec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// localFlow is one flow's lanes; nil lanes: it is disabled.
type localFlow struct {
	name  string
	plan  *Plan
	key   batch.KeyField
	lanes *Lanes
	tally tally
}

// flow finds a flow that takes batches.
func (l *Local) flow(name string) (*localFlow, error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	f := l.flows[name]
	switch {
	case closed:
		return nil, batch.Errorf(batch.CodeShutdown, "the Local is closed: submit before Close")
	case f == nil:
		return nil, batch.Errorf(batch.CodeUnknownFlow, "there is no flow %q: the documents have %s%s", name,
			strings.Join(slices.Sorted(maps.Keys(l.flows)), ", "), definition.Suggest(name, slices.Sorted(maps.Keys(l.flows))))
	case f.lanes == nil:
		return nil, batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set its status to 1", name)
	}
	return f, nil
}

// Pending is a batch whose answer is to come. It is safe for concurrent use.
type Pending struct {
	flow     *localFlow
	batch    *batch.Batch
	columns  batch.Columns
	from     *producer
	deadline time.Time // zero: none
	timed    bool      // the deadline is Timeout's, and before the context's
	options  submitOptions
	done     chan struct{}
	ended    func(error) // called once, when the batch is over; nil: nobody asks

	mu     sync.Mutex
	left   int          // rows without an outcome; guarded by mu
	over   bool         // done is closed; guarded by mu
	err    error        // why there is no answer; guarded by mu until done
	result batch.Result // guarded by mu until done; without meaning where err is set
}

// Batch is the batch that was sent.
func (p *Pending) Batch() *batch.Batch { return p.batch }

// Done is closed when Wait will not block any more.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait blocks until the batch is answered or ctx is over; in the latter case the batch goes on, and Wait may be called again.
// Every error matches batch.ErrUnanswered.
func (p *Pending) Wait(ctx context.Context) (*batch.Result, error) {
	if err := checkContext(ctx, "Wait"); err != nil {
		return nil, p.batch.Judge(err)
	}
	select {
	case <-p.done:
	default:
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, p.batch.Judge(contextError(ctx))
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return &p.result, nil
}

// errLate is the error of a batch that did not begin before its Timeout was over.
func (p *Pending) errLate() error {
	return batch.Errorf(batch.CodeDeadline, "its Timeout of %s was over before the batch could begin: give it more time", p.options.timeout)
}

// prepare checks a batch. life bounds it: Submit's context, or the stream's.
func (f *localFlow) prepare(life context.Context, b *batch.Batch, from *producer, options []SubmitOption) (*Pending, error) {
	if b == nil {
		return nil, batch.Errorf(batch.CodeEmptyBatch, "the batch is nil: make one with batch.Rows or batch.Pack")
	}
	columns, err := b.Columns()
	if err != nil {
		return nil, batch.Errorf(batch.CodeRowUnencodable, "the batch can't be submitted: %w", err)
	}
	if err := columns.Check(batch.Limits{}); err != nil {
		return nil, err
	}
	if f.plan.shardKey != "" && len(columns.Keys) == 0 && columns.Encoding != "" && columns.Encoding != batch.JSON {
		return nil, batch.Errorf(batch.CodeMissingKeys, "flow %s is sharded by %s, and the rows are encoded as %q: "+
			"send the hash of each row's shard key with them", f.name, f.plan.shardKey, columns.Encoding)
	}
	p := &Pending{flow: f, batch: b, columns: columns, from: from, done: make(chan struct{}), left: columns.Len()}
	for i, option := range options {
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

// start hands a batch to the lanes.
func (f *localFlow) start(p *Pending, count func(*Pending)) error {
	now := time.Now()
	id, floor, err := p.from.begin(p.batch, f.name, now)
	if err != nil {
		return err
	}
	f.tally.enter(p.columns.Len())
	p.result = batch.Result{BatchID: id, Revision: f.plan.revision, Rows: p.columns.Len()}
	p.batch.Pin(f.plan.revision)
	count(p)
	part, bad := f.part(p.columns, batch.Limits{}.WithDefaults())
	part.Floor, part.Born = floor, now.Add(-p.batch.Age(now))
	part.Batch, part.Output, part.Deadline, part.Done = id, !p.options.noOutput, p.deadline, p.end
	if part.Columns.Len() > 0 {
		f.lanes.Enqueue(part)
	}
	if len(bad) > 0 {
		p.add(bad, batch.Output{}, len(bad))
	}
	return nil
}

// part is the rows that can be run; the others have their outcome.
func (f *localFlow) part(c batch.Columns, limits batch.Limits) (*Part, []batch.RowOutcome) {
	p := &Part{Plan: f.plan, BatchRows: c.Len(), Columns: c, Attempt: 1}
	var bad []batch.RowOutcome
	var good []uint32
	if f.plan.shardKey == "" {
		p.Columns.Keys = nil
	} else if len(c.Keys) == 0 {
		p.Columns.Keys = make([]uint64, c.Len())
	}
	for i := range c.Len() {
		var err error
		if size := int(c.Ends[i] - c.Start(i)); size > limits.RowBytes {
			err = batch.Errorf(batch.CodeRowTooLarge, "the row has %d bytes, over the limit of %d: send less in one row", size, limits.RowBytes)
		} else if f.plan.shardKey != "" && len(c.Keys) == 0 {
			p.Columns.Keys[i], err = f.key.Hash(c.Row(i))
		}
		if err == nil {
			good = append(good, uint32(i))
			continue
		}
		o := batch.RowOutcome{Row: uint32(i), Outcome: batch.Dead, Code: batch.CodeOf(err), Reason: err.Error()}
		if e, ok := errors.AsType[*batch.Error](err); ok {
			o.Reason = e.Message
		}
		bad = append(bad, o)
	}
	if len(bad) > 0 {
		p.Rows, p.Columns = good, p.Columns.Select(good)
	}
	return p, bad
}

// end takes a run's result over.
func (p *Pending) end(run RunResult) {
	rows := run.Rows
	n := len(rows)
	if rows == nil {
		n = run.Part.Len()
	}
	notDone := run.NotDone
	for _, row := range run.Returned {
		notDone = append(notDone, batch.RowOutcome{Row: row, Outcome: batch.Failed, Code: batch.CodeShutdown,
			Reason: "the row had not begun, or was parked, when the Local was closed: submit the batch again"})
	}
	for i := range notDone {
		notDone[i].Row = run.Part.BatchRow(notDone[i].Row)
	}
	for i, origin := range run.Output.Origins {
		if origin != batch.WholeBatch {
			run.Output.Origins[i] = run.Part.BatchRow(origin)
		}
	}
	p.add(notDone, run.Output, n)
}

// add adds outcomes and output of rows that have ended; the last ones end the wait.
func (p *Pending) add(notDone []batch.RowOutcome, output batch.Output, rows int) {
	p.flow.tally.leave(rows, notDone)
	for i := range notDone {
		if notDone[i].Outcome == batch.Dead {
			notDone[i].NotKept = batch.NoStore
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return // nobody waits for it any more
	}
	r := &p.result
	r.NotDone = append(r.NotDone, notDone...)
	if len(r.Output.Origins) == 0 {
		r.Output = output
	} else {
		for i := range output.Rows.Len() {
			r.Output.Rows.Append(output.Rows.Row(i))
		}
		r.Output.Origins = append(r.Output.Origins, output.Origins...)
	}
	if p.left -= rows; p.left > 0 {
		return
	}
	r.Sort()
	failed := slices.ContainsFunc(r.NotDone, func(o batch.RowOutcome) bool { return o.Outcome == batch.Failed })
	p.from.landed(r.BatchID, failed)
	p.batch.Answered(p.flow.name, failed)
	p.finish()
}

// abandon ends the wait for a batch whose rows go on: they may have taken effect, and the batch may be submitted again.
func (p *Pending) abandon(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.from.landed(p.result.BatchID, true)
	p.batch.Doubt(p.flow.name)
	p.batch.Ended()
	p.err = p.batch.Judge(fmt.Errorf("batch %s of flow %q: %w", p.result.BatchID, p.flow.name, err))
	p.finish()
}

// finish ends the wait. The caller holds mu.
func (p *Pending) finish() {
	p.over = true
	if p.ended != nil {
		p.ended(p.err)
	}
	close(p.done)
}

// contextError is the error of a call whose context is over.
func contextError(ctx context.Context) error {
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "the caller's context is over: %w", context.Cause(ctx))
}

// checkContext is the error of a call whose context is nil; nil if it is not.
func checkContext(ctx context.Context, call string) error {
	if ctx == nil {
		return batch.Errorf(batch.CodeBadMessage, "%s: the context is nil: pass context.Background(), or one that ends", call)
	}
	return nil
}

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

// localFlow is one flow of a Local, with its lanes.
type localFlow struct {
	name string
	plan *Plan
	// key finds the shard key in a row.
	key batch.KeyField
	// lanes is nil if the flow is disabled.
	lanes *Lanes
	tally tally
}

// flow returns the flow with a name, if it takes batches. Otherwise the error has the code SHUTDOWN (the Local is closed), UNKNOWN_FLOW or
// FLOW_DISABLED.
func (l *Local) flow(name string) (*localFlow, error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	f := l.flows[name]
	switch {
	case closed:
		return nil, batch.Errorf(batch.CodeShutdown, "submit to flow %q: the Local is closed: submit before Close", name)
	case f == nil:
		return nil, batch.Errorf(batch.CodeUnknownFlow, "submit to flow %q: there is no such flow: the documents have %s%s", name,
			strings.Join(slices.Sorted(maps.Keys(l.flows)), ", "), definition.Suggest(name, slices.Sorted(maps.Keys(l.flows))))
	case f.lanes == nil:
		return nil, batch.Errorf(batch.CodeFlowDisabled, "submit to flow %q: it is disabled: set status to 1 in its document", name)
	}
	return f, nil
}

// Pending is a batch that was sent, and its answer once that is there. It is safe for concurrent use.
type Pending struct {
	flow  *localFlow
	batch *batch.Batch
	// columns are the batch's rows.
	columns batch.Columns
	// producer is the one of Local.Submit or of the stream that the batch was sent to. It gives the batch its id, and knows whether the batch
	// may be submitted again.
	producer *producer
	// deadline is when rows without an outcome fail; the zero value means never. timedOut says that it comes from the Timeout option, and
	// is before the context's deadline.
	deadline time.Time
	timedOut bool
	options  submitOptions
	// done is closed when the batch has ended: all its rows have an outcome, or nobody waits for them any more.
	done chan struct{}
	// onFinish is called once, when the batch has ended, with the error that it ended in. nil means that nothing is called.
	onFinish func(error)

	mu sync.Mutex
	// remaining is how many rows have no outcome; guarded by mu.
	remaining int
	// finished says that done is closed; guarded by mu.
	finished bool
	// err says why the batch has no answer; nil means that it has one. Guarded by mu until done is closed; it does not change after that.
	err error
	// result is the answer; it means nothing if err is set. Guarded by mu until done is closed; it does not change after that.
	result batch.Result
}

// Batch returns the batch that was sent.
func (p *Pending) Batch() *batch.Batch { return p.batch }

// Done returns a channel that is closed when the batch has ended, so that Wait does not block any more.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait blocks until the batch is answered, or until ctx ends. In the latter case the batch goes on, and Wait may be called again. Every
// error matches batch.ErrUnanswered: rows of the batch may have run.
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

// errLate is the error of a batch whose Timeout was over before it began.
func (p *Pending) errLate() error {
	return batch.Errorf(batch.CodeDeadline, "send a batch: its Timeout of %s was over before it could begin: give it more time", p.options.timeout)
}

// prepare makes the Pending of a batch, or returns an error if the batch or an option can't be accepted. The deadline of life, the context
// of Submit or of the stream, bounds the batch. from is the producer that will give the batch its id.
func (f *localFlow) prepare(life context.Context, b *batch.Batch, from *producer, options []SubmitOption) (*Pending, error) {
	if b == nil {
		return nil, batch.Errorf(batch.CodeEmptyBatch, "the batch is nil: make one with batch.Rows or batch.Pack")
	}
	columns, err := b.Columns()
	if err != nil {
		return nil, batch.Errorf(batch.CodeRowUnencodable, "encode the rows of the batch: %w", err)
	}
	if err := columns.Check(batch.Limits{}); err != nil {
		return nil, err
	}
	if f.plan.shardKey != "" && len(columns.Keys) == 0 && columns.Encoding != "" && columns.Encoding != batch.JSON {
		return nil, batch.Errorf(batch.CodeMissingKeys, "submit to flow %q: it has the shard key %s, and the rows are encoded as %q, in which the key can't be found: "+
			"send the hash of each row's shard key with the rows", f.name, f.plan.shardKey, columns.Encoding)
	}
	columns.Positions = nil
	if log := b.Positions(); log != nil {
		columns.Positions = log.Rows
	}
	p := &Pending{flow: f, batch: b, columns: columns, producer: from, done: make(chan struct{}), remaining: columns.Len()}
	for i, option := range options {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "option %d of the batch is nil: leave it out", i+1)
		}
		option(&p.options)
	}
	p.deadline, _ = life.Deadline()
	if t := p.options.timeout; t > 0 {
		if end := time.Now().Add(t); p.deadline.IsZero() || end.Before(p.deadline) {
			p.deadline, p.timedOut = end, true
		}
	}
	return p, nil
}

// start gives a batch its id and hands its rows to the lanes. It calls count when the batch has its id, before any of its rows can end. If
// the producer refuses the batch, start returns the error and does nothing.
func (f *localFlow) start(p *Pending, count func(*Pending)) error {
	now := time.Now()
	id, floor, err := p.producer.begin(p.batch, f.name, now)
	if err != nil {
		return err
	}
	f.tally.enter(p.columns.Len())
	p.result = batch.Result{BatchID: id, Revision: f.plan.revision, Rows: p.columns.Len()}
	p.batch.Pin(f.plan.revision)
	count(p)
	part, bad := f.newPart(p.columns, batch.Limits{}.WithDefaults())
	part.Log = p.batch.Positions()
	part.Floor, part.Born = floor, now.Add(-p.batch.Age(now))
	part.Batch, part.Output, part.Deadline, part.Done = id, !p.options.noOutput, p.deadline, p.addRun
	if part.Columns.Len() > 0 {
		f.lanes.Enqueue(part)
	}
	if len(bad) > 0 {
		p.addEnded(bad, batch.Output{}, len(bad))
	}
	return nil
}

// newPart makes the part of those rows of a batch that can run. It also returns the outcomes of the other rows, which are dead at once:
// they are larger than limits allow, or have no shard key.
func (f *localFlow) newPart(c batch.Columns, limits batch.Limits) (*Part, []batch.RowOutcome) {
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

// addRun adds the result of one run to the batch's answer. It is the function Done of the batch's part.
func (p *Pending) addRun(run RunResult) {
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
	p.addEnded(notDone, run.Output, n)
}

// addEnded adds the outcomes and the output of rows that have ended to the batch's answer. rows is how many have ended, those without an
// entry in notDone included. When no row is left, the batch is answered. An abandoned batch keeps no answer.
func (p *Pending) addEnded(notDone []batch.RowOutcome, output batch.Output, rows int) {
	p.flow.tally.leave(rows, notDone)
	for i := range notDone {
		if notDone[i].Outcome == batch.Dead {
			notDone[i].NotKept = batch.NoStore
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return // it was abandoned
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
	if p.remaining -= rows; p.remaining > 0 {
		return
	}
	r.Sort()
	failed := slices.ContainsFunc(r.NotDone, func(o batch.RowOutcome) bool { return o.Outcome == batch.Failed })
	p.producer.ended(r.BatchID, failed)
	p.batch.Answered(p.flow.name, failed)
	p.finish()
}

// abandon ends the batch without an answer, because of err. Its rows go on: they may have taken effect, and the batch may be submitted
// again. A batch that has ended stays as it is.
func (p *Pending) abandon(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return
	}
	p.producer.ended(p.result.BatchID, true)
	p.batch.Doubt(p.flow.name)
	p.batch.Ended()
	p.err = p.batch.Judge(fmt.Errorf("batch %s of flow %q: %w", p.result.BatchID, p.flow.name, err))
	p.finish()
}

// finish marks the batch as ended: it calls onFinish and closes done. The caller holds mu.
func (p *Pending) finish() {
	p.finished = true
	if p.onFinish != nil {
		p.onFinish(p.err)
	}
	close(p.done)
}

// contextError is the error of a call whose context has ended, with the code CANCELLED or DEADLINE.
func contextError(ctx context.Context) error {
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "the caller's context is over: %w", context.Cause(ctx))
}

// checkContext returns an error if the context of a call is nil, else nil. call is the name of the method, for the error's text.
func checkContext(ctx context.Context, call string) error {
	if ctx == nil {
		return batch.Errorf(batch.CodeBadMessage, "%s: the context is nil: pass context.Background(), or one that ends", call)
	}
	return nil
}

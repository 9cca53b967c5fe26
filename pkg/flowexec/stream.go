package flowexec

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// windowRows is how many rows of a stream may be unanswered before Send blocks.
const windowRows = 65536

// Stream is an ordered sequence of batches for one flow. It is safe for concurrent use; batches that several goroutines send
// at the same time have no order among each other.
type Stream struct {
	local *Local
	flow  *localFlow
	ctx   context.Context

	sending  sync.Mutex // held by Send from a batch's id until it is queued: ids and queue are in one order
	producer producer

	mu         sync.Mutex
	unanswered map[*Pending]int // rows by batch; guarded by mu
	rows       int              // unanswered; guarded by mu
	changed    chan struct{}    // closed and made anew when a batch is answered; guarded by mu
	closed     bool             // guarded by mu
}

// Stream opens a stream to a flow. ctx is its life: when it is over, Send and Wait end with its error.
func (l *Local) Stream(ctx context.Context, flow string) (*Stream, error) {
	f, err := l.flow(flow)
	if err != nil {
		return nil, err
	}
	return &Stream{local: l, flow: f, ctx: ctx, unanswered: make(map[*Pending]int), changed: make(chan struct{})}, nil
}

// Send puts the batch behind those sent before and returns while it is under way. It blocks while 65,536 rows are
// unanswered. ctx bounds that blocking, not the batch.
func (s *Stream) Send(ctx context.Context, b *batch.Batch, options ...SubmitOption) (*Pending, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	if err := s.await(ctx, func() bool { return s.rows < windowRows }); err != nil {
		return nil, err
	}
	if _, err := s.local.flow(s.flow.name); err != nil {
		return nil, err
	}
	return s.flow.send(s.ctx, b, &s.producer, options, s.count)
}

// count counts a batch in, and out when it is answered.
func (s *Stream) count(p *Pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unanswered[p] = p.batch.Len()
	s.rows += p.batch.Len()
	p.answered = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rows -= s.unanswered[p]
		delete(s.unanswered, p)
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// await blocks until the condition, which is asked with mu held, is true.
func (s *Stream) await(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		ok, closed, changed := condition(), s.closed, s.changed
		s.mu.Unlock()
		switch {
		case closed:
			return batch.Errorf(batch.CodeCancelled, "the stream is closed: open another")
		case s.ctx.Err() != nil:
			return ended(s.ctx)
		case ok:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ended(ctx)
		case <-s.ctx.Done():
		}
	}
}

// ended is the error of a call whose context is over.
func ended(ctx context.Context) error {
	code := batch.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = batch.CodeDeadline
	}
	return batch.Errorf(code, "the caller's context is over: %w", context.Cause(ctx))
}

// Flush blocks until every batch that was sent before has its answer. The error is ctx's.
func (s *Stream) Flush(ctx context.Context) error {
	s.mu.Lock()
	var sent []*Pending
	for p := range s.unanswered {
		sent = append(sent, p)
	}
	s.mu.Unlock()
	for _, p := range sent {
		select {
		case <-p.done:
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	return nil
}

// Close takes no more batches and blocks until all that were sent are answered. It is safe to call twice.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.Flush(context.WithoutCancel(s.ctx))
}

// Pending is a batch whose answer is to come. It is safe for concurrent use.
type Pending struct {
	flow     *localFlow
	batch    *batch.Batch
	from     *producer
	done     chan struct{}
	answered func()

	mu     sync.Mutex
	left   int          // rows without an outcome; guarded by mu
	result batch.Result // guarded by mu until done
}

// Batch is the batch that was sent.
func (p *Pending) Batch() *batch.Batch { return p.batch }

// Done is closed when Wait will not block any more.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait blocks until the batch is answered or ctx is over; in the latter case the batch goes on, and Wait may be called again.
func (p *Pending) Wait(ctx context.Context) (*batch.Result, error) {
	select {
	case <-p.done:
		return &p.result, nil
	default:
	}
	select {
	case <-p.done:
		return &p.result, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// send checks a batch and hands it to the lanes.
func (f *localFlow) send(ctx context.Context, b *batch.Batch, from *producer, options []SubmitOption, count func(*Pending)) (*Pending, error) {
	var o submitOptions
	for _, option := range options {
		option(&o)
	}
	columns, err := b.Columns()
	if err != nil {
		return nil, batch.Errorf(batch.CodeRowUnencodable, "%w", err)
	}
	limits := batch.Limits{}.WithDefaults()
	if err := columns.Check(limits); err != nil {
		return nil, err
	}
	if f.plan.shardKey != "" && len(columns.Keys) == 0 && columns.Encoding != "" && columns.Encoding != batch.JSON {
		return nil, batch.Errorf(batch.CodeMissingKeys, "flow %s is sharded by %s, and the rows are encoded as %q: "+
			"send the hash of each row's shard key with them", f.name, f.plan.shardKey, columns.Encoding)
	}
	deadline, _ := ctx.Deadline()
	if o.timeout > 0 {
		if d := time.Now().Add(o.timeout); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	p := &Pending{flow: f, batch: b, from: from, done: make(chan struct{}), left: columns.Len()}
	f.tally.enter(columns.Len())
	now := time.Now()
	id, floor := from.begin(func(next func() batch.ID) batch.ID { return b.Use(now, next) })
	p.result = batch.Result{BatchID: id, Revision: f.plan.revision, Rows: columns.Len()}
	b.Pin(f.plan.revision)
	count(p)
	part, bad := f.part(columns, limits)
	part.Floor, part.Born = floor, now.Add(-b.Age(now))
	part.Batch, part.Output, part.Deadline, part.Done = p.result.BatchID, !o.noOutput, deadline, p.end
	if part.Columns.Len() > 0 {
		f.lanes.Enqueue(part)
	}
	if len(bad) > 0 {
		p.add(bad, batch.Output{}, len(bad))
	}
	return p, nil
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
func (p *Pending) end(run Run) {
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
		notDone[i].Row = run.Part.place(notDone[i].Row)
	}
	for i, origin := range run.Output.Origins {
		if origin != batch.WholeBatch {
			run.Output.Origins[i] = run.Part.place(origin)
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
	p.from.answered(r.BatchID, slices.ContainsFunc(r.NotDone, func(o batch.RowOutcome) bool { return o.Outcome == batch.Failed }))
	if p.answered != nil {
		p.answered()
	}
	close(p.done)
}

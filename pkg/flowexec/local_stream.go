package flowexec

import (
	"context"
	"errors"
	"fmt"
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
	// over stops that the end of ctx ends what is unanswered.
	over func() bool

	turn     chan struct{} // holds a token of the Send that is next: ids and queue are in one order
	producer producer

	mu         sync.Mutex
	unanswered map[*Pending]int // rows by batch; guarded by mu
	rows       int              // unanswered; guarded by mu
	changed    chan struct{}    // closed and made anew when a batch is answered; guarded by mu
	closed     bool             // guarded by mu
	left       map[uint64]error // why batches have no answer, by sequence; guarded by mu
}

// Stream opens a stream to a flow. ctx is its life: when it is over, Send ends with its error, and what is unanswered ends with
// one that matches batch.ErrUnanswered, though its rows may go on. Its deadline is that of every batch.
func (l *Local) Stream(ctx context.Context, flow string) (*Stream, error) {
	if err := checkContext(ctx, "Stream"); err != nil {
		return nil, err
	}
	f, err := l.flow(flow)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	s := &Stream{
		local: l, flow: f, ctx: ctx, turn: make(chan struct{}, 1), producer: producer{only: true},
		unanswered: make(map[*Pending]int), changed: make(chan struct{}), left: make(map[uint64]error),
	}
	s.over = context.AfterFunc(ctx, s.abandon)
	return s, nil
}

// abandon ends what is unanswered when the stream's life is over.
func (s *Stream) abandon() {
	s.mu.Lock()
	var left []*Pending
	for p := range s.unanswered {
		left = append(left, p)
	}
	s.mu.Unlock()
	for _, p := range left {
		p.abandon(contextError(s.ctx))
	}
}

// Send puts the batch behind those sent before and returns while it is under way. It blocks while 65,536 rows are
// unanswered. ctx bounds that blocking, not the batch. After an error this call ran nothing of the batch; it matches
// batch.ErrUnanswered where an earlier call may have.
func (s *Stream) Send(ctx context.Context, b *batch.Batch, options ...SubmitOption) (*Pending, error) {
	if err := checkContext(ctx, "Send"); err != nil {
		return nil, b.Judge(err)
	}
	p, err := s.flow.prepare(s.ctx, b, &s.producer, options)
	if err == nil {
		err = s.enter(ctx, p)
	}
	if err != nil {
		return nil, b.Judge(err)
	}
	return p, nil
}

// enter waits for the batch's turn and room, and hands it to the lanes.
func (s *Stream) enter(ctx context.Context, p *Pending) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	var late <-chan time.Time // nil: never
	if p.timed {
		timer := time.NewTimer(time.Until(p.deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case s.turn <- struct{}{}:
	case <-late:
		return p.errLate()
	case <-ctx.Done():
		return contextError(ctx)
	case <-s.ctx.Done():
		return contextError(s.ctx)
	}
	defer func() { <-s.turn }()
	if err := s.await(ctx, p, late); err != nil {
		return err
	}
	if _, err := s.local.flow(s.flow.name); err != nil {
		return err
	}
	err := s.flow.start(p, s.count)
	if err == nil && s.ctx.Err() != nil {
		p.abandon(contextError(s.ctx)) // which the stream's end may have come too early for
	}
	return err
}

// count counts a batch in, and out when it is over.
func (s *Stream) count(p *Pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unanswered[p] = p.batch.Len()
	s.rows += p.batch.Len()
	delete(s.left, p.result.BatchID.Sequence)
	p.ended = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rows -= s.unanswered[p]
		delete(s.unanswered, p)
		if err != nil {
			s.left[p.result.BatchID.Sequence] = err
		}
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// await blocks until there is room.
func (s *Stream) await(ctx context.Context, p *Pending, late <-chan time.Time) error {
	for {
		s.mu.Lock()
		ok, closed, changed := s.rows < windowRows, s.closed, s.changed
		s.mu.Unlock()
		switch {
		case closed:
			return batch.Errorf(batch.CodeCancelled, "the stream is closed: open another")
		case s.ctx.Err() != nil:
			return contextError(s.ctx)
		case ok:
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return p.errLate()
		case <-ctx.Done():
			return contextError(ctx)
		case <-s.ctx.Done():
		}
	}
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

// Flush blocks until every batch that was sent before has its answer, or its error, which its Pending tells. The error is
// ctx's, and matches batch.ErrUnanswered.
func (s *Stream) Flush(ctx context.Context) error {
	if err := checkContext(ctx, "Flush"); err != nil {
		return err
	}
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
			return p.batch.Judge(contextError(ctx))
		}
	}
	return nil
}

// Close takes no more batches, blocks until all that were sent are answered, or the stream's context is over, and returns an
// error if batches have ended in one. It is safe to call twice.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closed = true
	close(s.changed) // wakes a Send that waits for room
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if err := s.Flush(context.WithoutCancel(s.ctx)); err != nil {
		return err
	}
	s.over()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.left {
		return fmt.Errorf("close a stream with %d unanswered batches: %w", len(s.left), err)
	}
	return nil
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

package flowexec

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// windowRows is how many rows of a stream may be unanswered before Send blocks.
const windowRows = 65536

// Stream is an ordered sequence of batches for one flow: a Send returns before its batch is answered, and rows of one key run in the order
// of the Sends. It is safe for concurrent use. Batches that several goroutines send at the same time have no order among each other.
type Stream struct {
	local *Local
	flow  *localFlow
	// ctx is the stream's life. When ctx ends, the method abandon is called, unless stopAbandon was called before.
	ctx         context.Context
	stopAbandon func() bool

	// turn has a token while a Send hands its batch to the lanes, so that batches are queued in the order of their ids.
	turn     chan struct{}
	producer producer

	mu sync.Mutex
	// unanswered has the number of rows of each batch that has no answer; guarded by mu.
	unanswered map[*Pending]int
	// rows is how many rows are unanswered; guarded by mu.
	rows int
	// changed is closed, and replaced, when a batch is answered and when the stream is closed; guarded by mu.
	changed chan struct{}
	closed  bool // guarded by mu
	// lost says why batches have ended without an answer, by sequence; guarded by mu.
	lost map[uint64]error
}

// Stream opens a stream of batches to a flow. ctx is the stream's life: when it ends, Send fails with CANCELLED or DEADLINE, and unanswered
// batches end with an error that matches batch.ErrUnanswered, though their rows may go on. The deadline of ctx is a deadline for every
// batch.
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
		local: l, flow: f, ctx: ctx, turn: make(chan struct{}, 1), producer: producer{ownOnly: true},
		unanswered: make(map[*Pending]int), changed: make(chan struct{}), lost: make(map[uint64]error),
	}
	s.stopAbandon = context.AfterFunc(ctx, s.abandon)
	return s, nil
}

// abandon ends all unanswered batches without an answer. It is called when the stream's ctx ends.
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

// Send queues a batch behind those that were sent before, and returns while it is under way. It blocks while 65,536 rows of the stream or
// more are unanswered; ctx bounds that blocking, not the batch.
//
// After an error this call ran nothing of the batch. If the error matches batch.ErrUnanswered, an earlier call may have.
func (s *Stream) Send(ctx context.Context, b *batch.Batch, options ...SubmitOption) (*Pending, error) {
	if err := checkContext(ctx, "Send"); err != nil {
		return nil, b.Judge(err)
	}
	p, err := s.flow.prepare(s.ctx, b, &s.producer, options)
	if err == nil {
		err = s.enqueue(ctx, p)
	}
	if err != nil {
		return nil, b.Judge(err)
	}
	return p, nil
}

// enqueue waits for the Send's turn and for room, and hands the batch to the lanes.
func (s *Stream) enqueue(ctx context.Context, p *Pending) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	var late <-chan time.Time // nil means never
	if p.timedOut {
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
	if err := s.awaitRoom(ctx, p, late); err != nil {
		return err
	}
	if _, err := s.local.flow(s.flow.name); err != nil {
		return err
	}
	err := s.flow.start(p, s.track)
	if err == nil && s.ctx.Err() != nil {
		p.abandon(contextError(s.ctx)) // ctx may have ended before the batch was tracked, so that abandon has missed it
	}
	return err
}

// track adds a batch to the unanswered ones, and sets its onFinish to a function that takes it out when it has ended.
func (s *Stream) track(p *Pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unanswered[p] = p.batch.Len()
	s.rows += p.batch.Len()
	delete(s.lost, p.result.BatchID.Sequence)
	p.onFinish = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rows -= s.unanswered[p]
		delete(s.unanswered, p)
		if err != nil {
			s.lost[p.result.BatchID.Sequence] = err
		}
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// awaitRoom blocks until fewer than windowRows rows of the stream are unanswered, so that the batch p may begin. It fails when a context
// ends, when the stream is closed, or when late fires because the batch's Timeout is over; nil means that it has none.
func (s *Stream) awaitRoom(ctx context.Context, p *Pending, late <-chan time.Time) error {
	for {
		s.mu.Lock()
		ok, closed, changed := s.rows < windowRows, s.closed, s.changed
		s.mu.Unlock()
		switch {
		case closed:
			return batch.Errorf(batch.CodeCancelled, "send a batch: the stream is closed: open another one")
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

// Flush blocks until every batch that was sent before has ended: its Pending tells the answer, or the error. If ctx ends first, Flush
// returns an error that matches batch.ErrUnanswered. The only other error is that of a nil ctx.
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

// Close closes the stream, so that Send fails from now on, and blocks until every batch that was sent has ended. When the stream's context
// ends, they end without an answer. Close returns an error if batches of the stream have ended without an answer. It is safe to call twice.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closed = true
	close(s.changed) // wakes a Send that waits for room
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if err := s.Flush(context.WithoutCancel(s.ctx)); err != nil {
		return err
	}
	s.stopAbandon()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.lost {
		return fmt.Errorf("close the stream: %d of its batches have ended without an answer: %w", len(s.lost), err)
	}
	return nil
}

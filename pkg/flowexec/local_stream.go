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

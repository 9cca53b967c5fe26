package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

var errStreamClosed = batch.Errorf(batch.CodeCancelled, "the stream was closed: open a new one")

// Stream is an ordered sequence of batches for one flow. It outlives its connection: when that breaks, it opens again, at
// another coordinator if there is one, and sends again what is unanswered, in order and under the same ids. It moves to one with
// fewer streams when its own asks it to, once what it sent is answered, or 5 s after it began to wait for that. It is safe for
// concurrent use; batches that several goroutines send at the same time have no order among each other.
//
// One goroutine per stream connects and sends, one per connection reads answers, another looks for a place when the stream
// is asked to move, one keeps deadlines where batches have them, and callers of Send come in under mu.
type Stream struct {
	client   *Client
	flow     string
	producer *producer
	logger   hclog.Logger
	ctx      context.Context // the stream's life
	cancel   context.CancelCauseFunc
	opened   chan struct{} // closed when a coordinator first took the stream
	stopped  chan struct{} // closed when the goroutines are gone and every Pending is done

	turn chan struct{} // holds a token of the Send that is next at the window
	room chan struct{} // capacity 1: wakes that Send, as there may be room now, or an end
	work chan struct{} // capacity 1: wakes the sender, as there may be something to send, or an end

	early  chan struct{}  // capacity 1: wakes the keeper of deadlines, as there may be one before those that it knows
	keeper sync.WaitGroup // the keeper

	mu         sync.Mutex          // guards what follows; taken before the producer's
	unanswered map[uint64]*Pending // by sequence
	outbox     []*Pending          // those of unanswered that have not gone out in this session, in order
	queued     size                // of outbox
	credit     size                // that the coordinator granted and nothing has used; overdrawn by one batch at most
	sendings   uint64              // counts Sends
	connected  bool
	moving     bool            // another coordinator takes the stream as soon as what went out is answered
	revision   batch.Revision  // the active one; zero where the flow is off or gone
	shardKey   string          // of the active revision; empty for none
	key        *batch.KeyField // of shardKey; nil for none. It does not change once made
	limits     batch.Limits
	nearest    time.Time // the first deadline that the keeper knows of in the outbox; zero: none
	keeping    bool      // the keeper runs
	closing    bool      // Close was called
	refusal    error     // why Send can't be served now: no coordinator since too long, or the stream's end
}

// size measures batches, as windows count them: rows, and bytes of their data without ends and keys.
type size struct{ rows, bytes int64 }

func sizeOf(c *batch.Columns) size { return size{int64(c.Len()), int64(len(c.Data))} }
func (s size) plus(o size) size    { return size{s.rows + o.rows, s.bytes + o.bytes} }
func (s size) minus(o size) size   { return size{s.rows - o.rows, s.bytes - o.bytes} }
func (s size) positive() bool      { return s.rows > 0 && s.bytes > 0 }

// wake leaves a token for whoever waits on c, or will.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stream opens a stream to a flow, and blocks until a coordinator has taken it. ctx is the stream's life: when it is over,
// what is unanswered ends with ErrUnanswered. Its deadline is that of every batch. The error carries the coordinator's code,
// or CodeUnavailable when none could be reached within WithRetryFor. Close the stream when done.
func (c *Client) Stream(ctx context.Context, flow string) (*Stream, error) {
	if err := given(ctx, "Stream"); err != nil {
		return nil, err
	}
	if err := checkFlow(flow); err != nil {
		return nil, err
	}
	s := &Stream{
		client:     c,
		flow:       flow,
		producer:   newProducer(batch.NewStreamID(), c.options.resubmit),
		opened:     make(chan struct{}),
		stopped:    make(chan struct{}),
		turn:       make(chan struct{}, 1),
		room:       make(chan struct{}, 1),
		work:       make(chan struct{}, 1),
		early:      make(chan struct{}, 1),
		unanswered: make(map[uint64]*Pending),
	}
	s.logger = c.logger.With("flow", flow, "stream", s.producer.id.String())
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		s.cancel(errClientClosed)
		return nil, errClientClosed
	}
	c.add(s.producer)
	c.streams[s] = struct{}{}
	c.mu.Unlock()

	go s.run()
	select {
	case <-s.opened:
		return s, nil
	case <-s.stopped:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil, fmt.Errorf("open a stream to flow %q: %w", flow, s.refusal)
}

// Send puts the batch behind those sent before and returns while it is under way. It blocks while the window that the
// coordinator granted is full, and while no coordinator is there, at most for WithRetryFor. ctx bounds that blocking, not
// the batch. The rows are sent uncopied and must not be changed.
//
// After an error this call sent nothing of the batch; it matches ErrUnanswered where an earlier call may have. A batch may be
// sent again when its Pending is done and had an error or failed rows; it then comes after what was sent meanwhile.
func (s *Stream) Send(ctx context.Context, b *Batch, opts ...SubmitOption) (*Pending, error) {
	if err := given(ctx, "Send"); err != nil {
		return nil, b.Judge(err)
	}
	s.mu.Lock()
	shardKey, key, limits := s.shardKey, s.key, s.limits
	s.mu.Unlock()
	p, err := newPending(s.ctx, b, limits, opts)
	if err != nil {
		return nil, b.Judge(err)
	}
	// Before the turn, so that several senders hash at the same time. Keys of a field that has just been replaced do no
	// harm: the batch says which field they hash.
	if key != nil {
		p.fillKeys(key, shardKey)
	}

	p.trace(ctx, s.client.options.tracer, s.flow)
	if err := s.enter(ctx, p); err != nil {
		err = b.Judge(fmt.Errorf("send to flow %q: %w", s.flow, err))
		p.endTrace(err)
		return nil, err
	}
	return p, nil
}

// enter waits until the batch is in the outbox.
func (s *Stream) enter(ctx context.Context, p *Pending) error {
	const doing = "wait for room in the window"
	if ctx.Err() != nil {
		return ended(ctx, doing)
	}
	var over <-chan time.Time // nil: never
	if p.timed {
		timer := time.NewTimer(time.Until(p.deadline))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case s.turn <- struct{}{}:
	case <-over:
		return p.errLate(nil)
	case <-ctx.Done():
		return ended(ctx, doing)
	}
	defer func() { <-s.turn }()
	for {
		if admitted, err := s.admit(p); admitted || err != nil {
			return err
		}
		select {
		case <-s.room:
		case <-over:
			return p.errLate(nil)
		case <-ctx.Done():
			return ended(ctx, doing)
		}
	}
}

// admit puts the batch into the outbox if the window has room for it. The caller holds the turn.
func (s *Stream) admit(p *Pending) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return false, s.refusal
	}
	if s.closing {
		return false, errStreamClosed
	}
	if !s.connected || !s.credit.minus(s.queued).positive() {
		return false, nil
	}
	id, err := s.producer.begin(p.batch, s.flow, time.Now())
	if err != nil {
		return false, err
	}
	s.sendings++
	p.batch.Sent() // it is the stream's from here on: Close tells what became of it
	p.id, p.order = id, s.sendings
	s.unanswered[id.Sequence] = p
	s.outbox = append(s.outbox, p)
	s.queued = s.queued.plus(sizeOf(&p.columns))
	s.keep(p)
	wake(s.work)
	return true, nil
}

// Flush blocks until every batch that was sent before has its answer, or its error, which its Pending tells. The error is
// ctx's, and matches ErrUnanswered.
func (s *Stream) Flush(ctx context.Context) error {
	if err := given(ctx, "Flush"); err != nil {
		return err
	}
	s.mu.Lock()
	pendings := make([]*Pending, 0, len(s.unanswered))
	for _, p := range s.unanswered {
		pendings = append(pendings, p)
	}
	s.mu.Unlock()
	for _, p := range pendings {
		select {
		case <-p.done:
		case <-ctx.Done():
			return p.batch.Judge(ended(ctx, "flush a stream that has unanswered batches"))
		}
	}
	return nil
}

// Close takes no more batches, blocks until all that were sent are answered and the stream's goroutines are gone, and returns
// an error if batches have ended in one and were neither sent again with success nor given up. Submit takes those. Without a
// coordinator the wait is bounded by WithRetryFor. To end a stream without waiting, end its context. It is safe to call twice,
// and by several goroutines.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	wake(s.work)
	wake(s.room)
	<-s.stopped
	if n, err := s.producer.unanswered(); n > 0 {
		return fmt.Errorf("close a stream with %d unanswered batches: %w", n, err)
	}
	return nil
}

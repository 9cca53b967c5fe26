package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Stream is an ordered sequence of batches for one flow. It outlives its connection: when that breaks, the stream opens again, at another
// coordinator if there is one, and sends its unanswered batches again, in order and under the same ids. When its coordinator asks
// it to move, it goes to a coordinator with fewer streams: once its sent batches are answered, or 5 s after it began to wait for that.
// It is safe for concurrent use. Batches that several goroutines send at the same time have no order among each other.
//
// The states of a stream:
//
//		                Opened                another coordinator has taken the stream
//		  connecting ───────────► open ───────────────────────────────────────────────► moving
//		   │  ▲  ▲                │  ▲                                                   │
//		   │  │  └────────────────┘  └───────────────────────────────────────────────────┘
//		   │  │  connection breaks     the sent batches are answered, or 5 s are over,
//		   │  │                        or the connection breaks: open, at the other one
//		   │  │ next try
//		   ▼  │
//		  refusing: no coordinator for WithRetryFor
//
//	  - connecting: tries to find a coordinator, with pauses in between. Send blocks.
//	  - open: batches are sent and answered. Send blocks only while the window is full. It begins with resubmitting: the batches without an
//	    answer from before, in the order of Send, go first.
//	  - moving: batches wait in the outbox, and are sent after the move.
//	  - refusing: the unanswered batches have ended with an error, and Send returns an error. Tries to find a coordinator go on.
//	  - closed, from every state: Close was called and all batches are answered; or the context or the client ended; or a coordinator
//	    refused the stream with an error that another try would not change.
//
// Goroutines: run opens sessions and sends; in each session one goroutine reads answers, and one waits for a request to move;
// watchDeadlines ends late batches, once a batch has a deadline. Callers of Send change the state under mu.
type Stream struct {
	client   *Client
	flow     string
	producer *producer
	logger   hclog.Logger
	ctx      context.Context // ends with the stream
	cancel   context.CancelCauseFunc
	opened   chan struct{} // closed when a coordinator first took the stream
	stopped  chan struct{} // closed when the goroutines have ended and every Pending is done

	turn chan struct{} // holds one token: of the Send that may wait for room, so that batches keep the order of the calls
	room signal        // wakes that Send: there may be room in the window, or the stream has ended
	work signal        // wakes the sender: there may be something to send, or a reason to end the session

	sooner  signal         // wakes watchDeadlines: a batch may have an earlier deadline than those that it knows
	watcher sync.WaitGroup // watchDeadlines

	// mu guards the fields below. A goroutine that needs the producer's mutex, too, locks mu first.
	mu         sync.Mutex
	unanswered map[uint64]*Pending // by sequence
	outbox     []*Pending          // the unanswered ones that have not been sent in this session, in the order of Send
	queued     size                // of the outbox
	credit     size                // granted by the coordinator and not used; one batch may go beyond it
	sendings   uint64              // counts the batches that were sent with Send
	connected  bool                // a session runs
	moving     bool                // the session ends as soon as all that was sent is answered
	revision   batch.Revision      // the flow's active one; zero while the flow is disabled or deleted
	shardKey   string              // the field of the active revision; empty means none
	key        *batch.KeyField     // reads the shard key; nil means none. It is replaced and never changed
	limits     batch.Limits        // of the coordinator
	positions  bool                // the coordinator takes batches with positions
	nearest    time.Time           // the earliest deadline in the outbox that watchDeadlines knows of; zero means none
	watching   bool                // watchDeadlines runs
	closing    bool                // Close was called
	refusal    error               // why Send fails now: no coordinator for too long, or the end of the stream; nil means that it does not
}

// Stream opens a stream to a flow. It blocks until a coordinator has taken the stream. ctx is the life of the stream: when it is over,
// unanswered batches end with an error, which matches ErrUnanswered if they were sent. Its deadline is also that of every batch. The error
// has the code of the coordinator that refused the stream, CodeUnavailable if no coordinator could be reached within WithRetryFor, or
// CodeCancelled or CodeDeadline if ctx or the client ended. Close the stream after use.
func (c *Client) Stream(ctx context.Context, flow string) (*Stream, error) {
	if err := checkContext(ctx, "Stream"); err != nil {
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
		room:       newSignal(),
		work:       newSignal(),
		sooner:     newSignal(),
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

// Send puts the batch behind those that were sent before, and returns without waiting for its answer. It blocks while the window that
// the coordinator granted is full, and while there is no coordinator, for WithRetryFor at most. The end of ctx ends this waiting; it does
// not end the batch once Send has returned. The rows are sent without a copy and must not be changed.
//
// After an error, this call has sent nothing of the batch; the error matches ErrUnanswered if an earlier call may have. A batch may be sent
// again when its Pending is done with an error or with failed rows. It then comes after the batches that were sent meanwhile.
func (s *Stream) Send(ctx context.Context, b *Batch, opts ...SubmitOption) (*Pending, error) {
	if err := checkContext(ctx, "Send"); err != nil {
		return nil, b.Judge(err)
	}
	s.mu.Lock()
	shardKey, key, limits := s.shardKey, s.key, s.limits
	s.mu.Unlock()
	p, err := newPending(s.ctx, b, limits, opts)
	if err != nil {
		return nil, b.Judge(err)
	}
	// Keys are hashed before the call waits for its turn, so that several goroutines hash at the same time. If the shard key changes
	// meanwhile, no harm is done: the batch says which field its keys hash.
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

// Flush blocks until every batch that was sent before has its result or its error, which its Pending returns, or until ctx is over. In the
// latter case it returns an error, which matches ErrUnanswered. How the batches ended makes no error of Flush.
func (s *Stream) Flush(ctx context.Context) error {
	if err := checkContext(ctx, "Flush"); err != nil {
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
			return p.batch.Judge(contextError(ctx, "flush a stream that has unanswered batches"))
		}
	}
	return nil
}

// Close takes no more batches, and blocks until every sent batch has its result or error and the stream's goroutines have ended. It
// returns an error if batches ended with an error and were neither submitted again with success nor given up; Client.Submit takes
// these batches. Without a coordinator it waits for WithRetryFor at most. To end a stream without waiting, cancel its context. Close may
// be called twice, and by several goroutines.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.work.wake()
	s.room.wake()
	<-s.stopped
	if n, err := s.producer.unanswered(); n > 0 {
		return fmt.Errorf("close a stream with %d unanswered batches: %w", n, err)
	}
	return nil
}

package client

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// minUseful is how long a session must last to count as a success if no answer came in it.
const minUseful = 5 * time.Second

// rpc is the client's end of one gRPC stream.
type rpc = pb.Ingest_StreamClient

// session is one connection of a Stream: a gRPC stream that a coordinator has taken. A Stream has one session after the other. cancel must
// be called when the session is over, or is not used at all.
type session struct {
	stream *Stream
	remote rpc
	opened *pb.Opened      // the coordinator's first message
	active batch.Revision  // the flow's active revision, as opened names it
	ctx    context.Context // ends with the session
	cancel context.CancelFunc

	over  chan struct{} // closed when receive has returned: the connection has ended
	asked chan int      // capacity 1: the coordinator asks the stream to move, and names the number of coordinators
}

// run is the goroutine of a stream. It has one session after the other until the stream ends, and then ends every batch.
func (s *Stream) run() {
	tries := s.client.options.retries()
	err := s.sessions(tries)
	s.mu.Lock()
	s.refusal = err
	s.fail(err)
	s.mu.Unlock()
	s.room.wake()
	s.producer.retire()
	s.client.mu.Lock()
	delete(s.client.streams, s)
	s.client.mu.Unlock()
	s.client.forget(s.producer)
	s.cancel(err)
	s.watcher.Wait()
	close(s.stopped)
}

// sessions opens and runs sessions, with pauses after failures, until the stream ends. It returns why the stream ended.
func (s *Stream) sessions(tries *retries) error {
	var at *session // that runs next, if the stream has moved; nil means that a session must be opened
	defer func() {
		if at != nil {
			at.cancel()
		}
	}()
	for {
		var useful bool
		var err error
		if at == nil {
			at, err = s.open(nil)
		}
		if err == nil {
			at, useful, err = at.run()
		}
		if s.ctx.Err() != nil {
			return contextError(s.ctx, "the stream ended")
		}
		if s.finished() {
			return errStreamClosed
		}
		if useful {
			tries.reset()
		}
		if final(batch.CodeOf(err)) {
			pointLasting.Hit()
			return err
		}
		if at != nil {
			continue
		}
		delay, patient := tries.next(time.Now(), err)
		pointNoCoordinator.Hit()
		s.logger.Warn("stream has no coordinator", "error", err, "retry", delay)
		if !patient && !s.refuse(err) {
			return err
		}
		s.pause(delay)
		if s.finished() {
			return errStreamClosed
		}
	}
}

// pause waits before the next try to open a session. It returns early when the stream's context ends, or Close was called and nothing is
// unanswered.
func (s *Stream) pause(delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for !s.finished() {
		select {
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		case <-s.work: // from Close, or a token that the last session left
		}
	}
}

// final reports whether a stream that could not open, or that broke, with this code would fail in the same way again. Such a stream ends
// instead of trying again.
func final(c batch.Code) bool {
	switch c {
	case batch.CodeInternal, batch.CodeDeadline, batch.CodeCancelled:
		return false
	}
	return !c.Retryable()
}

// run is the life of a session: it sends the unanswered batches, then new ones, until the connection breaks, the stream has ended, or the
// stream can move. next is the session to which the stream moves; nil means that another one must be opened. useful reports that the
// session was a success: answers came in it, or it lasted.
func (at *session) run() (next *session, useful bool, err error) {
	defer at.cancel()
	s := at.stream
	s.connect(at.opened, at.active)
	began := time.Now()

	var answers int
	var broken error
	moved := make(chan *session, 1)
	go func() {
		defer close(at.over)
		answers, broken = at.receive()
	}()
	go func() { moved <- at.move() }()
	err = at.send()
	at.cancel()
	<-at.over
	next = <-moved
	s.disconnect()
	if err == nil {
		err = broken
	}
	return next, answers > 0 || time.Since(began) > minUseful, err
}

// connect notes in the stream's state that a session begins: nothing has been sent in it, and nothing may be sent until the coordinator
// grants credit. o is the coordinator's first message, and active the flow's active revision.
func (s *Stream) connect(o *pb.Opened, active batch.Revision) {
	s.logger.Info("stream opened", "coordinator", o.GetCoordinator(), "revision", o.GetRevision())
	l := o.GetLimits()
	s.mu.Lock()
	s.connected, s.refusal, s.positions = true, nil, o.GetPositions()
	s.setRevision(active, o.GetShardKey())
	s.limits = batch.Limits{RowBytes: int(l.GetRowBytes()), BatchBytes: int(l.GetBatchBytes()), BatchRows: int(l.GetBatchRows())}
	s.mu.Unlock()
	select {
	case <-s.opened:
	default:
		close(s.opened) // only run's goroutine gets here
	}
}

// disconnect notes in the stream's state that the session has ended: every unanswered batch goes to the outbox, in the order of Send, to
// be sent again. A batch that was sent may have run, so it is pinned to the revision that it named.
func (s *Stream) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.moving, s.credit, s.queued = false, false, size{}, size{}
	s.outbox = make([]*Pending, 0, len(s.unanswered))
	for _, p := range s.unanswered {
		if p.sent {
			pointBroken.Hit()
			p.batch.Doubt(s.flow)
			p.pin()
			p.sent = false
		}
		s.outbox = append(s.outbox, p)
		s.noteDeadline(p)
		s.queued = s.queued.plus(sizeOf(&p.columns))
	}
	slices.SortFunc(s.outbox, func(a, b *Pending) int { return cmp.Compare(a.order, b.order) })
}

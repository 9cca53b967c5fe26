package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

const (
	// steady is how long a session must last to count as a success though it answered nothing.
	steady = 5 * time.Second
	// farewell bounds the wait for the coordinator to end a stream that the client has ended.
	farewell = time.Second
)

// rpc is the client's end of one gRPC stream.
type rpc = pb.Ingest_StreamClient

// run has one session after the other until the stream ends.
func (s *Stream) run() {
	tries := s.client.options.retries()
	err := s.sessions(tries)
	s.mu.Lock()
	s.refusal = err
	s.fail(err)
	s.mu.Unlock()
	wake(s.room)
	s.producer.retire()
	s.client.mu.Lock()
	delete(s.client.streams, s)
	s.client.mu.Unlock()
	s.client.forget(s.producer)
	s.cancel(err)
	s.keeper.Wait()
	close(s.stopped)
}

// sessions returns why the stream ended.
func (s *Stream) sessions(tries *retries) error {
	var at *session
	defer func() {
		if at != nil {
			at.cancel()
		}
	}()
	for {
		next, good, err := s.runSession(at)
		at = next
		if s.ctx.Err() != nil {
			return ended(s.ctx, "the stream ended")
		}
		if s.finished() {
			return errStreamClosed
		}
		if good {
			tries.reset()
		}
		if final(batch.CodeOf(err)) {
			return err
		}
		if at != nil {
			continue
		}
		delay, patient := tries.next(time.Now(), err)
		s.logger.Warn("stream has no coordinator", "error", err, "retry", delay)
		if !patient && !s.outage(err) {
			return err
		}
		s.pause(delay)
		if s.finished() {
			return errStreamClosed
		}
	}
}

// pause waits before the next try, unless the stream ends meanwhile.
func (s *Stream) pause(delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for !s.finished() {
		select {
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		case <-s.work: // Close, or what was left of the last session
		}
	}
}

// final reports whether a stream that ended with the code will do so again.
func final(c batch.Code) bool {
	switch c {
	case batch.CodeInternal, batch.CodeDeadline, batch.CodeCancelled:
		return false
	}
	return !c.Retryable()
}

// session is a gRPC stream that a coordinator has taken. Who has it last calls cancel.
type session struct {
	remote rpc
	opened *pb.Opened
	active batch.Revision // as opened has it
	ctx    context.Context
	cancel context.CancelFunc
}

// runSession is the life of one session, which it opens unless one is given: it sends what is unanswered, then what comes,
// until something breaks, or the stream can move to the next one. good tells that it was of use.
func (s *Stream) runSession(at *session) (next *session, good bool, err error) {
	if at == nil {
		if at, err = s.open(nil); err != nil {
			return nil, false, err
		}
	}
	defer at.cancel()
	s.connect(at.opened, at.active)
	began := time.Now()

	var answers int
	var broken error
	over, asked, moved := make(chan struct{}), make(chan int, 1), make(chan *session, 1)
	go func() {
		defer close(over)
		answers, broken = s.receive(at.remote, asked)
	}()
	go func() { moved <- s.move(at, asked, over) }()
	err = s.send(at.remote, over)
	at.cancel()
	<-over
	next = <-moved
	s.disconnect()
	if err == nil {
		err = broken
	}
	return next, answers > 0 || time.Since(began) > steady, err
}

// open asks a coordinator to take the stream; one that has fewer than its share, and while the session lasts, if the stream is
// to leave another.
func (s *Stream) open(leaving *session) (*session, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	attached := func() bool { return true }
	if leaving != nil {
		attached = context.AfterFunc(leaving.ctx, cancel)
	}
	timeout := s.client.options.open
	timer := time.AfterFunc(timeout, cancel)
	remote, response, err := s.ask(ctx, leaving != nil)
	opened := response.GetOpened()
	switch inTime, inSession := timer.Stop(), attached(); {
	case !inSession:
		err = batch.Errorf(batch.CodeUnavailable, "the session that the stream was to leave is over")
	case !inTime && s.ctx.Err() == nil:
		err = batch.Errorf(batch.CodeUnavailable, "no coordinator took the stream within %s", timeout)
	case err != nil:
		err = gone(err)
	case opened == nil:
		err = batch.Errorf(batch.CodeBadMessage, "the coordinator's first message is not Opened: check its address and its build")
	case opened.GetProtocol() != wire.Protocol:
		err = batch.Errorf(batch.CodeProtocolMismatch, "coordinator %s chose protocol %d, this client speaks %d: use builds that share one",
			opened.GetCoordinator(), opened.GetProtocol(), wire.Protocol)
	}
	active, defect := wire.ToRevision(opened.GetRevision(), opened.GetDigest())
	if err = cmp.Or(err, defect); err != nil {
		cancel()
		return nil, err
	}
	return &session{remote: remote, opened: opened, active: active, ctx: ctx, cancel: cancel}, nil
}

// ask sends the first request and waits for the first response.
func (s *Stream) ask(ctx context.Context, moving bool) (rpc, *pb.StreamResponse, error) {
	remote, err := s.client.ingest.Stream(ctx, takesMost)
	if err != nil {
		return nil, nil, s.client.unreachable(wire.FromStatus(err))
	}
	// A failed Send is told by Recv, with the reason.
	_ = remote.Send(&pb.StreamRequest{Kind: &pb.StreamRequest_Open{Open: &pb.Open{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol,
		Flow: s.flow, Stream: s.producer.id[:], Floor: s.producer.floor(time.Now()), Unanswered: s.owed(), Moving: moving,
		TakesBytes: takesBytes,
	}}})
	response, err := remote.Recv()
	return remote, response, err
}

// owed reports whether answers are to come.
func (s *Stream) owed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unanswered) > 0
}

// gone is the error of a stream that the other side ended.
func gone(err error) error {
	if errors.Is(err, io.EOF) {
		return batch.Errorf(batch.CodeUnavailable, "the coordinator ended the stream")
	}
	return wire.FromStatus(err)
}

// connect begins a session: nothing has gone out in it, and nothing may until credit comes.
func (s *Stream) connect(o *pb.Opened, active batch.Revision) {
	s.logger.Info("stream opened", "coordinator", o.GetCoordinator(), "revision", o.GetRevision())
	l := o.GetLimits()
	s.mu.Lock()
	s.connected, s.refusal = true, nil
	s.setRevision(active, o.GetShardKey())
	s.limits = batch.Limits{RowBytes: int(l.GetRowBytes()), BatchBytes: int(l.GetBatchBytes()), BatchRows: int(l.GetBatchRows())}
	s.mu.Unlock()
	select {
	case <-s.opened:
	default:
		close(s.opened) // by the one goroutine that opens
	}
}

// disconnect ends a session: all that is unanswered is to be sent again, in order, before anything new.
func (s *Stream) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.moving, s.credit, s.queued = false, false, size{}, size{}
	s.outbox = make([]*Pending, 0, len(s.unanswered))
	for _, p := range s.unanswered {
		if p.sent {
			p.batch.Doubt(s.flow)
			p.pin()
			p.sent = false
		}
		s.outbox = append(s.outbox, p)
		s.keep(p)
		s.queued = s.queued.plus(sizeOf(&p.columns))
	}
	slices.SortFunc(s.outbox, func(a, b *Pending) int { return cmp.Compare(a.order, b.order) })
}

// outage fails what is unanswered, and every Send until a coordinator is back. It reports whether the stream goes on: one
// that never opened does not.
func (s *Stream) outage(err error) bool {
	select {
	case <-s.opened:
	default:
		return false
	}
	err = fmt.Errorf("no coordinator for %s, the stream goes on trying: %w", s.client.options.retryFor, err)
	s.mu.Lock()
	s.refusal = err
	s.fail(err)
	s.mu.Unlock()
	wake(s.room)
	return true
}

// fail ends all that is unanswered, in order. The caller holds mu, and no session is under way.
func (s *Stream) fail(err error) {
	for _, p := range s.outbox {
		s.end(p, err)
	}
	clear(s.unanswered)
	s.outbox, s.queued = nil, size{}
}

// end ends a batch that is in no session. The caller holds mu, and takes it out of where it is.
func (s *Stream) end(p *Pending, err error) {
	p.err = s.producer.failed(p.batch, s.flow, err, true)
	p.endTrace(p.err)
	close(p.done)
}

// finished reports whether Close may return.
func (s *Stream) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing && len(s.unanswered) == 0
}

// send sends until the session is over, or all is answered and the stream closed or about to move. An error is its own; why
// the connection broke is for receive to tell.
func (s *Stream) send(remote rpc, over <-chan struct{}) error {
	for {
		p, message, err := s.next()
		if err != nil {
			s.complete(p, err)
			continue
		}
		if p == nil {
			if s.finished() || s.moves() {
				s.leave(remote, over)
				return nil
			}
			select {
			case <-s.work:
				continue
			case <-over:
				return nil
			}
		}
		switch err := remote.Send(message); {
		case err == nil:
		case errors.Is(err, io.EOF) || s.ctx.Err() != nil:
			return nil
		default:
			// gRPC could not even pack it, could not the next time, and has ended the session over it.
			s.complete(p, wire.FromStatus(err))
			return batch.Errorf(batch.CodeUnavailable, "the session ended over a batch that can't be sent: %w", err)
		}
	}
}

// next takes the first batch of the outbox for which there is credit, and which is not late. An error says that it can't be sent: it
// was accepted by the limits of a coordinator before, and this one's are lower.
func (s *Stream) next() (*Pending, *pb.StreamRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.outbox) > 0 && s.outbox[0].late(now) {
		s.lapse(s.outbox[0])
		s.outbox = s.outbox[1:]
	}
	if len(s.outbox) == 0 || s.moving || !s.credit.positive() {
		return nil, nil, nil
	}
	p := s.outbox[0]
	s.outbox[0] = nil
	s.outbox = s.outbox[1:]
	s.queued = s.queued.minus(sizeOf(&p.columns))
	if err := over(&p.columns, s.limits); err != nil {
		return p, nil, err
	}
	s.credit = s.credit.minus(sizeOf(&p.columns))
	p.begin(s.revision)
	return p, &pb.StreamRequest{Kind: &pb.StreamRequest_Submission{Submission: p.submission(s.producer.floor(now), now)}}, nil
}

// over is why a batch is more than a coordinator takes; nil: it is not.
func over(c *batch.Columns, l batch.Limits) error {
	l = l.WithDefaults()
	switch {
	case len(c.Data) > l.BatchBytes:
		return batch.Errorf(batch.CodeBatchTooLarge, "the batch has %d bytes, over the limit of %d bytes of the coordinator that the stream has now: "+
			"raise --max-batch-bytes there and submit the batch again, or send smaller ones", len(c.Data), l.BatchBytes)
	case c.Len() > l.BatchRows:
		return batch.Errorf(batch.CodeTooManyRows, "the batch has %d rows, over the limit of %d rows of the coordinator that the stream has now: "+
			"raise --max-batch-rows there and submit the batch again, or send smaller ones", c.Len(), l.BatchRows)
	}
	return nil
}

// leave tells the coordinator that nothing more will come, and gives it a moment to end the stream in peace.
func (s *Stream) leave(remote rpc, over <-chan struct{}) {
	if remote.CloseSend() != nil {
		return // the session is over anyway
	}
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	}
}

// receive reads until the session breaks, and returns why and how many answers came. It passes on how many coordinators there
// are when one asks the stream to move.
func (s *Stream) receive(remote rpc, asked chan<- int) (answers int, err error) {
	for {
		response := new(pb.StreamResponse)
		lent := &wire.Lent{Message: response}
		if err := remote.RecvMsg(lent); err != nil {
			return answers, gone(err)
		}
		switch m := response.GetKind().(type) {
		case *pb.StreamResponse_Answer:
			s.answer(m.Answer, lent)
			answers++
		case *pb.StreamResponse_Credit:
			s.grant(size{int64(m.Credit.GetRows()), int64(m.Credit.GetBytes())})
		case *pb.StreamResponse_Switched:
			active, err := wire.ToRevision(m.Switched.GetRevision(), m.Switched.GetDigest())
			if err != nil {
				return answers, err
			}
			s.mu.Lock()
			s.setRevision(active, m.Switched.GetShardKey())
			s.mu.Unlock()
		case *pb.StreamResponse_Move:
			select {
			case asked <- int(m.Move.GetCoordinators()):
			default: // it is looking for one already
			}
		}
	}
}

// setRevision notes which revision is active, and the field that it goes by. The caller holds mu.
func (s *Stream) setRevision(revision batch.Revision, field string) {
	s.revision = revision
	switch field {
	case s.shardKey:
	case "":
		s.shardKey, s.key = "", nil
	default:
		key := batch.NewKeyField(field)
		s.shardKey, s.key = field, &key
	}
}

// grant adds to the window.
func (s *Stream) grant(credit size) {
	s.mu.Lock()
	s.credit = s.credit.plus(credit)
	s.mu.Unlock()
	wake(s.work)
	wake(s.room)
}

// answer takes what the coordinator says of one batch.
func (s *Stream) answer(a *pb.Answer, lent *wire.Lent) {
	refused := wire.ToError(a.GetRefused())
	ran, err := wire.ToRevision(a.GetRevision(), a.GetDigest())
	s.mu.Lock()
	p := s.unanswered[a.GetSequence()]
	if p == nil || !p.sent {
		s.mu.Unlock()
		return // its Pending ended before, and nobody waits
	}
	if refused == nil && err == nil {
		p.batch.PinTo(ran)
	}
	s.mu.Unlock()

	switch {
	case refused != nil:
		s.complete(p, refused)
	default:
		if err == nil {
			err = p.add(a, lent)
		}
		if err != nil {
			p.batch.Doubt(s.flow)
			s.complete(p, err)
		} else if a.GetLast() {
			s.complete(p, nil)
		}
	}
}

// complete ends a batch that went out in this session. Only the session's goroutines call it.
func (s *Stream) complete(p *Pending, err error) {
	s.mu.Lock()
	delete(s.unanswered, p.id.Sequence)
	if err == nil {
		s.producer.answered(p.batch, s.flow, p.result)
	} else {
		p.err = s.producer.failed(p.batch, s.flow, err, true)
	}
	last := (s.closing || s.moving) && len(s.unanswered) == len(s.outbox)
	s.mu.Unlock()
	p.endTrace(p.err)
	close(p.done)
	if last {
		wake(s.work)
	}
}

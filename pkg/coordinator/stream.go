package coordinator

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// stream is one client's Stream call.
type stream struct {
	ingest          *ingest
	server          pb.Ingest_StreamServer
	id              batch.StreamID
	flow            string
	window          *window
	endings         *queue[ending]
	cancel          context.CancelCauseFunc
	moveRequests    chan int      // capacity 1: the stream is to move, there being so many coordinators
	done            chan struct{} // closed when the call has ended and its batches are cancelled
	movedHere       bool          // it comes from another coordinator, which has more than its share
	maxAnswer       int           // bytes of one message
	acceptsOmission bool          // the client understands that output was left out

	askedToMove  time.Time     // guarded by ingest.mu: when it was last asked to move
	movePatience time.Duration // guarded by ingest.mu: how long it counts as moving since then

	writes atomic.Uint64 // begun and ended, together: odd while one is under way

	// Owned by the goroutine that sends.
	revision batch.Revision // that the client was told of last
	credit   size           // that the client is to get for what it was answered
	credited bool           // there is some, if only of an empty batch

	mu         sync.Mutex
	unanswered map[uint64]*submission // guarded by mu
	closing    bool                   // guarded by mu: no submission is tracked any more
	posting    sync.WaitGroup         // submissions tracked and not with the scheduler yet
}

// size is rows, and bytes of their data.
type size struct{ rows, bytes int64 }

// Stream is a client's ordered stream of batches for one flow.
func (i *ingest) Stream(server pb.Ingest_StreamServer) error {
	s, err := i.open(server)
	if err != nil {
		return wire.Status(err)
	}
	defer s.window.close()
	ctx, cancel := context.WithCancelCause(server.Context())
	s.cancel, s.window.answers.end, s.window.answers.shed = cancel, cancel, s.shed
	defer cancel(nil)
	err = i.register(ctx, s)
	if s.movedHere {
		i.movingArrived()
	}
	if err != nil {
		return wire.Status(err)
	}
	defer i.unregister(s)

	received := make(chan struct{})
	sent := make(chan error, 1)
	// Recv returns only when this method has, and so does Send to a client that reads nothing: it is Run that waits for both.
	i.carriers.Go(func() {
		if err := s.receive(ctx); err != nil {
			cancel(err) // the sender may be stuck, with a client that reads nothing
		}
		close(received)
	})
	i.carriers.Go(func() { sent <- s.send(ctx, received) })
	err = s.await(ctx, sent)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // also where the sender was faster
	}
	cancel(err)
	s.cancelBatches()
	for _, e := range s.endings.close() {
		e.result.taken()
	}
	return wire.Status(err)
}

// takePatience is how long a client may take for one answer while others wait for what its window has overdrawn, or for workers that
// wait for it; at the most twice that.
const takePatience = 5 * time.Second

// await waits for the end of the call, and ends it when its client takes nothing and others wait for that.
func (s *stream) await(ctx context.Context, sent <-chan error) error {
	look := time.NewTicker(takePatience)
	defer look.Stop()
	for before := uint64(0); ; {
		select {
		case err := <-sent:
			return err
		case <-ctx.Done():
			return nil
		case <-look.C:
			now := s.writes.Load()
			if now%2 == 1 && now == before && (s.window.blocks() || s.window.answers.blocks() || s.holdsUpOthers(ctx)) {
				return refuse.Untaken()
			}
			before = now
		}
	}
}

// holdsUpOthers reports whether workers wait for this client, maybe among others, to take its answers, and there are others whose rows
// may wait there: streams whose clients take theirs, calls, and clients of other coordinators.
func (s *stream) holdsUpOthers(ctx context.Context) bool {
	i := s.ingest
	if !i.budget.called() && len(i.coordinators()) < 2 && !i.anotherBusy(s) {
		return false
	}
	holds := make(chan bool, 1)
	i.loop.do(ctx, func(l *schedulerLoop) {
		some := false
		for _, k := range l.peers {
			some = some || k.untaken.holdsBack(s.flow)
		}
		holds <- some
	})
	select {
	case some := <-holds:
		return some
	default: // the call ends, or the coordinator
		return false
	}
}

// anotherBusy reports whether there is another stream with batches under way whose client takes what it is answered.
func (i *ingest) anotherBusy(s *stream) bool {
	i.mu.Lock()
	open := slices.Collect(maps.Values(i.streams))
	i.mu.Unlock()
	return slices.ContainsFunc(open, func(o *stream) bool { return o != s && o.writes.Load()%2 == 0 && !o.idle() })
}

// open reads the first message and answers it.
func (i *ingest) open(server pb.Ingest_StreamServer) (_ *stream, failed error) {
	m, err := server.Recv()
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	o := m.GetOpen()
	if o == nil {
		return nil, batch.Errorf(batch.CodeBadMessage, "a stream's first message is Open")
	}
	if o.GetProtocolMin() > wire.Protocol || o.GetProtocolMax() < wire.Protocol {
		return nil, batch.Errorf(batch.CodeProtocolMismatch, "the client speaks protocol %d to %d, this coordinator %d: upgrade the older one",
			o.GetProtocolMin(), o.GetProtocolMax(), wire.Protocol)
	}
	id, err := batch.StreamIDFrom(o.GetStream())
	if err != nil {
		return nil, err
	}
	if err := i.whyClosed(); err != nil {
		return nil, err
	}
	if o.GetMoving() { // first, as it may be asked often, and in vain
		if !i.admitMoving(id) {
			return nil, batch.Errorf(batch.CodeUnavailable, "this coordinator has its share of streams: the stream stays where it is, or moves to another one")
		}
		defer func() {
			if failed != nil {
				i.movingArrived()
			}
		}()
	}
	r, err := i.revisions.active(server.Context(), o.GetFlow(), batch.Revision{})
	switch {
	case err == nil:
	case o.GetUnanswered():
		r = &flowstate.Revision{} // new batches are refused one by one
	default:
		return nil, err
	}
	w := openWindow(i.budget)
	if w == nil {
		return nil, refuse.Overloaded()
	}
	s := &stream{
		ingest: i, server: server, id: id, flow: o.GetFlow(), window: w, endings: newQueue[ending](), moveRequests: make(chan int, 1), movedHere: o.GetMoving(),
		done: make(chan struct{}), revision: r.ID(), unanswered: map[uint64]*submission{},
		maxAnswer: i.clientTakes(o.GetTakesBytes()), acceptsOmission: o.GetTakesBytes() > 0,
	}
	opened := &pb.Opened{
		Protocol: wire.Protocol, Coordinator: i.id, Revision: r.Number, Digest: wire.FromDigest(r.Digest), ShardKey: r.ShardKey,
		Limits: limitsOf(i.limits),
	}
	for _, m := range []*pb.StreamResponse{
		{Kind: &pb.StreamResponse_Opened{Opened: opened}},
		{Kind: &pb.StreamResponse_Credit{Credit: &pb.Credit{Rows: firstWindowRows, Bytes: firstWindowBytes}}},
	} {
		if err := server.Send(m); err != nil {
			w.close()
			return nil, wire.FromStatus(err)
		}
	}
	return s, nil
}

// register makes s the one call of its stream. A call that the client has left behind is ended first, with its batches, so
// that what is sent again comes after it.
func (i *ingest) register(ctx context.Context, s *stream) error {
	for {
		i.mu.Lock()
		old := i.streams[s.id]
		if old == nil {
			i.streams[s.id] = s
			i.mu.Unlock()
			return nil
		}
		i.mu.Unlock()
		old.cancel(batch.Errorf(batch.CodeCancelled, "the client opened its stream %s again", s.id))
		select {
		case <-old.done:
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "open stream %s: the client left", s.id)
		}
	}
}

func (i *ingest) unregister(s *stream) {
	i.mu.Lock()
	delete(i.streams, s.id)
	i.mu.Unlock()
	close(s.done)
}

// receive takes submissions until the client closes its side or the coordinator drains, both with nil, or the call ends.
func (s *stream) receive(ctx context.Context) error {
	for {
		m := new(pb.StreamRequest)
		lent := &wire.Lent{Message: m}
		err := s.server.RecvMsg(lent)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return wire.FromStatus(err)
		}
		in := m.GetSubmission()
		if in == nil {
			return batch.Errorf(batch.CodeBadMessage, "after Open a stream carries submissions only")
		}
		if isClosed(s.ingest.draining) {
			return nil // the client sends it to another coordinator, with what is not answered when the call ends
		}
		spent := size{int64(len(in.GetRows().GetEnds())), int64(len(in.GetRows().GetData()))}
		if err := s.window.spend(ctx, spent); err != nil {
			return err
		}
		sub, err := s.ingest.submission(ctx, s.flow, s.id, in, s.maxAnswer, false)
		if err != nil {
			s.endings.put(ending{submission: refused(in, spent), refused: err, last: true})
			continue
		}
		sub.endings, sub.answers, sub.streams, sub.lent, sub.spent = s.endings, s.window.answers, true, lent, spent
		if err := s.track(sub); err != nil {
			return err
		}
		posted := s.ingest.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch})
		s.posting.Done()
		if !posted {
			return refuse.Stopped()
		}
	}
}

// track keeps a submission until it is answered. It fails once the stream is ending: nobody would cancel it.
func (s *stream) track(sub *submission) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return refuse.Stopped()
	}
	if s.unanswered[sub.id.Sequence] != nil {
		return batch.Errorf(batch.CodeBadBatchID, "batch %s is under way on this stream already: send it again when it is answered", sub.id)
	}
	s.unanswered[sub.id.Sequence] = sub
	s.posting.Add(1)
	return nil
}

// forget drops a submission that is answered.
func (s *stream) forget(sub *submission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unanswered[sub.id.Sequence] == sub {
		delete(s.unanswered, sub.id.Sequence)
	}
}

// shed lets go of the output of the stream's only batch, if the client understands that: ended and sent again, it would come to the
// same. A stream with more batches is ended, and sends fewer at a time when it is opened again.
func (s *stream) shed() bool {
	if !s.acceptsOmission {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) != 1 {
		return false
	}
	for _, sub := range s.unanswered {
		sub.shedOutput()
	}
	return true
}

func (s *stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unanswered) == 0
}

// cancelBatches tells the scheduler that nobody waits for the stream's batches any more.
func (s *stream) cancelBatches() {
	s.mu.Lock()
	s.closing = true
	left := s.unanswered
	s.unanswered = nil
	s.mu.Unlock()
	s.posting.Wait()
	for _, sub := range left {
		sub.span.end(errStreamEnded)
		s.ingest.loop.post(context.Background(), scheduler.Cancelled{Batch: &sub.Batch})
	}
}

// send writes answers and credit until the client has closed its side and has every answer, or the call ends.
func (s *stream) send(ctx context.Context, received <-chan struct{}) error {
	var items []ending
	defer func() {
		for _, e := range items {
			e.result.taken() // nobody will, where it was not sent
		}
	}()
	closed := false
	draining := s.ingest.draining
	for {
		catalog, changed := s.ingest.board.Watch()
		if catalog.CutOff {
			return refuse.CutOff()
		}
		if err := s.sendSwitched(catalog); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ingest.loop.done:
			return refuse.Stopped()
		case <-received:
			closed, received = true, nil
		case <-draining:
			draining = nil
		case <-changed:
		case n := <-s.moveRequests:
			if err := s.write(&pb.StreamResponse{Kind: &pb.StreamResponse_Move{Move: &pb.Move{Coordinators: uint32(n)}}}); err != nil {
				return err
			}
		case <-s.endings.ready:
		}
		items = s.endings.take(items)
		s.ingest.letters.keep(ctx, items)
		for _, e := range items {
			if err := s.sendEnding(e); err != nil {
				return err
			}
		}
		if err := s.sendCredit(); err != nil {
			return err
		}
		if s.idle() && (closed || draining == nil) {
			if isClosed(s.ingest.draining) {
				return refuse.Draining()
			}
			return nil
		}
	}
}

// sendSwitched tells the client when another revision is active, so that it hashes the right field.
func (s *stream) sendSwitched(c *flowstate.Snapshot) error {
	e := c.Flows[s.flow]
	if e == nil || e.Active == nil || e.Active.ID() == s.revision {
		return nil
	}
	s.revision = e.Active.ID()
	m := &pb.Switched{Revision: e.Active.Number, Digest: wire.FromDigest(e.Active.Digest), ShardKey: e.Active.ShardKey}
	return s.write(&pb.StreamResponse{Kind: &pb.StreamResponse_Switched{Switched: m}})
}

// write sends one message. It blocks while the client takes nothing.
func (s *stream) write(m any) error {
	s.writes.Add(1)
	defer s.writes.Add(1)
	if err := s.server.SendMsg(m); err != nil {
		return wire.FromStatus(err)
	}
	return nil
}

func (s *stream) sendEnding(e ending) error {
	sub := e.submission
	sub.leaveOut(e.result) // it may have come before output was let go
	for _, a := range sub.answer(e) {
		m := &wire.Lent{Message: &pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: a}}}
		if e.result != nil {
			m = e.result.lent.Lend(m.Message) // the output is passed on where it was received
		}
		if err := s.write(m); err != nil {
			return err
		}
	}
	if e.result != nil {
		e.result.lent.Release()
	}
	e.result.taken()
	if e.bytes > 0 {
		s.window.answers.take(e.bytes)
	}
	if !e.last {
		return nil
	}
	defer sub.letGo()
	s.forget(sub)
	credit := s.window.restore(sub.spent)
	s.credit, s.credited = size{s.credit.rows + credit.rows, s.credit.bytes + credit.bytes}, true
	return nil
}

// sendCredit grants what answered batches have freed: once for all that were answered together.
func (s *stream) sendCredit() error {
	if !s.credited {
		return nil
	}
	s.credited = false
	c := &pb.Credit{Rows: uint32(s.credit.rows), Bytes: uint32(s.credit.bytes)}
	s.credit = size{}
	return s.write(&pb.StreamResponse{Kind: &pb.StreamResponse_Credit{Credit: c}})
}

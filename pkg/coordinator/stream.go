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

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/httpapi"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// stream is one client's call of Stream: batches of one flow come in, in order, and answers go out. Three goroutines serve it: one
// receives, one sends, and the call's own waits for both.
//
//	┌──────┐  Opened, first   ┌─────────┐  the client closes its side,  ┌───────────┐  all batches   ┌───────┐
//	│ open │ ───────────────> │ running │ ────────────────────────────> │ finishing │ ─────────────> │ ended │
//	└──────┘  credit          └─────────┘  or the coordinator drains    └───────────┘  are answered  └───────┘
//	                               │                                          │                          ^
//	                               └──────────────────────────────────────────┴──────────────────────────┘
//	                                 an error, or the client opens the stream again: the batches are cancelled,
//	                                 and the client may submit them again
type stream struct {
	ingest          *ingest
	server          pb.Ingest_StreamServer
	id              batch.StreamID
	flow            string
	owner           string // the name of the caller; "" where there is no access file
	window          *window
	endings         *queue[ending]          // gets the outcomes of rows from the scheduler; the goroutine that sends takes them
	cancel          context.CancelCauseFunc // ends the call with an error
	moveRequests    chan int                // capacity 1; a number in it asks the client to move the stream, and says how many coordinators there are to choose from
	done            chan struct{}           // closed when the call has ended and its batches are cancelled
	movedHere       bool                    // the client moved the stream here from another coordinator, which had more than its share of streams
	maxAnswer       int                     // the most bytes of one answer that the client accepts
	acceptsOmission bool                    // the client understands answers whose output was left out
	tellFinished    bool                    // the client wants to know of each row that has ended, before its batch has

	askedToMove  time.Time     // guarded by ingest.mu: when the client was last asked to move the stream
	stays        bool          // the client can't move the stream, because it is one HTTP request
	movePatience time.Duration // guarded by ingest.mu: for how long after that the stream counts as moving

	writes atomic.Uint64 // number of beginnings and ends of writes to the client; it is odd while a write is under way

	// The goroutine that sends owns these.
	revision batch.Revision // the revision that the client was told last
	credit   size           // the credit for answered batches that is still to be granted to the client
	credited bool           // a batch was answered since credit was granted last, so a message with credit is due even if it has none

	mu         sync.Mutex
	unanswered map[uint64]*submission // guarded by mu: the submissions that are not answered, by sequence
	closing    bool                   // guarded by mu: no further submission is tracked
	posting    sync.WaitGroup         // waits for submissions that are tracked and not yet handed to the scheduler
}

// streamKey names a stream. Streams of different flows have nothing to do with each other, also if a caller gives them the same id.
type streamKey struct {
	flow string
	id   batch.StreamID
}

// key returns the stream's name.
func (s *stream) key() streamKey { return streamKey{s.flow, s.id} }

// size is the size of a batch, or of credit: a number of rows, and the bytes of their data.
type size struct{ rows, bytes int64 }

// Stream serves one client's ordered stream of batches for one flow. It blocks until the stream has ended.
func (i *ingest) Stream(server pb.Ingest_StreamServer) error {
	s, err := i.open(server)
	if err != nil {
		return wire.Status(err)
	}
	defer s.window.close()
	ctx, cancel := context.WithCancelCause(server.Context())
	s.cancel, s.window.answers.end, s.window.answers.dropOutput = cancel, cancel, s.dropOutput
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
	// Recv returns only after this method has returned, and so does Send to a client that does not read. Therefore this method does not
	// wait for these goroutines; Run does.
	i.carriers.Go(func() {
		if err := s.receive(ctx); err != nil {
			cancel(err) // the sender may be blocked by a client that does not read
		}
		close(received)
	})
	i.carriers.Go(func() { sent <- s.send(ctx, received) })
	err = s.await(ctx, sent)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the cause says more, also when the sender's error came first
	}
	cancel(err)
	s.cancelBatches()
	for _, e := range s.endings.close() {
		e.result.taken()
	}
	return wire.Status(err)
}

// takePatience is how long a client may take to read one answer while it keeps other clients waiting for the budget or for workers. It is
// also the interval of the check, so the client may in fact take up to twice as long.
const takePatience = 5 * time.Second

// await blocks until the goroutine that sends has ended, and returns its error, or until ctx is done, and returns nil. It returns an error
// when the client has not read an answer for takePatience or longer and keeps others waiting.
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
				pointUntaken.Hit()
				return refuse.Untaken()
			}
			before = now
		}
	}
}

// holdsUpOthers reports whether workers make no new results because this client does not read its answers, and others may wait for these
// workers: streams whose clients do read, calls, or clients of other coordinators.
func (s *stream) holdsUpOthers(ctx context.Context) bool {
	i := s.ingest
	if !i.budget.hasCalls() && len(i.coordinators()) < 2 && !i.anotherBusy(s) {
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
	default: // the call or the coordinator has ended
		return false
	}
}

// anotherBusy reports whether a stream other than s has batches under way and its client is reading: no write to it is blocked now.
func (i *ingest) anotherBusy(s *stream) bool {
	i.mu.Lock()
	open := slices.Collect(maps.Values(i.streams))
	i.mu.Unlock()
	return slices.ContainsFunc(open, func(o *stream) bool { return o != s && o.writes.Load()%2 == 0 && !o.idle() })
}

// open reads the client's first message, Open, and answers it with Opened and the first credit. It fails if the coordinator takes no
// batches, has its share of streams already (for a stream that moves here), or has no room in its budget for another one. It also fails if
// the flow does not run, unless the client has unanswered batches.
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
		return nil, batch.Errorf(batch.CodeProtocolMismatch, "the client speaks protocols %d to %d, this coordinator speaks %d: upgrade the older of the two",
			o.GetProtocolMin(), o.GetProtocolMax(), wire.Protocol)
	}
	id, err := batch.StreamIDFrom(o.GetStream())
	if err != nil {
		return nil, err
	}
	if err := i.whyClosed(); err != nil {
		return nil, err
	}
	if o.GetMoving() { // checked first, because it may be asked often and in vain
		if !i.admitMoving(streamKey{o.GetFlow(), id}) {
			return nil, batch.Errorf(batch.CodeUnavailable, "this coordinator has its share of streams already: leave the stream where it is, or move it to another coordinator")
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
		r = &flowstate.Revision{} // the flow takes no new batches: each is refused on its own, and batches submitted before can be answered
	default:
		return nil, err
	}
	w := openWindow(i.budget)
	if w == nil {
		return nil, refuse.Overloaded()
	}
	s := &stream{
		ingest: i, server: server, id: id, flow: o.GetFlow(), owner: access.From(server.Context()).Named(), window: w, endings: newQueue[ending](), moveRequests: make(chan int, 1), movedHere: o.GetMoving(),
		done: make(chan struct{}), revision: r.ID(), unanswered: map[uint64]*submission{},
		maxAnswer: i.clientTakes(o.GetTakesBytes()), acceptsOmission: o.GetTakesBytes() > 0, tellFinished: o.GetTellFinished(), stays: httpapi.IsRequest(server.Context()),
	}
	opened := &pb.Opened{
		Protocol: wire.Protocol, Coordinator: i.id, Revision: r.Number, Digest: wire.FromDigest(r.Digest), ShardKey: r.ShardKey,
		Limits: limitsOf(i.limits), Positions: true,
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

// register makes s the only open call of its stream. If an earlier call of the same stream is still open, because the client has lost its
// connection, register ends that call first and waits until its batches are cancelled: the client may send these again. It fails if ctx is
// done before, or if the stream is open for another caller: ids are no secrets, since those who see dead letters see them.
func (i *ingest) register(ctx context.Context, s *stream) error {
	for {
		i.mu.Lock()
		old := i.streams[s.key()]
		if old == nil {
			i.streams[s.key()] = s
			i.mu.Unlock()
			return nil
		}
		i.mu.Unlock()
		if old.owner != s.owner {
			return batch.Errorf(batch.CodeBadBatchID, "another caller has the stream %s open: draw an id of your own at random", s.id)
		}
		pointReopened.Hit()
		old.cancel(batch.Errorf(batch.CodeCancelled, "the client opened its stream %s again", s.id))
		select {
		case <-old.done:
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "open stream %s: the client left", s.id)
		}
	}
}

// unregister removes s from the open streams and closes s.done, because the call has ended. After that another call of the same stream may
// register.
func (i *ingest) unregister(s *stream) {
	i.mu.Lock()
	delete(i.streams, s.key())
	i.mu.Unlock()
	close(s.done)
}

// receive receives the client's submissions and hands them to the scheduler. It returns nil when the client closes its side or the
// coordinator drains, and an error when the client breaks the protocol or the call has ended.
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
			return batch.Errorf(batch.CodeBadMessage, "after Open a stream has submissions only, and another message came: submit batches, or close the stream")
		}
		if isClosed(s.ingest.draining) {
			pointDrainedBatch.Hit()
			return nil // the client sends this batch, and those that are unanswered when the call ends, to another coordinator
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
		sub.endings, sub.answers, sub.streamed, sub.lent, sub.spent = s.endings, s.window.answers, true, lent, spent
		sub.tellFinished = s.tellFinished
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

// track adds a submission to those that are unanswered. It fails if the stream is ending, because the submission would not be cancelled, or
// if a batch of the same sequence is unanswered.
func (s *stream) track(sub *submission) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return refuse.Stopped()
	}
	if s.unanswered[sub.id.Sequence] != nil {
		return batch.Errorf(batch.CodeBadBatchID, "batch %s is under way on this stream already: wait for its answer before you send it again", sub.id)
	}
	s.unanswered[sub.id.Sequence] = sub
	s.posting.Add(1)
	return nil
}

// forget removes a submission, which is answered now, from those that are unanswered.
func (s *stream) forget(sub *submission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unanswered[sub.id.Sequence] == sub {
		delete(s.unanswered, sub.id.Sequence)
	}
}

// dropOutput drops the output of the stream's only unanswered batch and returns true, if the client understands that. If the client does
// not, or if there is not exactly one such batch, it returns false, so that the stream is ended: a client with several batches can send
// fewer at a time, but a single batch would have the same output again.
func (s *stream) dropOutput() bool {
	if !s.acceptsOmission {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unanswered) != 1 {
		return false
	}
	for _, sub := range s.unanswered {
		pointOutputDropped.Hit()
		sub.dropOutput()
	}
	return true
}

// idle reports whether every batch of the stream is answered.
func (s *stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unanswered) == 0
}

// cancelBatches tells the scheduler that no client waits for the stream's unanswered batches any more. No submission can be tracked after
// it.
func (s *stream) cancelBatches() {
	s.mu.Lock()
	s.closing = true
	left := s.unanswered
	s.unanswered = nil
	s.mu.Unlock()
	s.posting.Wait()
	for _, sub := range left {
		pointCancelled.Hit()
		sub.span.end(errStreamEnded)
		s.ingest.loop.post(context.Background(), scheduler.Cancelled{Batch: &sub.Batch})
	}
}

// send sends answers, credit and notices to the client. Once the client has closed its side (received is closed then) or the
// coordinator drains, it goes on until every batch is answered; then it returns nil, or an error if the coordinator drains. It
// returns an error at once when a write fails, ctx is done, or the coordinator stops or is cut off.
func (s *stream) send(ctx context.Context, received <-chan struct{}) error {
	var items []ending
	defer func() {
		for _, e := range items {
			e.result.taken() // for those that were not sent
		}
	}()
	closed := false
	draining := s.ingest.draining
	for {
		catalog, changed := s.ingest.board.Watch()
		if catalog.CutOff {
			pointSentAway.Hit()
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

// sendSwitched tells the client if another revision is active than the client was told last, so that the client hashes the shard key of
// that revision.
func (s *stream) sendSwitched(c *flowstate.Snapshot) error {
	e := c.Flows[s.flow]
	if e == nil || e.Active == nil || e.Active.ID() == s.revision {
		return nil
	}
	s.revision = e.Active.ID()
	m := &pb.Switched{Revision: e.Active.Number, Digest: wire.FromDigest(e.Active.Digest), ShardKey: e.Active.ShardKey}
	return s.write(&pb.StreamResponse{Kind: &pb.StreamResponse_Switched{Switched: m}})
}

// write sends one message to the client. It blocks while the client does not read.
func (s *stream) write(m any) error {
	s.writes.Add(1)
	defer s.writes.Add(1)
	if err := s.server.SendMsg(m); err != nil {
		return wire.FromStatus(err)
	}
	return nil
}

// sendEnding sends the answers that an ending makes, none or several. After a batch's last ending it forgets the batch and notes the credit
// to grant.
func (s *stream) sendEnding(e ending) error {
	sub := e.submission
	sub.stripDropped(e.result) // the result may have come before the output was dropped
	for _, a := range sub.answer(e) {
		m := &wire.Lent{Message: &pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: a}}}
		if e.result != nil {
			m = e.result.lent.Lend(m.Message) // the output goes out from the memory that it came in
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
	defer sub.release()
	s.forget(sub)
	credit := s.window.restore(sub.spent)
	s.credit, s.credited = size{s.credit.rows + credit.rows, s.credit.bytes + credit.bytes}, true
	return nil
}

// sendCredit grants the client credit for the batches that were answered since it was called last, in one message. If there are none, it
// sends nothing.
func (s *stream) sendCredit() error {
	if !s.credited {
		return nil
	}
	s.credited = false
	c := &pb.Credit{Rows: uint32(s.credit.rows), Bytes: uint32(s.credit.bytes)}
	s.credit = size{}
	return s.write(&pb.StreamResponse{Kind: &pb.StreamResponse_Credit{Credit: c}})
}

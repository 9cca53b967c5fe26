package coordinator

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// session runs one session with the worker: it dials, makes the handshake, and then sends instructions and receives results until an error
// ends the session. It returns that error. lived is true if the worker had answered the handshake.
func (p *workerPeer) session(ctx context.Context) (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var dialed atomic.Pointer[error]
	address := *p.address.Load()
	dialer := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := p.dial(ctx, address)
		if err != nil {
			dialed.Store(&err)
		}
		return conn, err
	}
	// The first failure is the reason; a failed dial says more than gRPC's error about it.
	reason := func(err error) error {
		if dial := dialed.Load(); dial != nil {
			return *dial
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return wire.FromStatus(err)
	}
	config := p.settings.transport
	var shown atomic.Pointer[x509.Certificate]
	if p.settings.guard != nil {
		config.CheckServer = func(c *x509.Certificate) error {
			shown.Store(c)
			err := p.settings.guard.CheckWorker(c)
			if err != nil {
				dialed.Store(&err)
			}
			return err
		}
	}
	conn, err := transport.Dial("passthrough:///"+address, config, grpc.WithContextDialer(dialer))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	patience := p.settings.lease
	if left := p.leaseLeft(p.lastHeard()); p.resumable && left > 0 {
		patience = left
	}
	handshake := time.AfterFunc(patience, func() {
		pointNoWelcome.Hit()
		cancel(batch.Errorf(batch.CodeDeadline, "worker %s did not answer the handshake within %s", p.worker.ID, patience))
	})
	defer handshake.Stop()
	stream, err := pb.NewWorkerClient(conn).Session(ctx)
	if err != nil {
		return false, reason(err)
	}
	kept, err := p.handshake(ctx, stream)
	if err != nil {
		return false, reason(err)
	}
	handshake.Stop()
	p.noteHeard()
	p.sessionDial = p.lastDial.Load()

	var listening sync.WaitGroup
	listening.Go(func() { cancel(p.watchSilence(ctx)) })
	if c := shown.Load(); c != nil {
		listening.Go(func() {
			if why := p.settings.guard.WatchWorker(ctx, c); why != nil {
				cancel(why)
			}
		})
	}
	counting := p.settings.book.BeginSession()
	read := make(chan struct{})
	go func() {
		defer close(read)
		cancel(p.read(ctx, stream, counting))
	}()
	p.endSession.Store(&cancel)
	p.connected.Store(true)
	p.everReached.Store(true)
	p.lost.Store(false)
	p.unreachable.Store(nil)
	p.owner.sessionBegan(ctx, p, kept)
	err = p.write(ctx, stream)
	if errors.Is(err, io.EOF) {
		<-read // the worker has ended the session; the reader gets the reason
	}
	cancel(err)
	<-read
	listening.Wait()
	p.settings.book.EndSession(time.Now(), counting)
	err = reason(err)
	if batch.CodeOf(err) == batch.CodeShutdown {
		p.draining.Store(true) // if its address refuses connections next, it has stopped, and has not died of the rows that it ran
	}
	p.connected.Store(false)
	p.endSession.Store(nil)
	// The scheduler sends the parts that were not sent again, in the next session. The queue is emptied before that session begins, so
	// that instructions which are put for it stay.
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerDisconnected{Worker: p.worker.ID})
		p.instructions.take(nil)
		p.taps.endAll()
	})
	return true, err
}

// handshake sends Hello, reads Welcome, and tells the scheduler that the session resumes the one before, or that the worker begins with
// nothing. kept are the revisions that the worker may still have. An error means that no session begins.
func (p *workerPeer) handshake(ctx context.Context, stream pb.Worker_SessionClient) (kept []definitionKey, err error) {
	hello := &pb.Hello{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Coordinator: p.settings.coordinator, Worker: p.worker.ID, Resume: p.resumable, Secret: p.secret,
		BatchBytes: uint32(p.settings.limits.BatchBytes), BatchRows: uint32(p.settings.limits.BatchRows),
		FollowsLimits: true, TakesFigures: true, UntakenLimit: uint64(p.settings.untakenLimit()),
	}
	err = stream.Send(&pb.CoordinatorMessage{
		ResultsReceived: p.resultsReceived.Load(), Untaken: p.untaken.begin(int64(hello.GetUntakenLimit())), Kind: &pb.CoordinatorMessage_Hello{Hello: hello},
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m, err := stream.Recv()
	if err != nil {
		if err := wire.FromStatus(err); batch.CodeOf(err) == batch.CodeNotFound {
			pointStranger.Hit()
			return nil, fmt.Errorf("%w: %w", errAnotherWorker, err)
		}
		return nil, err
	}
	welcome := m.GetWelcome()
	switch {
	case welcome == nil:
		return nil, batch.Errorf(batch.CodeBadMessage, "worker %s answered the handshake with a message that is not Welcome: it is defective", p.worker.ID)
	case welcome.GetProtocol() != wire.Protocol:
		return nil, batch.Errorf(batch.CodeProtocolMismatch, "worker %s chose protocol %d, and this coordinator speaks %d: upgrade the older of the two", p.worker.ID, welcome.GetProtocol(), wire.Protocol)
	}
	p.digests.Store(welcome.GetDigests())
	p.connectors.reset(welcome.GetTellsConnectors())
	p.locates.Store(welcome.GetLocates())
	p.knowsTaps.Store(welcome.GetTaps())
	if got := welcome.GetPartsReceived(); p.resumable && welcome.GetResumed() && got > p.lastPartSent {
		pointUnsentPart.Hit()
		return nil, batch.Errorf(batch.CodeBadMessage, "worker %s has part %d, and the last one that it was sent is %d", p.worker.ID, got, p.lastPartSent)
	}
	p.heartbeat = time.Duration(welcome.GetHeartbeatMilliseconds()) * time.Millisecond
	p.takesPositions = welcome.GetPositions()
	p.partLimits = limitsOfWorker(welcome, p.settings.limits)
	if p.resumable && welcome.GetResumed() {
		pointResumed.Hit()
		kept = p.definitions.begin(true, !welcome.GetDigests())
		p.loop.post(ctx, scheduler.WorkerResumed{Worker: p.worker.ID, PartsReceived: welcome.GetPartsReceived()})
		return kept, nil
	}
	p.definitions.begin(false, !welcome.GetDigests())
	if p.resumable {
		pointForgotten.Hit()
		p.giveUp(ctx, false) // the worker has forgotten the parts that it was sent
	}
	p.resultsReceived.Store(0)
	p.resumable, p.lastPartSent = true, 0
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerConnected{
			Worker: p.worker.ID, Name: p.slotName, PartRows: p.partLimits.rows, PartBytes: p.partLimits.bytes,
			Cordoned: p.cordoned.Load(),
		})
		l.peers[p.worker.ID] = p
	})
	return nil, nil
}

// read receives the worker's messages and acts on them until the session ends. It returns the error that ended it. counting is the session's
// number in the Book.
func (p *workerPeer) read(ctx context.Context, stream pb.Worker_SessionClient, counting uint64) error {
	for {
		m := new(pb.WorkerMessage)
		lent := &wire.Lent{Message: m}
		err := stream.RecvMsg(lent)
		if err != nil {
			return wire.FromStatus(err)
		}
		p.noteHeard()
		switch m := m.GetKind().(type) {
		case *pb.WorkerMessage_Result:
			err = p.receiveResult(ctx, &result{Result: m.Result, lent: lent})
		case *pb.WorkerMessage_Heartbeat:
			if told := m.Heartbeat.GetFigures(); told != nil {
				p.settings.book.Worker(time.Now(), counting, p.worker.ID, told)
			}
			if states := m.Heartbeat.GetConnectors(); len(states) > 0 {
				if err = p.connectors.update(states); err == nil {
					p.owner.peerChanged(ctx) // calls that wait for connectors look again
				}
			}
		case *pb.WorkerMessage_Credit:
			c := m.Credit
			p.loop.post(ctx, scheduler.Credited{Worker: p.worker.ID, Flow: c.GetFlow(), Rows: int64(c.GetRows()), Bytes: int64(c.GetBytes())})
		case *pb.WorkerMessage_Compiled:
			if c := m.Compiled; c.GetFresh() { // credit that came before this message does not count any more
				p.loop.post(ctx, scheduler.CreditEnded{Worker: p.worker.ID, Flow: c.GetFlow()})
			}
			var digest batch.Digest
			if digest, err = p.answeredDigest(m.Compiled); err == nil {
				p.owner.definitionAnswered(ctx, p, digest, m.Compiled)
			}
		case *pb.WorkerMessage_Located:
			p.locateCalls.answer(m.Located)
		case *pb.WorkerMessage_Tapped:
			p.taps.answer(m.Tapped)
		case *pb.WorkerMessage_Draining:
			p.draining.Store(true)
			p.loop.post(ctx, scheduler.WorkerDraining{Worker: p.worker.ID})
			p.owner.tellLeader()
		default:
			err = batch.Errorf(batch.CodeBadMessage, "worker %s sent a message of an unknown kind: upgrade the older of worker and coordinator", p.worker.ID)
		}
		if err != nil {
			return err
		}
	}
}

// answeredDigest notes that a worker has answered a definition, and returns the digest of its revision. Workers of early builds name only the
// number; then the order in which the definitions were sent tells which revision is meant.
func (p *workerPeer) answeredDigest(c *pb.Compiled) (batch.Digest, error) {
	digests := p.digests.Load()
	key := definitionKey{c.GetFlow(), batch.Revision{Number: c.GetRevision()}}
	if digests {
		var err error
		if key.revision, err = wire.ToRevision(c.GetRevision(), c.GetDigest()); err != nil {
			return batch.Digest{}, err
		}
	}
	key, asked := p.definitions.answered(key)
	if !asked && !digests {
		return batch.Digest{}, batch.Errorf(batch.CodeBadMessage, "worker %s answers for revision %d of flow %s, which it was not sent: it is defective",
			p.worker.ID, c.GetRevision(), c.GetFlow())
	}
	return key.revision.Digest, nil
}

// maxRows is the bound for row numbers in a worker's messages: each must be less.
const maxRows = 1 << 30

// receiveResult checks a worker's result and hands it to the scheduler. A result that came in an earlier session already is dropped. An
// error means that the result is malformed, and ends the session.
func (p *workerPeer) receiveResult(ctx context.Context, r *result) error {
	last := p.resultsReceived.Load()
	switch {
	case r.GetNumber() <= last:
		pointAgain.Hit()
		return nil
	case r.GetNumber() != last+1:
		return batch.Errorf(batch.CodeBadMessage, "worker %s sent result %d after result %d", p.worker.ID, r.GetNumber(), last)
	}
	e := scheduler.Answered{Worker: p.worker.ID, Part: r.GetPart(), Last: r.GetLast(), Result: r}
	var err error
	// Only the scheduler knows how many rows the part has; it ignores row numbers beyond.
	if e.Finished, err = wire.ToRanges(r.GetFinished(), maxRows); err != nil {
		return err
	}
	if e.Returned, err = wire.ToRanges(r.GetReturned(), maxRows); err != nil {
		return err
	}
	if e.Began, err = wire.ToRanges(r.GetBegan(), maxRows); err != nil {
		return err
	}
	if e.Parked, err = wire.ToRanges(r.GetParked(), maxRows); err != nil {
		return err
	}
	if e.NotDone, err = wire.ToRowOutcomes(r.GetNotDone(), maxRows); err != nil {
		return err
	}
	if row, twice := endedTwice(e.NotDone); twice {
		return batch.Errorf(batch.CodeBadMessage, "worker %s ended row %d of part %d twice in one result: it is defective", p.worker.ID, row, r.GetPart())
	}
	if _, err = wire.ToOutput(r.GetOutput(), maxRows); err != nil {
		return err
	}
	if _, err = wire.ToDeadRows(r.GetDead(), maxRows); err != nil {
		return err
	}
	if p.settings.tracer != nil {
		p.spans.answered(r.Result)
	}
	r.count(p.untaken) // before it is acknowledged
	if !p.loop.post(ctx, e) {
		r.taken() // the result comes again, or the coordinator ends
		return nil
	}
	p.resultsReceived.Store(r.GetNumber())
	p.instructions.wake()
	return nil
}

// endedTwice returns a row that is in outcomes more than once. found is false if there is none.
func endedTwice(outcomes []batch.RowOutcome) (row uint32, found bool) {
	rows := make([]uint32, len(outcomes))
	for i := range outcomes {
		rows[i] = outcomes[i].Row
	}
	slices.Sort(rows)
	for i := 1; i < len(rows); i++ {
		if rows[i] == rows[i-1] {
			return rows[i], true
		}
	}
	return 0, false
}

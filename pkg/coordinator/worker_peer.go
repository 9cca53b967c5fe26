package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// order is one thing to tell a worker: one field is set.
type instruction struct {
	part    *scheduler.Part
	release *scheduler.Release
	define  *flowstate.Revision
	forget  *definitionKey
	active  *definitionKey // new batches run on it from now on
	locate  *pb.Locate
}

// link keeps a session with one worker going until the worker is given up.
type workerPeer struct {
	worker       cluster.Worker
	slotName     string // by which slots are shared out: the worker's, or its id while another one has that name
	secret       []byte // known to this coordinator and the worker alone; goes into each Hello
	fleet        *fleet
	loop         *schedulerLoop
	log          hclog.Logger
	instructions *queue[instruction]
	untaken      *untakenResults // what clients have not taken of its results
	createdAt    time.Time
	cancel       context.CancelCauseFunc // with errGone: the worker's key is

	// received is the number of the last result; written by the session's reader, read by its writer.
	resultsReceived atomic.Uint64
	// draining: the worker said so, or that it ends; written by the session's goroutines and the fleet.
	draining atomic.Bool
	// connected: a session is up; written by run.
	connected atomic.Bool
	// lost: the worker could not be reached for a lease time; written by run.
	lost atomic.Bool
	// reached: there was a session, since this coordinator's start; written by run.
	everReached atomic.Bool
	// missed is why the worker can't be reached, nil while a session is up, or nothing has failed; written by run.
	unreachable atomic.Pointer[string]
	// address is where the worker says that it is; written by the fleet.
	address atomic.Pointer[string]
	// tried is the last dial; written by gRPC's goroutine that dials.
	lastDial atomic.Pointer[dialAttempt]

	// heard is when the worker said something last, in nanoseconds since the coordinator's start.
	lastHeardAt atomic.Int64

	// digests: the worker tells revisions of the same number apart; written by the handshake.
	digests atomic.Bool
	// locates: the worker says where rows are; written by the handshake.
	locates atomic.Bool
	// inquiries are about where rows are.
	locateCalls locateCalls
	// unanswered are definitions that a worker without digests has not answered in this session.
	unanswered unansweredDefinitions
	// anew ends the session that is up, with errAnew; nil while none is. Written by run.
	endSession atomic.Pointer[context.CancelCauseFunc]

	// connectors are how the worker's connectors stand; written by the session's goroutines.
	connectors connectorStates

	spans partSpans // of what the worker has, where somebody traces

	// Owned by run.
	resumable    bool          // a session is behind us whose parts the worker may still have
	lastPartSent uint64        // the number of the last part that was sent in it, and in those that it went on from
	sessionDial  *dialAttempt  // the dial of the last session, since this coordinator's start; nil: there was none
	heartbeat    time.Duration // how often the worker says something at least; 0: it did not promise
	partLimits   partLimits    // what the worker takes in one part; read by the sender that run calls, too
}

var processStart = time.Now()

// hear notes that the worker has said something.
func (p *workerPeer) noteHeard() { p.lastHeardAt.Store(int64(time.Since(processStart))) }

func (p *workerPeer) lastHeard() time.Time {
	return processStart.Add(time.Duration(p.lastHeardAt.Load()))
}

// unheardFor is for how long a session may be silent: then the connection is not what it seems.
func (p *workerPeer) maxSilence() time.Duration { return max(p.fleet.lease/2, 3*p.heartbeat) }

// listen returns when the session has been silent for too long, or is over.
func (p *workerPeer) watchSilence(ctx context.Context) error {
	if p.heartbeat == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		wait := time.Until(p.lastHeard().Add(p.maxSilence()))
		if wait <= 0 {
			return batch.Errorf(batch.CodeUnavailable, "nothing was heard of worker %s for %s", p.worker.ID, p.maxSilence())
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// state is how the session with the worker is, for metrics.
func (p *workerPeer) state() string {
	switch {
	case p.lost.Load():
		return "lost"
	case !p.connected.Load():
		return "down"
	case p.draining.Load():
		return "draining"
	}
	return "up"
}

// run dials the worker again and again. It returns when the worker is given up for good, or when ctx is done.
func (p *workerPeer) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, max(maxRedialPause, p.fleet.lease/2)
	alive, told := time.Now(), "" // when it was heard last
	for {
		began := time.Now()
		lived, err := p.session(ctx)
		switch {
		case lived:
			alive, told = p.lastHeard(), ""
			if alive.Sub(began) > maxRedialPause {
				pause.Reset()
			}
			p.log.Info("session ended", "worker", p.worker.ID, "lasted", time.Since(began).Round(time.Millisecond), "error", err)
			p.fleet.peerChanged(ctx)
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			p.noteUnreachable(ctx, told)
		}
		switch {
		case ctx.Err() != nil:
			p.giveUp(ctx, errors.Is(context.Cause(ctx), errWorkerGone) && p.diedUnseen(ctx))
			return
		case p.provesDeath(ctx, err):
			p.log.Info("worker is dead", "worker", p.worker.ID, "proof", err)
			p.giveUp(ctx, p.resumable && !p.draining.Load())
			p.fleet.workerDied(ctx, p)
			return
		case lived && errors.Is(err, errRestartSession):
			p.giveUp(ctx, false)
		case lived && wouldRepeat(err):
			p.log.Warn("worker is given up here: what it says, or was told, would end each session", "worker", p.worker.ID, "error", err)
			p.giveUp(ctx, false)
		case p.resumable && !lived && (wouldRepeat(err) || batch.CodeOf(err) == batch.CodeShutdown):
			p.log.Warn("worker is given up here: it does not go on where the last session stood", "worker", p.worker.ID, "error", err)
			p.giveUp(ctx, false)
		case p.leaseLeft(alive) <= 0:
			if !p.lost.Swap(true) {
				p.fleet.peerChanged(ctx) // nobody waits for its acknowledgement any more
			}
			if p.resumable && !p.fleet.cutOff(ctx) {
				p.log.Warn("worker is given up here: it could not be reached for a lease time", "worker", p.worker.ID, "error", err)
				p.giveUp(ctx, false)
			}
		}
		wait := pause.NextBackOff()
		if p.resumable {
			wait = min(wait, maxRedialPause)
		}
		if left := p.leaseLeft(alive); p.resumable && left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errAnew ends a session so that the next one begins with nothing held of it.
var errRestartSession = errors.New("a revision's number was given again, and the worker's build knows revisions by number alone")

// beginAnew ends the session that is up, if one is; what the worker has is given up.
func (p *workerPeer) restartSession() {
	if end := p.endSession.Load(); end != nil {
		(*end)(errRestartSession)
	}
}

// answeredOf is the digest of the revision that a worker's answer is of.
func (p *workerPeer) answeredDigest(c *pb.Compiled) (batch.Digest, error) {
	if p.digests.Load() {
		r, err := wire.ToRevision(c.GetRevision(), c.GetDigest())
		return r.Digest, err
	}
	digest, asked := p.unanswered.take(c.GetFlow(), c.GetRevision())
	if !asked {
		return digest, batch.Errorf(batch.CodeBadMessage, "worker %s answers for revision %d of flow %s, which it was not sent: it is defective",
			p.worker.ID, c.GetRevision(), c.GetFlow())
	}
	return digest, nil
}

// soon is how long a worker that rows wait for is not dialled at the most; others are left alone for up to half a lease.
const maxRedialPause = time.Second

// overdue is for how long a worker that was heard last at a time is still waited for.
func (p *workerPeer) leaseLeft(heard time.Time) time.Duration {
	return time.Until(heard.Add(p.fleet.lease))
}

// errGone says that a worker's key is not there any more.
var errWorkerGone = errors.New("the worker is given up")

// leave lets what the worker had run elsewhere, also when ctx is done.
func (p *workerPeer) giveUp(ctx context.Context, died bool) {
	p.resumable = false
	p.spans.lost() // before its rows are sent again
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerGone{Worker: p.worker.ID, Died: died})
		delete(l.peers, p.worker.ID)
		p.instructions.take(nil)
	})
}

// repeats reports whether a session that ended with the error would end so again if it were resumed.
func wouldRepeat(err error) bool {
	switch batch.CodeOf(err) {
	case batch.CodeBadMessage, batch.CodeBatchTooLarge, batch.CodeInternal:
		return true
	}
	return false
}

var errAnotherWorker = errors.New("another worker answers at its address")

// session is one connection's life: handshake, then orders one way and results the other. Any error ends it. It reports
// whether the handshake was answered.
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
	// Whoever fails first says why; a failed dial is the better reason.
	reason := func(err error) error {
		if dial := dialed.Load(); dial != nil {
			return *dial
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return wire.FromStatus(err)
	}
	conn, err := transport.Dial("passthrough:///"+address, p.fleet.transport, grpc.WithContextDialer(dialer))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	patience := p.fleet.lease
	if left := p.leaseLeft(p.lastHeard()); p.resumable && left > 0 {
		patience = left
	}
	handshake := time.AfterFunc(patience, func() {
		cancel(batch.Errorf(batch.CodeDeadline, "worker %s did not answer the handshake within %s", p.worker.ID, patience))
	})
	defer handshake.Stop()
	stream, err := pb.NewWorkerClient(conn).Session(ctx)
	if err != nil {
		return false, reason(err)
	}
	resumed, err := p.handshake(ctx, stream)
	if err != nil {
		return false, reason(err)
	}
	handshake.Stop()
	p.noteHeard()
	p.sessionDial = p.lastDial.Load()

	var listening sync.WaitGroup
	listening.Go(func() { cancel(p.watchSilence(ctx)) })
	read := make(chan struct{})
	go func() {
		defer close(read)
		cancel(p.read(ctx, stream))
	}()
	p.endSession.Store(&cancel)
	p.connected.Store(true)
	p.everReached.Store(true)
	p.lost.Store(false)
	p.unreachable.Store(nil)
	p.fleet.sessionBegan(ctx, p, resumed)
	err = p.write(ctx, stream)
	if errors.Is(err, io.EOF) {
		<-read // the worker ended the session, and has told the reader why
	}
	cancel(err)
	<-read
	listening.Wait()
	err = reason(err)
	if batch.CodeOf(err) == batch.CodeShutdown {
		p.draining.Store(true) // whoever answers at its address next: it did not die of what it ran
	}
	p.connected.Store(false)
	p.endSession.Store(nil)
	// What was not sent is sent again on the next session. That begins only then: what is put for it must stay.
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerDisconnected{Worker: p.worker.ID})
		p.instructions.take(nil)
	})
	return true, err
}

// greet is the handshake, and tells the scheduler what came of it: whether the session goes on where the one before stood.
func (p *workerPeer) handshake(ctx context.Context, stream pb.Worker_SessionClient) (resumed bool, err error) {
	hello := &pb.Hello{
		ProtocolMin: wire.Protocol, ProtocolMax: wire.Protocol, Coordinator: p.fleet.id, Worker: p.worker.ID, Resume: p.resumable, Secret: p.secret,
		BatchBytes: uint32(p.fleet.limits.BatchBytes), BatchRows: uint32(p.fleet.limits.BatchRows),
		FollowsLimits: true, UntakenLimit: uint64(p.fleet.untakenLimit()),
	}
	err = stream.Send(&pb.CoordinatorMessage{
		ResultsReceived: p.resultsReceived.Load(), Untaken: p.untaken.begin(int64(hello.GetUntakenLimit())), Kind: &pb.CoordinatorMessage_Hello{Hello: hello},
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	m, err := stream.Recv()
	if err != nil {
		if err := wire.FromStatus(err); batch.CodeOf(err) == batch.CodeNotFound {
			return false, fmt.Errorf("%w: %w", errAnotherWorker, err)
		}
		return false, err
	}
	welcome := m.GetWelcome()
	switch {
	case welcome == nil:
		return false, batch.Errorf(batch.CodeBadMessage, "worker %s answered the handshake with something else", p.worker.ID)
	case welcome.GetProtocol() != wire.Protocol:
		return false, batch.Errorf(batch.CodeProtocolMismatch, "worker %s chose protocol %d, this coordinator speaks %d", p.worker.ID, welcome.GetProtocol(), wire.Protocol)
	}
	p.digests.Store(welcome.GetDigests())
	p.connectors.reset(welcome.GetTellsConnectors())
	p.locates.Store(welcome.GetLocates())
	p.unanswered.clear()
	if got := welcome.GetPartsReceived(); p.resumable && welcome.GetResumed() && got > p.lastPartSent {
		return false, batch.Errorf(batch.CodeBadMessage, "worker %s has part %d, and the last one that it was sent is %d", p.worker.ID, got, p.lastPartSent)
	}
	p.heartbeat = time.Duration(welcome.GetHeartbeatMilliseconds()) * time.Millisecond
	p.partLimits = limitsOfWorker(welcome, p.fleet.limits)
	if p.resumable && welcome.GetResumed() {
		p.loop.post(ctx, scheduler.WorkerResumed{Worker: p.worker.ID, PartsReceived: welcome.GetPartsReceived()})
		return true, nil
	}
	if p.resumable {
		p.giveUp(ctx, false) // it has forgotten what it was sent
	}
	p.resultsReceived.Store(0)
	p.resumable, p.lastPartSent = true, 0
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerConnected{
			Worker: p.worker.ID, Name: p.slotName, PartRows: p.partLimits.rows, PartBytes: p.partLimits.bytes,
		})
		l.peers[p.worker.ID] = p
	})
	return false, nil
}

// read takes what the worker says until the session ends.
func (p *workerPeer) read(ctx context.Context, stream pb.Worker_SessionClient) error {
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
			if states := m.Heartbeat.GetConnectors(); len(states) > 0 {
				if err = p.connectors.update(states); err == nil {
					p.fleet.peerChanged(ctx) // whoever waits for connectors looks again
				}
			}
		case *pb.WorkerMessage_Credit:
			c := m.Credit
			p.loop.post(ctx, scheduler.Credited{Worker: p.worker.ID, Flow: c.GetFlow(), Rows: int64(c.GetRows()), Bytes: int64(c.GetBytes())})
		case *pb.WorkerMessage_Compiled:
			if c := m.Compiled; c.GetFresh() {
				p.loop.post(ctx, scheduler.CreditEnded{Worker: p.worker.ID, Flow: c.GetFlow()})
			}
			var digest batch.Digest
			if digest, err = p.answeredDigest(m.Compiled); err == nil {
				p.fleet.definitionAnswered(ctx, p, digest, m.Compiled)
			}
		case *pb.WorkerMessage_Located:
			p.locateCalls.answer(m.Located)
		case *pb.WorkerMessage_Draining:
			p.draining.Store(true)
			p.loop.post(ctx, scheduler.WorkerDraining{Worker: p.worker.ID})
			p.fleet.tellLeader()
		default:
			err = batch.Errorf(batch.CodeBadMessage, "worker %s sent a message that has no place here", p.worker.ID)
		}
		if err != nil {
			return err
		}
	}
}

// result hands a result to the scheduler, unless a session before had it.
func (p *workerPeer) receiveResult(ctx context.Context, r *result) error {
	last := p.resultsReceived.Load()
	switch {
	case r.GetNumber() <= last:
		return nil
	case r.GetNumber() != last+1:
		return batch.Errorf(batch.CodeBadMessage, "worker %s sent result %d after result %d", p.worker.ID, r.GetNumber(), last)
	}
	e := scheduler.Answered{Worker: p.worker.ID, Part: r.GetPart(), Last: r.GetLast(), Result: r}
	var err error
	// How many rows the part has, only the scheduler knows; it looks at no row beyond.
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
	if row, twice := endsTwice(e.NotDone); twice {
		return batch.Errorf(batch.CodeBadMessage, "worker %s ended row %d of part %d twice in one result: it is defective", p.worker.ID, row, r.GetPart())
	}
	if _, err = wire.ToOutput(r.GetOutput(), maxRows); err != nil {
		return err
	}
	if _, err = wire.ToDeadRows(r.GetDead(), maxRows); err != nil {
		return err
	}
	if p.fleet.tracer != nil {
		p.spans.answered(r.Result)
	}
	r.count(p.untaken) // before it is acknowledged
	if !p.loop.post(ctx, e) {
		r.taken() // it comes again, or the coordinator ends
		return nil
	}
	p.resultsReceived.Store(r.GetNumber())
	p.instructions.wake()
	return nil
}

// endsTwice finds a row that is named twice.
func endsTwice(outcomes []batch.RowOutcome) (row uint32, found bool) {
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

// maxRows bounds the places of rows that a message may name.
const maxRows = 1 << 30

// Results are mostly acknowledged with the next part; a message of its own waits for so long, or for so many.
const (
	acknowledgeAfter = 2 * time.Millisecond
	acknowledgeMany  = 64
)

// write sends orders, and acknowledges results, until the session ends.
func (p *workerPeer) write(ctx context.Context, stream pb.Worker_SessionClient) error {
	s := sessionWriter{stream: stream, peer: p, defined: byDefinition[bool]{}}
	late := time.NewTimer(acknowledgeAfter)
	defer late.Stop()
	var orders []instruction
	for waiting := false; ; {
		due := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.instructions.ready:
		case <-late.C:
			due, waiting = true, false
		}
		orders = p.instructions.take(orders)
		for _, o := range orders {
			if err := s.send(o); err != nil {
				return err
			}
		}
		switch n := p.resultsReceived.Load() - s.resultsAcknowledged; {
		case p.untaken.due() || n > 0 && due || n >= acknowledgeMany:
			if err := s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{}}}); err != nil {
				return err
			}
		case n > 0:
			if !waiting {
				waiting = true
				late.Reset(acknowledgeAfter)
			}
		}
	}
}

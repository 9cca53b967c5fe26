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
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// order is one thing to tell a worker: one field is set.
type order struct {
	part    *scheduler.Part
	release *scheduler.Release
	define  *revision
	forget  *definitionKey
	active  *definitionKey // new batches run on it from now on
	locate  *pb.Locate
}

// link keeps a session with one worker going until the worker is given up.
type link struct {
	worker  cluster.Worker
	name    string // by which slots are shared out: the worker's, or its id while another one has that name
	secret  []byte // known to this coordinator and the worker alone; goes into each Hello
	fleet   *fleet
	loop    *loop
	log     hclog.Logger
	outbox  *outbox[order]
	backlog *backlog // what clients have not taken of its results
	began   time.Time
	cancel  context.CancelCauseFunc // with errGone: the worker's key is

	// received is the number of the last result; written by the session's reader, read by its writer.
	received atomic.Uint64
	// draining: the worker said so, or that it ends; written by the session's goroutines and the fleet.
	draining atomic.Bool
	// connected: a session is up; written by run.
	connected atomic.Bool
	// lost: the worker could not be reached for a lease time; written by run.
	lost atomic.Bool
	// reached: there was a session, since this coordinator's start; written by run.
	reached atomic.Bool
	// missed is why the worker can't be reached, nil while a session is up, or nothing has failed; written by run.
	missed atomic.Pointer[string]
	// address is where the worker says that it is; written by the fleet.
	address atomic.Pointer[string]
	// tried is the last dial; written by gRPC's goroutine that dials.
	tried atomic.Pointer[attempt]

	// heard is when the worker said something last, in nanoseconds since the coordinator's start.
	heard atomic.Int64

	// digests: the worker tells revisions of the same number apart; written by the handshake.
	digests atomic.Bool
	// locates: the worker says where rows are; written by the handshake.
	locates atomic.Bool
	// inquiries are about where rows are.
	inquiries inquiries
	// unanswered are definitions that a worker without digests has not answered in this session.
	unanswered unanswered
	// anew ends the session that is up, with errAnew; nil while none is. Written by run.
	anew atomic.Pointer[context.CancelCauseFunc]

	// connectors are how the worker's connectors stand; written by the session's goroutines.
	connectors standings

	spans partSpans // of what the worker has, where somebody traces

	// Owned by run.
	met   bool          // a session is behind us whose parts the worker may still have
	sent  uint64        // the number of the last part that was sent in it, and in those that it went on from
	at    *attempt      // the dial of the last session, since this coordinator's start; nil: there was none
	beat  time.Duration // how often the worker says something at least; 0: it did not promise
	takes partLimits    // what the worker takes in one part; read by the sender that run calls, too
}

var start = time.Now()

// hear notes that the worker has said something.
func (k *link) hear() { k.heard.Store(int64(time.Since(start))) }

func (k *link) lastHeard() time.Time { return start.Add(time.Duration(k.heard.Load())) }

// unheardFor is for how long a session may be silent: then the connection is not what it seems.
func (k *link) unheardFor() time.Duration { return max(k.fleet.lease/2, 3*k.beat) }

// listen returns when the session has been silent for too long, or is over.
func (k *link) listen(ctx context.Context) error {
	if k.beat == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		wait := time.Until(k.lastHeard().Add(k.unheardFor()))
		if wait <= 0 {
			return batch.Errorf(batch.CodeUnavailable, "nothing was heard of worker %s for %s", k.worker.ID, k.unheardFor())
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// state is how the session with the worker is, for metrics.
func (k *link) state() string {
	switch {
	case k.lost.Load():
		return "lost"
	case !k.connected.Load():
		return "down"
	case k.draining.Load():
		return "draining"
	}
	return "up"
}

// run dials the worker again and again. It returns when the worker is given up for good, or when ctx is done.
func (k *link) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, max(soon, k.fleet.lease/2)
	alive, told := time.Now(), "" // when it was heard last
	for {
		began := time.Now()
		lived, err := k.session(ctx)
		switch {
		case lived:
			alive, told = k.lastHeard(), ""
			if alive.Sub(began) > soon {
				pause.Reset()
			}
			k.log.Info("session ended", "worker", k.worker.ID, "lasted", time.Since(began).Round(time.Millisecond), "error", err)
			k.fleet.down(ctx)
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			k.miss(ctx, told)
		}
		switch {
		case ctx.Err() != nil:
			k.leave(ctx, errors.Is(context.Cause(ctx), errGone) && k.diedUnseen(ctx))
			return
		case k.provesDeath(ctx, err):
			k.log.Info("worker is dead", "worker", k.worker.ID, "proof", err)
			k.leave(ctx, k.met && !k.draining.Load())
			k.fleet.bury(ctx, k)
			return
		case lived && errors.Is(err, errAnew):
			k.leave(ctx, false)
		case lived && repeats(err):
			k.log.Warn("worker is given up here: what it says, or was told, would end each session", "worker", k.worker.ID, "error", err)
			k.leave(ctx, false)
		case k.met && !lived && (repeats(err) || batch.CodeOf(err) == batch.CodeShutdown):
			k.log.Warn("worker is given up here: it does not go on where the last session stood", "worker", k.worker.ID, "error", err)
			k.leave(ctx, false)
		case k.overdue(alive) <= 0:
			if !k.lost.Swap(true) {
				k.fleet.down(ctx) // nobody waits for its acknowledgement any more
			}
			if k.met && !k.fleet.cutOff(ctx) {
				k.log.Warn("worker is given up here: it could not be reached for a lease time", "worker", k.worker.ID, "error", err)
				k.leave(ctx, false)
			}
		}
		wait := pause.NextBackOff()
		if k.met {
			wait = min(wait, soon)
		}
		if left := k.overdue(alive); k.met && left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errAnew ends a session so that the next one begins with nothing held of it.
var errAnew = errors.New("a revision's number was given again, and the worker's build knows revisions by number alone")

// beginAnew ends the session that is up, if one is; what the worker has is given up.
func (k *link) beginAnew() {
	if end := k.anew.Load(); end != nil {
		(*end)(errAnew)
	}
}

// answeredOf is the digest of the revision that a worker's answer is of.
func (k *link) answeredOf(c *pb.Compiled) (batch.Digest, error) {
	if k.digests.Load() {
		r, err := wire.ToRevision(c.GetRevision(), c.GetDigest())
		return r.Digest, err
	}
	digest, asked := k.unanswered.take(c.GetFlow(), c.GetRevision())
	if !asked {
		return digest, batch.Errorf(batch.CodeBadMessage, "worker %s answers for revision %d of flow %s, which it was not sent: it is defective",
			k.worker.ID, c.GetRevision(), c.GetFlow())
	}
	return digest, nil
}

// soon is how long a worker that rows wait for is not dialled at the most; others are left alone for up to half a lease.
const soon = time.Second

// overdue is for how long a worker that was heard last at a time is still waited for.
func (k *link) overdue(heard time.Time) time.Duration { return time.Until(heard.Add(k.fleet.lease)) }

// errGone says that a worker's key is not there any more.
var errGone = errors.New("the worker is given up")

// leave lets what the worker had run elsewhere, also when ctx is done.
func (k *link) leave(ctx context.Context, died bool) {
	k.met = false
	k.spans.lost() // before its rows are sent again
	k.loop.do(context.WithoutCancel(ctx), func(l *loop) {
		l.step(scheduler.WorkerGone{Worker: k.worker.ID, Died: died})
		delete(l.links, k.worker.ID)
		k.outbox.take(nil)
	})
}

// repeats reports whether a session that ended with the error would end so again if it were resumed.
func repeats(err error) bool {
	switch batch.CodeOf(err) {
	case batch.CodeBadMessage, batch.CodeBatchTooLarge, batch.CodeInternal:
		return true
	}
	return false
}

var errAnotherWorker = errors.New("another worker answers at its address")

// session is one connection's life: handshake, then orders one way and results the other. Any error ends it. It reports
// whether the handshake was answered.
func (k *link) session(ctx context.Context) (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var dialed atomic.Pointer[error]
	address := *k.address.Load()
	dialer := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := k.dial(ctx, address)
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
	conn, err := transport.Dial("passthrough:///"+address, k.fleet.transport, grpc.WithContextDialer(dialer))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	patience := k.fleet.lease
	if left := k.overdue(k.lastHeard()); k.met && left > 0 {
		patience = left
	}
	handshake := time.AfterFunc(patience, func() {
		cancel(batch.Errorf(batch.CodeDeadline, "worker %s did not answer the handshake within %s", k.worker.ID, patience))
	})
	defer handshake.Stop()
	stream, err := pb.NewWorkerClient(conn).Session(ctx)
	if err != nil {
		return false, reason(err)
	}
	resumed, err := k.greet(ctx, stream)
	if err != nil {
		return false, reason(err)
	}
	handshake.Stop()
	k.hear()
	k.at = k.tried.Load()

	var listening sync.WaitGroup
	listening.Go(func() { cancel(k.listen(ctx)) })
	read := make(chan struct{})
	go func() {
		defer close(read)
		cancel(k.read(ctx, stream))
	}()
	k.anew.Store(&cancel)
	k.connected.Store(true)
	k.reached.Store(true)
	k.lost.Store(false)
	k.missed.Store(nil)
	k.fleet.up(ctx, k, resumed)
	err = k.write(ctx, stream)
	if errors.Is(err, io.EOF) {
		<-read // the worker ended the session, and has told the reader why
	}
	cancel(err)
	<-read
	listening.Wait()
	err = reason(err)
	if batch.CodeOf(err) == batch.CodeShutdown {
		k.draining.Store(true) // whoever answers at its address next: it did not die of what it ran
	}
	k.connected.Store(false)
	k.anew.Store(nil)
	// What was not sent is sent again on the next session. That begins only then: what is put for it must stay.
	k.loop.do(context.WithoutCancel(ctx), func(l *loop) {
		l.step(scheduler.WorkerDisconnected{Worker: k.worker.ID})
		k.outbox.take(nil)
	})
	return true, err
}

// greet is the handshake, and tells the scheduler what came of it: whether the session goes on where the one before stood.
func (k *link) greet(ctx context.Context, stream pb.Worker_SessionClient) (resumed bool, err error) {
	hello := &pb.Hello{
		ProtocolMin: protocol, ProtocolMax: protocol, Coordinator: k.fleet.id, Worker: k.worker.ID, Resume: k.met, Secret: k.secret,
		BatchBytes: uint32(k.fleet.limits.BatchBytes), BatchRows: uint32(k.fleet.limits.BatchRows),
		FollowsLimits: true, UntakenLimit: uint64(k.fleet.untakenLimit()),
	}
	err = stream.Send(&pb.CoordinatorMessage{
		ResultsReceived: k.received.Load(), Untaken: k.backlog.begin(int64(hello.GetUntakenLimit())), Kind: &pb.CoordinatorMessage_Hello{Hello: hello},
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
		return false, batch.Errorf(batch.CodeBadMessage, "worker %s answered the handshake with something else", k.worker.ID)
	case welcome.GetProtocol() != protocol:
		return false, batch.Errorf(batch.CodeProtocolMismatch, "worker %s chose protocol %d, this coordinator speaks %d", k.worker.ID, welcome.GetProtocol(), protocol)
	}
	k.digests.Store(welcome.GetDigests())
	k.connectors.reset(welcome.GetTellsConnectors())
	k.locates.Store(welcome.GetLocates())
	k.unanswered.clear()
	if got := welcome.GetPartsReceived(); k.met && welcome.GetResumed() && got > k.sent {
		return false, batch.Errorf(batch.CodeBadMessage, "worker %s has part %d, and the last one that it was sent is %d", k.worker.ID, got, k.sent)
	}
	k.beat = time.Duration(welcome.GetHeartbeatMilliseconds()) * time.Millisecond
	k.takes = limitsOfWorker(welcome, k.fleet.limits)
	if k.met && welcome.GetResumed() {
		k.loop.post(ctx, scheduler.WorkerResumed{Worker: k.worker.ID, PartsReceived: welcome.GetPartsReceived()})
		return true, nil
	}
	if k.met {
		k.leave(ctx, false) // it has forgotten what it was sent
	}
	k.received.Store(0)
	k.met, k.sent = true, 0
	k.loop.do(context.WithoutCancel(ctx), func(l *loop) {
		l.step(scheduler.WorkerConnected{
			Worker: k.worker.ID, Name: k.name, PartRows: k.takes.rows, PartBytes: k.takes.bytes,
		})
		l.links[k.worker.ID] = k
	})
	return false, nil
}

// read takes what the worker says until the session ends.
func (k *link) read(ctx context.Context, stream pb.Worker_SessionClient) error {
	for {
		m := new(pb.WorkerMessage)
		lent := &wire.Lent{Message: m}
		err := stream.RecvMsg(lent)
		if err != nil {
			return wire.FromStatus(err)
		}
		k.hear()
		switch m := m.GetKind().(type) {
		case *pb.WorkerMessage_Result:
			err = k.result(ctx, &result{Result: m.Result, lent: lent})
		case *pb.WorkerMessage_Heartbeat:
			if states := m.Heartbeat.GetConnectors(); len(states) > 0 {
				if err = k.connectors.learn(states); err == nil {
					k.fleet.down(ctx) // whoever waits for connectors looks again
				}
			}
		case *pb.WorkerMessage_Credit:
			c := m.Credit
			k.loop.post(ctx, scheduler.Credited{Worker: k.worker.ID, Flow: c.GetFlow(), Rows: int64(c.GetRows()), Bytes: int64(c.GetBytes())})
		case *pb.WorkerMessage_Compiled:
			if c := m.Compiled; c.GetFresh() {
				k.loop.post(ctx, scheduler.CreditEnded{Worker: k.worker.ID, Flow: c.GetFlow()})
			}
			var digest batch.Digest
			if digest, err = k.answeredOf(m.Compiled); err == nil {
				k.fleet.compiled(ctx, k, digest, m.Compiled)
			}
		case *pb.WorkerMessage_Located:
			k.inquiries.answer(m.Located)
		case *pb.WorkerMessage_Draining:
			k.draining.Store(true)
			k.loop.post(ctx, scheduler.WorkerDraining{Worker: k.worker.ID})
			k.fleet.changed()
		default:
			err = batch.Errorf(batch.CodeBadMessage, "worker %s sent a message that has no place here", k.worker.ID)
		}
		if err != nil {
			return err
		}
	}
}

// result hands a result to the scheduler, unless a session before had it.
func (k *link) result(ctx context.Context, r *result) error {
	last := k.received.Load()
	switch {
	case r.GetNumber() <= last:
		return nil
	case r.GetNumber() != last+1:
		return batch.Errorf(batch.CodeBadMessage, "worker %s sent result %d after result %d", k.worker.ID, r.GetNumber(), last)
	}
	e := scheduler.Answered{Worker: k.worker.ID, Part: r.GetPart(), Last: r.GetLast(), Result: r}
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
		return batch.Errorf(batch.CodeBadMessage, "worker %s ended row %d of part %d twice in one result: it is defective", k.worker.ID, row, r.GetPart())
	}
	if _, err = wire.ToOutput(r.GetOutput(), maxRows); err != nil {
		return err
	}
	if _, err = wire.ToDeadRows(r.GetDead(), maxRows); err != nil {
		return err
	}
	if k.fleet.tracer != nil {
		k.spans.answered(r.Result)
	}
	r.count(k.backlog) // before it is acknowledged
	if !k.loop.post(ctx, e) {
		r.taken() // it comes again, or the coordinator ends
		return nil
	}
	k.received.Store(r.GetNumber())
	k.outbox.wake()
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
func (k *link) write(ctx context.Context, stream pb.Worker_SessionClient) error {
	s := sender{stream: stream, link: k, defined: byDefinition[bool]{}}
	late := time.NewTimer(acknowledgeAfter)
	defer late.Stop()
	var orders []order
	for waiting := false; ; {
		due := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.outbox.ready:
		case <-late.C:
			due, waiting = true, false
		}
		orders = k.outbox.take(orders)
		for _, o := range orders {
			if err := s.send(o); err != nil {
				return err
			}
		}
		switch n := k.received.Load() - s.acknowledged; {
		case k.backlog.due() || n > 0 && due || n >= acknowledgeMany:
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

package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/figures"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// peerSettings are the settings that the connections to all workers share. They do not change.
type peerSettings struct {
	coordinator string // the id of this coordinator
	transport   transport.Config
	guard       *access.Guard // checks that a dialled server is a worker; nil means that nobody checks
	dial        func(context.Context, cluster.Worker) (net.Conn, error)
	tracer      trace.Tracer  // nil means that tracing is off
	lease       time.Duration // how long a worker that can't be reached is waited for
	limits      batch.Limits  // the limits of a batch, which a part has, too
	untaken     int64         // how many bytes of results, of all workers together, clients may leave unread before workers wait for clients
	board       *flowstate.Board
	book        *figures.Book
	loop        *schedulerLoop
	log         hclog.Logger
}

// untakenLimit returns how many bytes of one worker's results clients may leave unread before the worker waits for clients: an even share
// among the workers with a session, and leastUntaken at least.
func (s *peerSettings) untakenLimit() int64 {
	return max(leastUntaken, s.untaken/int64(max(1, s.board.Load().Sessions)))
}

// peerOwner is told of the events of a peer. The fleet implements it. Any goroutine may call its methods.
type peerOwner interface {
	// sessionBegan is called when a session begins. kept are the revisions that the worker may still have from the sessions before, which
	// this one resumes.
	sessionBegan(ctx context.Context, p *workerPeer, kept []definitionKey)
	// peerChanged is called when a session has ended, a worker can't be reached, or its connectors have changed.
	peerChanged(ctx context.Context)
	// definitionAnswered is called when the worker has answered whether it can run a revision. digest is the revision's digest; c has its
	// number, and the answer.
	definitionAnswered(ctx context.Context, p *workerPeer, digest batch.Digest, c *pb.Compiled)
	// workerDied is called when the worker is proven dead. It blocks until the worker's key is removed from etcd, or ctx is done.
	workerDied(ctx context.Context, p *workerPeer)
	// tellLeader is called when something has changed that the leader decides by.
	tellLeader()
	// cutOff reports whether this coordinator can't reach most workers, so that an unreachable worker is not taken for lost.
	cutOff(ctx context.Context) bool
}

// workerPeer is a worker as this coordinator deals with it. It dials the worker, keeps a session with it going, and begins another session
// when one breaks, until the worker is gone from etcd or proven dead. A session that breaks may be resumed: the worker still has the parts
// that it was sent, and goes on with them.
//
//	                dial, Hello        Welcome
//	  ┌────────────┐        ┌───────────┐        ┌───────────┐
//	  │ no session │ ─────> │ handshake │ ─────> │ streaming │ parts one way, results the other
//	  └────────────┘        └───────────┘        └───────────┘
//	    ^       │ ^               │ fails              │ breaks, or is silent for too long
//	    │       │ └───────────────┴────────────────────┘
//	    │       │ not heard for a lease
//	    │       v
//	  ┌────────────┐
//	  │    lost    │ its rows run elsewhere, and it is still dialled; the next session begins with nothing
//	  └────────────┘
//
//	from any state:  the address of the last session refuses connections  ─> dead: its rows run elsewhere, its key is removed
//	                 its key in etcd is gone                              ─> removed: its rows run elsewhere
//
// The goroutine of run owns the peer, except where a field says otherwise.
type workerPeer struct {
	worker   cluster.Worker
	slotName string // the name by which the worker gets slots: its own, or its id if another worker had its name when it registered
	secret   []byte // proves to the worker that a session is this coordinator's; it is sent in each Hello
	settings *peerSettings
	owner    peerOwner
	loop     *schedulerLoop
	log      hclog.Logger
	// instructions has what is still to be sent to the worker. Any goroutine may put; only the session's writer, and functions in the
	// scheduler's loop between sessions, take.
	instructions *queue[instruction]
	untaken      *untakenResults // the results of this worker that clients have not read; any goroutine may use it
	createdAt    time.Time
	cancel       context.CancelCauseFunc // ends run; the fleet calls it with errWorkerGone when the worker's key is gone

	// Any goroutine may read these; the comment says which one writes them.

	resultsReceived atomic.Uint64          // the number of the last result that came; written by the session's reader and the handshake
	draining        atomic.Bool            // the worker has said that it drains or ends; written by the session's goroutines and the fleet
	connected       atomic.Bool            // a session is up; written by run
	cordoned        atomic.Bool            // the worker gets no new rows, because an operator said so; written by the fleet
	lost            atomic.Bool            // the worker could not be reached for a lease; written by run
	everReached     atomic.Bool            // there was a session since this coordinator has started; written by run
	unreachable     atomic.Pointer[string] // why the worker can't be reached; nil while a session is up or no try has failed; written by run
	address         atomic.Pointer[string] // the address that the worker has registered; written by the fleet
	// lastDial is the last try to connect to the worker; written by the goroutine in which gRPC dials.
	lastDial    atomic.Pointer[dialAttempt]
	lastHeardAt atomic.Int64 // when the last message came, in nanoseconds since processStart; written by run and the session's reader

	// The abilities of the worker's build; the handshake writes these three fields.

	digests   atomic.Bool // the worker tells revisions of the same number apart, by their digests
	locates   atomic.Bool // the worker answers questions about where rows are
	knowsTaps atomic.Bool // the worker copies rows as they pass

	locateCalls locateCalls     // the questions about where rows are that the worker has not answered
	taps        workerTaps      // the taps that are open at the worker
	definitions sentDefinitions // the revisions that the worker may have
	connectors  connectorStates // the states of the worker's connectors, as it has told them
	spans       partSpans       // the tracing spans of the parts that the worker has
	// endSession ends the session that is up; nil while none is. run writes it.
	endSession atomic.Pointer[context.CancelCauseFunc]

	// Only run and the goroutines of its session use these.

	resumable      bool          // the worker may still have parts of a session that has ended
	lastPartSent   uint64        // the number of the last part that was sent since the worker last began with nothing
	sessionDial    *dialAttempt  // the dial with which the last session began; nil means that there was none
	heartbeat      time.Duration // the interval at which the worker has promised to send something; 0 means that it has not
	takesPositions bool          // the worker's build knows positions of rows in logs
	partLimits     partLimits    // how many rows and bytes the worker accepts in one part
}

// newWorkerPeer makes a peer for a worker, without a session. The caller starts run. cancel must be the function that cancels the context
// of run.
func newWorkerPeer(w cluster.Worker, slotName string, s *peerSettings, owner peerOwner, cancel context.CancelCauseFunc) *workerPeer {
	p := &workerPeer{
		worker: w, slotName: slotName, secret: newSecret(), settings: s, owner: owner, loop: s.loop, log: s.log,
		instructions: newQueue[instruction](), createdAt: time.Now(), cancel: cancel,
	}
	p.untaken = newUntakenResults(p.instructions.wake)
	p.address.Store(&w.Address)
	return p
}

// maxRedialPause is the longest pause between two dials of a worker whose last session may be resumed, because rows wait for that. The
// pause for other workers grows to half a lease, or maxRedialPause if that is longer.
const maxRedialPause = time.Second

// run keeps a session with the worker going: it dials, runs the session, and dials again after it has ended. It returns when the worker is
// removed or dead, or when ctx is done.
func (p *workerPeer) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, max(maxRedialPause, p.settings.lease/2)
	heard, told := time.Now(), "" // when a message came last, and the last reason that was logged
	for {
		began := time.Now()
		lived, err := p.session(ctx)
		switch {
		case lived:
			heard, told = p.lastHeard(), ""
			if heard.Sub(began) > maxRedialPause {
				pause.Reset()
			}
			p.log.Info("session ended", "worker", p.worker.ID, "lasted", time.Since(began).Round(time.Millisecond), "error", err)
			p.owner.peerChanged(ctx)
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			p.noteUnreachable(ctx, told)
		}
		switch {
		case ctx.Err() != nil:
			p.giveUp(ctx, errors.Is(context.Cause(ctx), errWorkerGone) && p.diedUnseen(ctx))
			return
		case p.provesDeath(ctx, err):
			pointDead.Hit()
			p.log.Info("worker is dead", "worker", p.worker.ID, "proof", err)
			p.giveUp(ctx, p.resumable && !p.draining.Load())
			p.owner.workerDied(ctx, p)
			return
		case lived && errors.Is(err, errRestartSession):
			pointAnew.Hit()
			p.giveUp(ctx, false)
		case lived && wouldRepeat(err):
			pointWouldRepeat.Hit()
			p.log.Warn("worker is given up here: a message between it and this coordinator would end each session", "worker", p.worker.ID, "error", err)
			p.giveUp(ctx, false)
		case p.resumable && !lived && (wouldRepeat(err) || batch.CodeOf(err) == batch.CodeShutdown):
			pointNotResumed.Hit()
			p.log.Warn("worker is given up here: it does not resume the last session", "worker", p.worker.ID, "error", err)
			p.giveUp(ctx, false)
		case p.leaseLeft(heard) <= 0:
			if !p.lost.Swap(true) {
				pointLost.Hit()
				p.owner.peerChanged(ctx) // rollouts no longer wait for its answer
			}
			if p.resumable && !p.owner.cutOff(ctx) {
				pointLostRows.Hit()
				p.log.Warn("worker is given up here: it could not be reached for a lease", "worker", p.worker.ID, "error", err)
				p.giveUp(ctx, false)
			}
		}
		wait := pause.NextBackOff()
		if p.resumable {
			wait = min(wait, maxRedialPause)
		}
		if left := p.leaseLeft(heard); p.resumable && left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errWorkerGone is the cause that ends a peer's run when the worker's key is no longer in etcd, or is about to be removed.
var errWorkerGone = errors.New("the worker is given up")

// errRestartSession is the error with which restartSession ends a session. The next session does not resume it.
var errRestartSession = errors.New("a revision's number was given again, and the worker's build knows revisions by number alone")

// giveUp gives the worker up: the scheduler moves the rows that it had to other workers, and no session is resumed. It does so also when
// ctx is done. died says that the worker's process has died of itself, which counts against the rows that it may have been running.
func (p *workerPeer) giveUp(ctx context.Context, died bool) {
	p.resumable = false
	p.spans.lost() // before the rows are sent again
	p.loop.do(context.WithoutCancel(ctx), func(l *schedulerLoop) {
		l.step(scheduler.WorkerGone{Worker: p.worker.ID, Died: died})
		delete(l.peers, p.worker.ID)
		p.instructions.take(nil)
	})
}

// wouldRepeat reports whether a session that ended with err would end with the same error again if it were resumed.
func wouldRepeat(err error) bool {
	switch batch.CodeOf(err) {
	case batch.CodeBadMessage, batch.CodeBatchTooLarge, batch.CodeInternal:
		return true
	}
	return false
}

// restartSession ends the session that is up, if there is one. The next session begins with nothing.
func (p *workerPeer) restartSession() {
	if end := p.endSession.Load(); end != nil {
		(*end)(errRestartSession)
	}
}

// processStart is when this process began. Times that are kept in atomic integers count from it.
var processStart = time.Now()

// noteHeard notes that a message has come from the worker just now.
func (p *workerPeer) noteHeard() { p.lastHeardAt.Store(int64(time.Since(processStart))) }

// lastHeard returns when the last message came from the worker; processStart means that none has come.
func (p *workerPeer) lastHeard() time.Time {
	return processStart.Add(time.Duration(p.lastHeardAt.Load()))
}

// leaseLeft returns how much is left of the lease for which the worker is waited for, if its last message came at the time heard. It is
// negative after the lease.
func (p *workerPeer) leaseLeft(heard time.Time) time.Duration {
	return time.Until(heard.Add(p.settings.lease))
}

// maxSilence returns for how long the worker may send nothing in a session. After that the connection is taken for broken.
func (p *workerPeer) maxSilence() time.Duration { return max(p.settings.lease/2, 3*p.heartbeat) }

// watchSilence blocks until nothing has come from the worker for maxSilence, or ctx is done, and returns an error that says which. If the
// worker has promised no heartbeat, it only waits for ctx.
func (p *workerPeer) watchSilence(ctx context.Context) error {
	if p.heartbeat == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		wait := time.Until(p.lastHeard().Add(p.maxSilence()))
		if wait <= 0 {
			pointSilent.Hit()
			return batch.Errorf(batch.CodeUnavailable, "nothing was heard of worker %s for %s", p.worker.ID, p.maxSilence())
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// state returns the name that the connection's state has in metrics: up, draining, down or lost.
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

// instruction is something to tell a worker in a session: rows to run, a revision to compile, and so on. Exactly one field is set.
type instruction struct {
	part    *scheduler.Part     // rows that the worker is to run
	release *scheduler.Release  // slots of which the worker is to give back the rows that have not begun
	define  *flowstate.Revision // a revision that the worker is to compile
	forget  *definitionKey      // a revision that the worker is to forget
	active  *definitionKey      // the revision that new batches run on
	locate  *pb.Locate          // a question about where rows are
	tap     *pb.Tap             // rows that the worker is to copy as they pass
	untap   *pb.Untap           // a tap that ends
}

// newSecret draws a random secret that only this coordinator and one worker will know. It proves to the worker that a session is this
// coordinator's; the coordinator's id would not, since any client can read it.
func newSecret() []byte {
	secret := make([]byte, 16)
	rand.Read(secret) // never fails: see crypto/rand
	return secret
}

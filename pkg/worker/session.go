package worker

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// session is one connection of a coordinator, from the opening of the stream to its end. A reader and a sender are its
// goroutines.
//
//	  stream opened              Hello is right            Draining is sent
//	──────────────► handshake ─────────────────► open ─────────────────────► draining
//	                    │                          │                            │
//	                    │ wrong Hello, timeout     │ error, coordinator         │ every result
//	                    │                          │ hung up, replaced          │ is acknowledged
//	                    ▼                          ▼                            ▼
//	                  ended ◄───────────────────────────────────────────────────┘
//
// A session is replaced when the same coordinator opens another one. Nothing is lost with a session: the peer keeps parts and
// results.
type session struct {
	server *server
	stream pb.Worker_SessionServer
	log    hclog.Logger // set by the reader in the handshake; others read it after greeted or readerDone is closed
	peer   *peer        // nil before the handshake; set and read like log
	began  time.Time    // when the stream was opened

	greeted    chan struct{} // closed when the handshake is over and the sender starts
	ended      chan struct{} // closed when the session ends
	readerDone chan struct{} // closed when the reader's goroutine ends
	replaced   chan struct{} // closed when another session takes its place, or its peer is dropped
	wake       chan struct{} // holds a token when there may be something to send

	once sync.Once // lets only the first call of end count
	err  error     // why the session ended; nil when the coordinator ended it; read after ended is closed

	taps       map[uint64]*tap // the open taps by their numbers; only the reader uses it
	tapsUnsent atomic.Int64    // how many messages of taps are in queue, or being sent

	// The fields below are guarded by the peer's lock. queue has the messages that the sender sends before credit and results:
	// Welcome, Compiled, Located, Tapped and Draining.
	queue        []*pb.WorkerMessage
	toldDraining time.Time                           // when Draining was enqueued; zero means not yet
	toldStates   map[connectorKey]*pb.ConnectorState // the states of connectors that the coordinator was told last
	toldFigures  toldFigures                         // the figures that the coordinator was told last
}

// end ends the session with the reason why; only the first call counts. It does not wait for the goroutines.
func (sess *session) end(why error) {
	sess.once.Do(func() {
		sess.err = why
		close(sess.ended)
	})
}

// enqueue appends a message to the session's queue. The caller holds the peer's lock, and wakes the sender afterwards.
func (sess *session) enqueue(m *pb.WorkerMessage) { sess.queue = append(sess.queue, m) }

// enqueueDraining enqueues the message Draining, at most once in a session. The caller holds the peer's lock.
func (sess *session) enqueueDraining() {
	if sess.toldDraining.IsZero() {
		sess.toldDraining = time.Now()
		sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Draining{Draining: &pb.Draining{}}})
	}
}

// heartbeat is how often a session sends something, so that the coordinator notices a lost connection long before a lease is
// over. Two messages of a session come at most twice this time apart.
func (s *server) heartbeat() time.Duration { return max(s.config.Lease/16, 10*time.Millisecond) }

// hasEnded reports whether the session has ended.
func (sess *session) hasEnded() bool {
	select {
	case <-sess.ended:
		return true
	default:
		return false
	}
}

// endOnPanic is deferred by the reader and the sender. A panic in one of them ends this session with code INTERNAL, and
// neither the process nor other sessions.
func (sess *session) endOnPanic(doing string) {
	if r := recover(); r != nil {
		sess.log.Error("defect: a session panicked", "while", doing, "panic", r, "stack", string(debug.Stack()))
		sess.end(batch.Errorf(batch.CodeInternal, "the worker panicked while %s: %v: this is a defect, please report it with the stack in the worker's log", doing, r))
	}
}

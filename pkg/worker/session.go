package worker

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// session is one connection's life between a coordinator and this worker. The call's own goroutine only waits for its end,
// because returning from the call is what frees a reader or a sender that is stuck in it: a reader takes messages in and
// acts on them, a sender sends what the peer has to tell. Any error of either ends the session.
type session struct {
	server *server
	stream pb.Worker_SessionServer
	log    hclog.Logger // set by the reader, and read by others after greeted or read is closed
	peer   *peer        // likewise
	began  time.Time

	greeted    chan struct{} // closed when the sender starts
	ended      chan struct{} // closed when the session ends
	readerDone chan struct{} // closed when the reader has ended
	replaced   chan struct{} // closed when another session took its place, or nobody needs the peer any more
	wake       chan struct{} // holds a token while there may be something to send

	once sync.Once
	err  error // why it ended, nil where the coordinator ended it; read after over is closed

	// Guarded by the peer's lock.
	outbox       []*pb.WorkerMessage // goes before everything else
	toldDraining time.Time
	toldStates   map[connectorKey]*pb.ConnectorState // how connectors stood when it was told last
}

// end ends the session; the first reason counts. It does not wait.
func (sess *session) end(why error) {
	sess.once.Do(func() {
		sess.err = why
		close(sess.ended)
	})
}

// tell puts a message before everything else that there is to send. The caller holds the peer's lock.
func (sess *session) enqueue(m *pb.WorkerMessage) { sess.outbox = append(sess.outbox, m) }

// tellDraining tells it once. The caller holds the peer's lock.
func (sess *session) enqueueDraining() {
	if sess.toldDraining.IsZero() {
		sess.toldDraining = time.Now()
		sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Draining{Draining: &pb.Draining{}}})
	}
}

// heartbeat is how often coordinators hear something: often enough that they notice a lost connection long before a lease
// is over. It may be late by as much again.
func (s *server) heartbeat() time.Duration { return max(s.config.Lease/16, 10*time.Millisecond) }

// isOver reports whether the session has ended.
func (sess *session) hasEnded() bool {
	select {
	case <-sess.ended:
		return true
	default:
		return false
	}
}

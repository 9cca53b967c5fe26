package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Session implements the gRPC call of a coordinator: the call's life is one session. The goroutine of the call only waits for
// the end, because a reader or sender that is blocked in the stream is freed when the call returns. The session's reader and
// sender have goroutines that the server waits for.
func (s *server) Session(stream pb.Worker_SessionServer) error {
	sess := &session{
		server: s, stream: stream, log: s.log, began: time.Now(),
		greeted: make(chan struct{}), ended: make(chan struct{}), readerDone: make(chan struct{}),
		replaced: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if !s.addSession(sess) {
		return wire.Status(errClosed)
	}
	// An interceptor ends the context when the coordinator has lost its right to a session. Every other end shows in the stream, too.
	watching := context.AfterFunc(stream.Context(), func() {
		if why, ours := errors.AsType[*batch.Error](context.Cause(stream.Context())); ours {
			sess.end(why)
		}
	})
	defer watching()
	s.goroutines.Go(sess.receive)
	silence := time.NewTimer(handshakeTimeout)
	defer silence.Stop()
	select {
	case <-sess.ended:
	case <-sess.greeted:
		<-sess.ended
	case <-silence.C:
		sess.end(errHandshakeTimeout)
	}
	s.removeSession(sess)
	return wire.Status(sess.err)
}

// receive is the session's reader. It does the handshake, starts the sender, and then acts on one message after the other. The
// first error ends the session.
func (sess *session) receive() {
	defer close(sess.readerDone)
	defer sess.endOnPanic("receiving")
	m, err := sess.stream.Recv()
	if err == nil {
		err = sess.greet(m)
	}
	if err == nil {
		sess.log.Info("session began", "worker", sess.server.workerID())
		close(sess.greeted)
		sess.server.sessionOpened(sess)
		sess.server.goroutines.Go(sess.send)
	}
	for err == nil {
		if m, err = sess.stream.Recv(); err == nil {
			err = sess.handle(m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	sess.end(wire.FromStatus(err))
}

// handle acts on one message of the coordinator. An error ends the session. Each message can acknowledge results and report
// the output that clients have not taken, besides its own content.
func (sess *session) handle(m *pb.CoordinatorMessage) error {
	sess.peer.backlog.update(m) // before acknowledge, so that output always counts: as held here, or as untaken there
	if err := sess.peer.acknowledge(m.GetResultsReceived()); err != nil {
		return err
	}
	switch m := m.GetKind().(type) {
	case *pb.CoordinatorMessage_Part:
		return sess.takePart(m.Part)
	case *pb.CoordinatorMessage_Ack:
		return sess.activate(m.Ack.GetActive())
	case *pb.CoordinatorMessage_Definition:
		return sess.define(m.Definition)
	case *pb.CoordinatorMessage_Release:
		return sess.handBack(m.Release)
	case *pb.CoordinatorMessage_Forget:
		return sess.forgetRevision(m.Forget)
	case *pb.CoordinatorMessage_Locate:
		return sess.locate(m.Locate)
	case *pb.CoordinatorMessage_Tap:
		return sess.openTap(m.Tap)
	case *pb.CoordinatorMessage_Untap:
		sess.closeTap(m.Untap)
		return nil
	case *pb.CoordinatorMessage_Hello:
		return batch.Errorf(batch.CodeBadMessage, "Hello came a second time in the session: the coordinator is defective")
	}
	return batch.Errorf(batch.CodeBadMessage, "the message has a kind that protocol version %d does not have: the coordinator's build does not fit this worker, or is defective", wire.Protocol)
}

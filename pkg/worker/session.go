package worker

import (
	"errors"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
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

// Session is the call that a coordinator makes.
func (s *server) Session(stream pb.Worker_SessionServer) error {
	sess := &session{
		server: s, stream: stream, log: s.log, began: time.Now(),
		greeted: make(chan struct{}), ended: make(chan struct{}), readerDone: make(chan struct{}),
		replaced: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if !s.addSession(sess) {
		return wire.Status(errClosed)
	}
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

// end ends the session; the first reason counts. It does not wait.
func (sess *session) end(why error) {
	sess.once.Do(func() {
		sess.err = why
		close(sess.ended)
	})
}

// rescue ends the session, and nothing else, when one of its goroutines panics.
func (sess *session) endOnPanic(doing string) {
	if r := recover(); r != nil {
		sess.log.Error("defect: a session panicked", "while", doing, "panic", r, "stack", string(debug.Stack()))
		sess.end(batch.Errorf(batch.CodeInternal, "the worker panicked %s: %v: its log has the stack; please report it", doing, r))
	}
}

// receive is the reader.
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

// act does what a message asks for.
func (sess *session) handle(m *pb.CoordinatorMessage) error {
	sess.peer.backlog.update(m) // first: what is acknowledged may be in there
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
	case *pb.CoordinatorMessage_Hello:
		return batch.Errorf(batch.CodeBadMessage, "Hello comes once, at the beginning: the coordinator is defective")
	}
	return batch.Errorf(batch.CodeBadMessage, "a message of a kind that protocol %d does not have: the coordinator is of another build, or defective", wire.Protocol)
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

// send is the sender.
func (sess *session) send() {
	defer sess.endOnPanic("sending")
	var messages []*pb.WorkerMessage
	beat := time.NewTicker(sess.server.heartbeat())
	defer beat.Stop()
	said := false // something, since the last beat
	for {
		var pause time.Duration
		messages, pause = sess.peer.takeMessages(sess, messages[:0])
		for _, m := range messages {
			if err := sess.stream.Send(m); err != nil {
				sess.end(wire.FromStatus(err))
				return
			}
		}
		if len(messages) > 0 {
			clear(messages) // they are the peer's, who may forget them
			said = true
			continue
		}
		var later <-chan time.Time
		if pause > 0 {
			later = time.After(pause)
		}
		select {
		case <-sess.wake:
		case <-later:
		case <-beat.C:
			if said {
				said = false
			} else if err := sess.stream.Send(heartbeatMessage); err != nil {
				sess.end(wire.FromStatus(err))
				return
			}
		case <-sess.ended:
			return
		}
	}
}

// heartbeat is what is sent when there is nothing to say.
var heartbeatMessage = &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}

// heartbeat is how often coordinators hear something: often enough that they notice a lost connection long before a lease
// is over. It may be late by as much again.
func (s *server) heartbeat() time.Duration { return max(s.config.Lease/16, 10*time.Millisecond) }

// take appends what there is to send on k, in order: what was told, credit, results. Where parts have rows that wait to be
// reported, it says for how long they may still wait; else 0.
func (p *peer) takeMessages(sess *session, messages []*pb.WorkerMessage) (_ []*pb.WorkerMessage, pause time.Duration) {
	for part := p.nextOverdue(&pause); part != nil; part = p.nextOverdue(&pause) {
		p.report(part)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.Load() != sess || p.dropped {
		return messages, 0
	}
	messages = append(messages, sess.outbox...)
	sess.outbox = nil
	if news := p.server.connectors.changesSince(&sess.toldStates); len(news) > 0 {
		messages = append(messages, &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{Connectors: news}}})
	}
	for flow, c := range p.credits {
		if m := c.message(flow); m != nil {
			messages = append(messages, m)
		}
	}
	for _, r := range p.results[p.lastTaken-p.lastAcknowledged:] {
		p.server.metrics.resultsSent.Inc()
		if r.number <= p.lastSent {
			p.server.metrics.resultsResent.Inc()
		}
		messages = append(messages, r.message)
		p.lastTaken = r.number
	}
	p.lastSent = max(p.lastSent, p.lastTaken)
	return messages, pause
}

// take is the credit to send for the flow, if any. The caller holds the peer's lock.
func (c *credit) message(flow string) *pb.WorkerMessage {
	if !c.due.Swap(false) {
		return nil
	}
	var more amount
	if c.renew {
		c.renew, more = false, c.account.renew()
	} else {
		more = c.grant()
	}
	if more.none() {
		return nil
	}
	return &pb.WorkerMessage{Kind: &pb.WorkerMessage_Credit{Credit: &pb.FlowCredit{Flow: flow, Rows: uint32(more.rows), Bytes: uint32(more.bytes)}}}
}

// overdue takes the next part whose ended rows have waited long enough for the others; nil for none, with the time that the
// next has to wait in pause.
func (p *peer) nextOverdue(pause *time.Duration) *heldPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	*pause = 0
	for len(p.unreported) > 0 {
		part := p.unreported[0]
		if len(part.endedRuns) > 0 {
			if *pause = partialDelay - time.Since(part.endedSince); *pause > 0 {
				return nil
			}
			*pause = 0
		}
		p.unreported[0] = nil
		p.unreported = p.unreported[1:]
		if len(part.endedRuns) > 0 {
			return part
		}
	}
	return nil
}

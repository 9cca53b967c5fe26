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

	greeted  chan struct{} // closed when the sender starts
	over     chan struct{} // closed when the session ends
	read     chan struct{} // closed when the reader has ended
	replaced chan struct{} // closed when another session took its place, or nobody needs the peer any more
	wake     chan struct{} // holds a token while there may be something to send

	once sync.Once
	err  error // why it ended, nil where the coordinator ended it; read after over is closed

	// Guarded by the peer's lock.
	outbox       []*pb.WorkerMessage // goes before everything else
	toldDraining time.Time
	told         map[connectorKey]*pb.ConnectorState // how connectors stood when it was told last
}

// Session is the call that a coordinator makes.
func (s *server) Session(stream pb.Worker_SessionServer) error {
	k := &session{
		server: s, stream: stream, log: s.log, began: time.Now(),
		greeted: make(chan struct{}), over: make(chan struct{}), read: make(chan struct{}),
		replaced: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if !s.enter(k) {
		return wire.Status(errClosed)
	}
	s.goroutines.Go(k.receive)
	silence := time.NewTimer(handshakeTimeout)
	defer silence.Stop()
	select {
	case <-k.over:
	case <-k.greeted:
		<-k.over
	case <-silence.C:
		k.end(errSilent)
	}
	s.leave(k)
	return wire.Status(k.err)
}

// end ends the session; the first reason counts. It does not wait.
func (k *session) end(why error) {
	k.once.Do(func() {
		k.err = why
		close(k.over)
	})
}

// rescue ends the session, and nothing else, when one of its goroutines panics.
func (k *session) rescue(doing string) {
	if r := recover(); r != nil {
		k.log.Error("defect: a session panicked", "while", doing, "panic", r, "stack", string(debug.Stack()))
		k.end(batch.Errorf(batch.CodeInternal, "the worker panicked %s: %v: its log has the stack; please report it", doing, r))
	}
}

// receive is the reader.
func (k *session) receive() {
	defer close(k.read)
	defer k.rescue("receiving")
	m, err := k.stream.Recv()
	if err == nil {
		err = k.greet(m)
	}
	if err == nil {
		k.log.Info("session began", "worker", k.server.identity())
		close(k.greeted)
		k.server.welcome(k)
		k.server.goroutines.Go(k.send)
	}
	for err == nil {
		if m, err = k.stream.Recv(); err == nil {
			err = k.act(m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	k.end(wire.FromStatus(err))
}

// act does what a message asks for.
func (k *session) act(m *pb.CoordinatorMessage) error {
	k.peer.outlet.told(m) // first: what is acknowledged may be in there
	if err := k.peer.acknowledge(m.GetResultsReceived()); err != nil {
		return err
	}
	switch m := m.GetKind().(type) {
	case *pb.CoordinatorMessage_Part:
		return k.part(m.Part)
	case *pb.CoordinatorMessage_Ack:
		return k.activate(m.Ack.GetActive())
	case *pb.CoordinatorMessage_Definition:
		return k.define(m.Definition)
	case *pb.CoordinatorMessage_Release:
		return k.release(m.Release)
	case *pb.CoordinatorMessage_Forget:
		return k.forget(m.Forget)
	case *pb.CoordinatorMessage_Locate:
		return k.locate(m.Locate)
	case *pb.CoordinatorMessage_Hello:
		return batch.Errorf(batch.CodeBadMessage, "Hello comes once, at the beginning: the coordinator is defective")
	}
	return batch.Errorf(batch.CodeBadMessage, "a message of a kind that protocol %d does not have: the coordinator is of another build, or defective", protocol)
}

// tell puts a message before everything else that there is to send. The caller holds the peer's lock.
func (k *session) tell(m *pb.WorkerMessage) { k.outbox = append(k.outbox, m) }

// tellDraining tells it once. The caller holds the peer's lock.
func (k *session) tellDraining() {
	if k.toldDraining.IsZero() {
		k.toldDraining = time.Now()
		k.tell(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Draining{Draining: &pb.Draining{}}})
	}
}

// send is the sender.
func (k *session) send() {
	defer k.rescue("sending")
	var messages []*pb.WorkerMessage
	beat := time.NewTicker(k.server.heartbeat())
	defer beat.Stop()
	said := false // something, since the last beat
	for {
		var pause time.Duration
		messages, pause = k.peer.take(k, messages[:0])
		for _, m := range messages {
			if err := k.stream.Send(m); err != nil {
				k.end(wire.FromStatus(err))
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
		case <-k.wake:
		case <-later:
		case <-beat.C:
			if said {
				said = false
			} else if err := k.stream.Send(heartbeat); err != nil {
				k.end(wire.FromStatus(err))
				return
			}
		case <-k.over:
			return
		}
	}
}

// heartbeat is what is sent when there is nothing to say.
var heartbeat = &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}

// heartbeat is how often coordinators hear something: often enough that they notice a lost connection long before a lease
// is over. It may be late by as much again.
func (s *server) heartbeat() time.Duration { return max(s.config.Lease/16, 10*time.Millisecond) }

// take appends what there is to send on k, in order: what was told, credit, results. Where parts have rows that wait to be
// reported, it says for how long they may still wait; else 0.
func (p *peer) take(k *session, messages []*pb.WorkerMessage) (_ []*pb.WorkerMessage, pause time.Duration) {
	for t := p.overdue(&pause); t != nil; t = p.overdue(&pause) {
		p.report(t)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.Load() != k || p.gone {
		return messages, 0
	}
	messages = append(messages, k.outbox...)
	k.outbox = nil
	if news := p.server.standings.news(&k.told); len(news) > 0 {
		messages = append(messages, &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{Connectors: news}}})
	}
	for flow, c := range p.credits {
		if m := c.take(flow); m != nil {
			messages = append(messages, m)
		}
	}
	for _, r := range p.results[p.taken-p.known:] {
		p.server.metrics.resultsSent.Inc()
		if r.number <= p.sent {
			p.server.metrics.resultsResent.Inc()
		}
		messages = append(messages, r.message)
		p.taken = r.number
	}
	p.sent = max(p.sent, p.taken)
	return messages, pause
}

// take is the credit to send for the flow, if any. The caller holds the peer's lock.
func (c *credit) take(flow string) *pb.WorkerMessage {
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
func (p *peer) overdue(pause *time.Duration) *part {
	p.mu.Lock()
	defer p.mu.Unlock()
	*pause = 0
	for len(p.waiting) > 0 {
		t := p.waiting[0]
		if len(t.ended) > 0 {
			if *pause = partialDelay - time.Since(t.since); *pause > 0 {
				return nil
			}
			*pause = 0
		}
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if len(t.ended) > 0 {
			return t
		}
	}
	return nil
}

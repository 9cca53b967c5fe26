package worker

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

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

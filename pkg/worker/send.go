package worker

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// send is the session's sender. It sends everything that the peer has for the coordinator, and a heartbeat when it has sent
// nothing for a while. The goroutine ends with the session; an error of the stream ends the session.
func (sess *session) send() {
	defer sess.endOnPanic("sending")
	var messages []*pb.WorkerMessage
	beat := time.NewTicker(sess.server.heartbeat())
	defer beat.Stop()
	said := false // whether anything was sent since the last beat
	for {
		var pause time.Duration
		messages, pause = sess.peer.takeMessages(sess, messages[:0])
		for _, m := range messages {
			if err := sess.stream.Send(m); err != nil {
				sess.end(wire.FromStatus(err))
				return
			}
			if m.GetTapped() != nil {
				sess.tapsUnsent.Add(-1)
			}
		}
		if len(messages) > 0 {
			clear(messages) // so that this slice does not keep results in memory that the peer forgets
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

// heartbeatMessage is the empty message that a session sends when it has nothing else to send.
var heartbeatMessage = &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}

// takeMessages appends the messages that sess has to send, in this order: the queue of the session, changes of connectors,
// changes of figures, credit, results. Before that it makes results of parts whose ended rows have waited for partialDelay. pause is how long the
// next of these parts has to wait; 0 means that there is none. A session that is not the current one gets nothing.
func (p *peer) takeMessages(sess *session, messages []*pb.WorkerMessage) (_ []*pb.WorkerMessage, pause time.Duration) {
	for part := p.nextOverdue(&pause); part != nil; part = p.nextOverdue(&pause) {
		p.report(part)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.Load() != sess || p.dropped { // another session has taken its place
		return messages, 0
	}
	messages = append(messages, sess.queue...)
	sess.queue = nil
	if news := p.server.connectors.changesSince(&sess.toldStates); len(news) > 0 {
		messages = append(messages, &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{Connectors: news}}})
	}
	if news := p.server.figures.changesSince(&sess.toldFigures); news != nil {
		messages = append(messages, &pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{Figures: news}}})
	}
	for _, c := range p.dueCredits.take() {
		if p.credits[c.flow] != c {
			continue // the flow's credit was closed meanwhile
		}
		if m := c.message(); m != nil {
			p.server.metrics.creditsSent.Inc()
			messages = append(messages, m)
		}
	}
	// p.results begins with the result after lastAcknowledged. The session has taken those up to lastTaken.
	for _, r := range p.results[p.lastTaken-p.lastAcknowledged:] {
		p.server.metrics.resultsSent.Inc()
		if r.number <= p.lastSent {
			pointResultsAgain.Hit()
			p.server.metrics.resultsResent.Inc()
		}
		messages = append(messages, r.message)
		p.lastTaken = r.number
	}
	p.lastSent = max(p.lastSent, p.lastTaken)
	return messages, pause
}

// message returns the message that grants more credit for the flow, or nil when there is none to grant. The caller holds the
// peer's lock.
func (c *credit) message() *pb.WorkerMessage {
	var more amount
	if c.renew {
		c.renew, more = false, c.account.renew()
	} else {
		more = c.grant()
	}
	if more.none() {
		return nil
	}
	return &pb.WorkerMessage{Kind: &pb.WorkerMessage_Credit{Credit: &pb.FlowCredit{Flow: c.flow, Rows: uint32(more.rows), Bytes: uint32(more.bytes)}}}
}

// nextOverdue takes one part out of p.unreported whose ended rows have waited for partialDelay. It returns nil when there is
// none; then pause is how long the next part still has to wait, or 0.
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

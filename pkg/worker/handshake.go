package worker

import (
	"math"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// handshakeTimeout limits the time from the opening of a session until the Welcome can be sent, Hello of the coordinator
// included.
const handshakeTimeout = 10 * time.Second

// Errors with which sessions end although neither side is defective; and errNoSession, which says why the worker is not ready.
var (
	errReplaced         = batch.Errorf(batch.CodeCancelled, "the coordinator has opened another session, which replaces this one")                                                                          // the coordinator opened another session
	errRestarted        = batch.Errorf(batch.CodeCancelled, "the coordinator has forgotten the earlier sessions and starts again")                                                                          // the coordinator does not resume its earlier sessions
	errExpired          = batch.Errorf(batch.CodeUnavailable, "the coordinator had no session for the time of a lease, so the worker has forgotten it")                                                     // the coordinator had no session for a lease time
	errDrained          = batch.Errorf(batch.CodeShutdown, "the worker has drained")                                                                                                                        // everything is delivered, and the worker ends
	errClosed           = batch.Errorf(batch.CodeShutdown, "the worker is shutting down")                                                                                                                   // the worker ends now
	errNoSession        = batch.Errorf(batch.CodeUnavailable, "no coordinator has a session with this worker: check that a coordinator runs, and that it can reach the address that the worker advertises") // no session is open: not the end of a session, but the reason why the worker is not ready
	errHandshakeTimeout = batch.Errorf(batch.CodeDeadline, "the handshake of the session took longer than %s", handshakeTimeout)                                                                            // Hello or the Welcome took too long
)

// greet answers Hello, the first message of a session. It checks that both sides can work together, finds or makes the
// coordinator's peer, and makes this session the peer's current one. It returns an error where the session must not go on.
func (sess *session) greet(m *pb.CoordinatorMessage) error {
	hello := m.GetHello()
	switch {
	case hello == nil:
		return batch.Errorf(batch.CodeBadMessage, "the session does not begin with Hello: the program that opened it is not a coordinator, or is defective")
	case hello.GetProtocolMin() > wire.Protocol || hello.GetProtocolMax() < wire.Protocol:
		return batch.Errorf(batch.CodeProtocolMismatch, "the coordinator speaks protocol versions %d to %d, and this worker speaks version %d: upgrade the older of the two",
			hello.GetProtocolMin(), hello.GetProtocolMax(), wire.Protocol)
	case hello.GetCoordinator() == "":
		return batch.Errorf(batch.CodeBadMessage, "Hello has no coordinator's id: the program that opened the session is defective")
	}
	mine := sess.server.config.Limits
	if !hello.GetFollowsLimits() && (int(hello.GetBatchBytes()) > mine.BatchBytes || int(hello.GetBatchRows()) > mine.BatchRows) {
		return batch.Errorf(batch.CodeProtocolMismatch, "the coordinator accepts batches of up to %d bytes and %d rows, this worker only of %d bytes and %d rows, "+
			"and the coordinator's build can't send smaller parts: give both the same --max-batch-bytes and --max-batch-rows, or upgrade the coordinator",
			hello.GetBatchBytes(), hello.GetBatchRows(), mine.BatchBytes, mine.BatchRows)
	}
	if n := len(hello.GetSecret()); n > maxSecretBytes {
		return batch.Errorf(batch.CodeBadMessage, "Hello has a secret of %d bytes, and the limit is %d bytes: the program that opened the session is defective", n, maxSecretBytes)
	}
	sess.log = sess.server.log.With("coordinator", hello.GetCoordinator())
	agreed, err := sess.join(m, hello.GetResume(), m.GetResultsReceived())
	if err == nil && !agreed {
		pointDisagreed.Hit()
		// The second attempt makes a new peer, which has sent no results and so agrees with any coordinator.
		sess.server.metrics.peersAnew.Inc()
		sess.log.Warn("the coordinator and this worker disagree about which results were delivered: forgetting the coordinator and starting again with it", "received", m.GetResultsReceived())
		_, err = sess.join(m, false, 0)
	}
	return err
}

// join makes this session the current one of the coordinator's peer. The peer is a new one where resume is false or the
// coordinator is not known. received is the number of the last result that the coordinator has.
//
// agreed is false where the two sides remember different results: the coordinator has results that this worker never sent, or
// lacks results that it has acknowledged. Then join drops the peer, and the session has no peer.
func (sess *session) join(m *pb.CoordinatorMessage, resume bool, received uint64) (agreed bool, err error) {
	p, before, err := sess.server.findPeer(m.GetHello(), resume)
	if err != nil {
		return false, err
	}
	if before != nil {
		before.drop(errRestarted)
		pointRestarted.Hit()
	}
	if err := p.attach(sess); err != nil {
		return false, err
	}
	agreed, err = p.startSession(sess, m, received)
	if err != nil || agreed {
		return agreed, err
	}
	if !p.dropInHandshake(sess) {
		return false, errReplaced
	}
	sess.server.removePeer(p)
	return false, nil
}

// maxSecretBytes is the largest secret of a coordinator that the worker accepts.
const maxSecretBytes = 64

// peerKey returns the key of a coordinator's peer in server.peers: its id together with the secret that it drew for this
// worker. A process that knows only the id gets another peer, and so can't end the session of the real coordinator.
func peerKey(hello *pb.Hello) string {
	if len(hello.GetSecret()) == 0 {
		return hello.GetCoordinator() // an earlier build has no secrets
	}
	return hello.GetCoordinator() + "\x00" + string(hello.GetSecret())
}

// findPeer returns the coordinator's peer, or makes a new one where resume is false or there is none. before is the earlier
// peer that the new one replaces, nil where there was none. The error says that this worker is not the one that the
// coordinator wants, or takes no new coordinators.
func (s *server) findPeer(hello *pb.Hello, resume bool) (p, before *peer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, errClosed
	case s.id == "" && s.hadID:
		return nil, nil, batch.Errorf(batch.CodeUnavailable, "the worker is about to register again and has no id now: dial it when etcd has its next record")
	case s.id == "":
		return nil, nil, batch.Errorf(batch.CodeNotFound, "worker %s is not at this address; another worker, which has not registered yet, is: read the address from the records in etcd", hello.GetWorker())
	case hello.GetWorker() != s.id:
		pointOtherWorker.Hit()
		return nil, nil, batch.Errorf(batch.CodeNotFound, "worker %s is not at this address; worker %s is: read the address from the records in etcd", hello.GetWorker(), s.id)
	}
	key := peerKey(hello)
	p = s.peers[key]
	if p != nil && resume {
		pointResumed.Hit()
		return p, nil, nil
	}
	if s.draining.Load() {
		pointDrains.Hit()
		return nil, nil, errDrained
	}
	before, p = p, newPeer(s, key, hello.GetCoordinator())
	p.maxOutputPerRow = s.maxOutputPerRow(hello)
	s.peers[key] = p
	if before == nil {
		s.metrics.peers.Inc()
	}
	return p, before, nil
}

// maxOutputPerRow returns the largest output of one row, and the largest dead letter, that the coordinator accepts, in bytes.
// It is the coordinator's limit for a batch, and at most this worker's own.
func (s *server) maxOutputPerRow(hello *pb.Hello) int {
	if limit := int(hello.GetBatchBytes()); limit > 0 {
		return min(limit, s.config.Limits.BatchBytes)
	}
	return s.config.Limits.BatchBytes
}

// attach makes sess the current session of the coordinator. When attach returns, the session before is over and its reader
// has ended, so that lastPart does not change until sess reads. attach fails if the peer was dropped.
func (p *peer) attach(sess *session) error {
	p.mu.Lock()
	if p.dropped {
		p.mu.Unlock()
		return errReplaced
	}
	before := p.session.Swap(sess)
	sess.peer = p
	p.mu.Unlock()
	if before != nil { // end the earlier session, and wait until it reads no more
		pointReplaced.Hit()
		close(before.replaced)
		before.end(errReplaced)
		<-before.readerDone
	}
	return nil
}

// startSession enqueues the Welcome in sess, and prepares the peer to send again every result that the coordinator has not
// acknowledged. received is the number of the last result that the coordinator has. agreed is false, and nothing has changed,
// where that number does not fit the results that this worker has sent.
func (p *peer) startSession(sess *session, m *pb.CoordinatorMessage, received uint64) (agreed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session.Load() != sess || p.dropped {
		return false, errReplaced
	}
	if p.hadSession { // the coordinator resumes: compare the results that both sides know of
		if received < p.lastAcknowledged || received > p.lastSent {
			return false, nil
		}
		if err := p.acknowledgeLocked(received); err != nil {
			return false, err
		}
	}
	sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Welcome{Welcome: &pb.Welcome{
		Protocol: wire.Protocol, Worker: p.server.workerID(), Resumed: p.hadSession, PartsReceived: p.lastPart,
		HeartbeatMilliseconds: uint32(2 * p.server.heartbeat().Milliseconds()), Digests: true, TellsConnectors: true, Locates: true, Taps: true, Positions: true,
		BatchBytes: uint32(min(p.server.config.Limits.BatchBytes, math.MaxUint32)),
		BatchRows:  uint32(min(p.server.config.Limits.BatchRows, math.MaxUint32)),
	}}})
	if p.server.draining.Load() {
		sess.enqueueDraining()
	}
	p.hadSession = true
	p.lastTaken = p.lastAcknowledged // the new session sends every result again that is not acknowledged
	p.backlog.reset(m.GetHello(), m.GetUntaken())
	sess.toldFigures.wanted = m.GetHello().GetTakesFigures()
	for _, c := range p.credits { // credit of the session before is void
		c.renew = true
		c.look()
	}
	return true, nil
}

package serve

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/frames"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// limiter limits the resources that clients can use in a gRPC server before a handler sees their request: connections, calls,
// and bytes of messages that are being received. gRPC itself limits only the bytes of one stream, and a client may have a
// thousand streams.
//
// Received bytes belong to a call. They are given back when a handler has the message, or when the call ends for any reason.
// When there are too many bytes, the connection with the highest cost is cut; each byte costs the time since it came. An
// honest client has a message under way for moments only, however large, and sends it again after a cut. Calls that have sent
// no message are limited in the same way.
type limiter struct {
	calls, bytes int64        // limits, from config
	connections  *connLimiter // limits connections
	config       *transport.Config
	refusals     transport.RefusalLog // logs refused connections
	start        time.Time            // time 0 of now

	running atomic.Int64 // calls under way, without health probes

	mu     sync.Mutex
	held   int64                   // received bytes that no handler has yet, over all connections; guarded by mu
	silent int64                   // calls that have sent no message yet; guarded by mu
	meters map[string]*meteredConn // the connections by the client's address; guarded by mu
}

// newLimiter makes the limiter of one gRPC server, with the limits of c.
func newLimiter(c *transport.Config) *limiter {
	return &limiter{
		connections: newConnLimiter(c.MaxConnections, c.MaxConnectionsPerAddress),
		start:       time.Now(),
		calls:       int64(c.MaxCalls), bytes: c.ReceiveBytes, config: c, meters: map[string]*meteredConn{},
	}
}

// logRefusal logs that a connection from peer was refused, with the reason and the flag of the limit.
func (l *limiter) logRefusal(peer net.Addr, err error) {
	l.refusals.Log(l.config.Log(), peer, fmt.Errorf("%w (%s)", err, l.config.Flag("max-connections")))
}

// silentShare limits the calls that have sent no message yet: at most one in silentShare of the calls that the server allows.
const silentShare = 4

// refusedGrace is how long a connection that could not be admitted stays open, so that its client can read the error.
const refusedGrace = time.Second

// admitCall counts a new call as under way until its context is done, or returns the error that refuses the call. gRPC calls
// admitCall in the goroutine that reads from the connection, while gRPC holds a lock of its own.
func (l *limiter) admitCall(ctx context.Context, info *tap.Info) (context.Context, error) {
	m, _ := ctx.Value(meterKey{}).(*meteredConn)
	probe := info.FullMethodName == healthpb.Health_Check_FullMethodName // limits must not keep health probes out
	var place *connEntry
	if m != nil && !probe {
		place = m.entry
	}
	if place != nil { // admit the connection, and count the call on it
		if err := place.beginCall(); err != nil {
			l.logRefusal(m.RemoteAddr(), err)
			conn := place.conn
			time.AfterFunc(refusedGrace, func() { _ = conn.Close() }) // makes the client look for another server
			return nil, wire.Status(batch.Errorf(batch.CodeOverloaded, "%w (%s, %s): dial another server, or raise the limit",
				err, l.config.Flag("max-connections"), l.config.Flag("max-connections-per-address")))
		}
	}
	leave := func() {
		if place != nil {
			place.endCall()
		}
		if !probe {
			l.running.Add(-1)
		}
	}
	if !probe && l.running.Add(1) > l.calls { // too many calls on all connections together
		leave()
		return nil, wire.Status(batch.Errorf(batch.CodeOverloaded,
			"%d calls are under way, and this is the server's limit (%s): try again, or call another server", l.calls, l.config.Flag("max-calls")))
	}
	if m == nil {
		context.AfterFunc(ctx, leave)
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &meteredCall{conn: m, stream: m.frames.Opened(), ctx: ctx, cancel: cancel, began: l.now(), endsWithServer: strings.HasPrefix(info.FullMethodName, "/grpc.")}
	l.addCall(c)
	context.AfterFunc(ctx, func() {
		leave()
		l.removeCall(c)
	})
	return context.WithValue(ctx, callKey{}, c), nil
}

// now returns the time since start, in microseconds.
func (l *limiter) now() int64 { return time.Since(l.start).Microseconds() }

// addCall enters a new call, which has sent no message yet. When there are too many calls without a message, it cuts one: on
// the connection whose silent calls have waited longest in total, the oldest.
func (l *limiter) addCall(c *meteredCall) {
	l.mu.Lock()
	c.conn.calls[c.stream] = c
	c.silent = c.conn.silent.PushBack(c)
	c.conn.beganSum += c.began
	l.silent++
	var crowded *meteredCall
	if l.silent > max(1, l.calls/silentShare) { // find the connection whose silent calls have waited longest
		most := c.conn
		for _, m := range l.meters {
			if m.silentTime(c.began) > most.silentTime(c.began) {
				most = m
			}
		}
		crowded, _ = most.silent.Front().Value.(*meteredCall)
		l.endSilenceLocked(crowded)
	}
	l.mu.Unlock()
	if crowded != nil {
		go l.cutCall(crowded) // not here, because the caller holds a lock of gRPC
	}
}

// errUnread is the error of a call that the server ended before its request had come.
var errUnread = batch.Errorf(batch.CodeOverloaded, "the server ended the call before it had received the request, because it shuts down or has too many "+
	"calls without a request: nothing was done: try again, or call another server")

// unread has errUnread as the trailer of a call. gRPC ends a cancelled call with its own status, CANCELLED. A client takes the
// details from the trailer when the status has none, so errUnread travels as a detail, with the same code CANCELLED.
var unread = sync.OnceValue(func() metadata.MD {
	s := status.New(codes.Canceled, errUnread.Error())
	if with, err := s.WithDetails(wire.FromError(errUnread)); err == nil {
		s = with
	}
	packed, _ := proto.Marshal(s.Proto()) // a message of strings and numbers can always be packed
	return metadata.Pairs("grpc-status-details-bin", string(packed))
})

// beginRead notes that a handler is about to read the request of a call that has one request. It returns false when the limiter
// has cut the call before; then the handler must not run.
func (l *limiter) beginRead(ctx context.Context) bool {
	c, _ := ctx.Value(callKey{}).(*meteredCall)
	if c == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.reader = ctx
	return !c.cut
}

// cutCall ends a call. If a handler waits for the request of a call that has one request, the call's error says that nothing
// was done.
func (l *limiter) cutCall(c *meteredCall) {
	l.mu.Lock()
	reader := c.reader
	c.cut = true
	l.mu.Unlock()
	if reader != nil {
		_ = grpc.SetTrailer(reader, unread()) // it fails where the call has ended
	}
	c.cancel()
}

// silentTime returns how long the silent calls of the connection have waited, in total. The caller holds the limiter's lock.
func (m *meteredConn) silentTime(now int64) int64 { return int64(m.silent.Len())*now - m.beganSum }

// endSilenceLocked takes a call off the calls that have sent no message, because a message has come or the call is over. The
// caller holds l.mu.
func (l *limiter) endSilenceLocked(c *meteredCall) {
	if c.silent != nil {
		c.conn.silent.Remove(c.silent)
		c.conn.beganSum -= c.began
		c.silent = nil
		l.silent--
	}
}

// cutCalls cuts the calls that end only with the server. If silent is true, it also cuts the calls that have sent no message.
func (l *limiter) cutCalls(silent bool) {
	var over []*meteredCall
	l.mu.Lock()
	for _, m := range l.meters {
		for _, c := range m.calls {
			if c.endsWithServer || silent && c.silent != nil {
				over = append(over, c)
			}
		}
	}
	l.mu.Unlock()
	for _, c := range over {
		l.cutCall(c)
	}
}

// addBytes counts received bytes of a call's messages. When all bytes together exceed the limit, it cuts the connection with
// the highest cost. Bytes for a call that has ended or was refused are not counted, because gRPC drops them at once.
func (l *limiter) addBytes(m *meteredConn, stream uint32, n int64) {
	l.mu.Lock()
	c := m.calls[stream]
	if m.gone || c == nil {
		l.mu.Unlock()
		return
	}
	if c.held == 0 {
		c.heldSince = l.now()
	}
	c.held += n
	m.held += n
	l.held += n
	var most *meteredConn
	if l.held > l.bytes { // perhaps bytes of ended calls are still counted
		l.releaseCancelledLocked()
	}
	if l.held > l.bytes {
		var worst float64
		now := l.now()
		for _, other := range l.meters {
			if cost := other.cost(now); cost > worst {
				most, worst = other, cost
			}
		}
	}
	var held int64
	if most != nil {
		held = most.held
		l.removeConnLocked(most)
	}
	l.mu.Unlock()
	if most != nil {
		l.refusals.Log(l.config.Log(), most.RemoteAddr(), fmt.Errorf(
			"cut off: the messages that are being received have more than %d bytes, which is the limit (%s), and %d of them came on this connection",
			l.bytes, l.config.Flag("max-receive-bytes"), held))
		_ = most.Conn.Close() // the goroutine that reads from it sees the end
	}
}

// leastByteTime is added to the age of each received byte in the cost of a connection, in microseconds. So a connection that
// brings very many bytes at once has a high cost too.
const leastByteTime = 50_000

// cost returns the cost of the received bytes that the connection holds: bytes multiplied with the time since they came. The
// caller holds the limiter's lock.
func (m *meteredConn) cost(now int64) (cost float64) {
	for _, c := range m.calls {
		cost += float64(c.held) * float64(leastByteTime+now-c.heldSince)
	}
	return cost
}

// releaseCancelledLocked gives back the bytes of calls whose context is done. gRPC reports their end only a moment later. The
// caller holds l.mu.
func (l *limiter) releaseCancelledLocked() {
	for _, m := range l.meters {
		for _, c := range m.calls {
			if c.held > 0 && c.ctx.Err() != nil {
				l.releaseLocked(c, c.held)
			}
		}
	}
}

// delivered gives n bytes of a call back to the limit, because a handler has the message that they belong to. From then on the
// call no longer counts as silent.
func (l *limiter) delivered(c *meteredCall, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(c, min(n, c.held)) // n may be larger than held, because padding is not counted
	c.heldSince = l.now()              // the bytes that are left belong to later messages
	l.endSilenceLocked(c)
}

// removeCall forgets a call that is over, and gives its bytes back to the limit.
func (l *limiter) removeCall(c *meteredCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(c, c.held)
	l.endSilenceLocked(c)
	delete(c.conn.calls, c.stream)
}

// releaseLocked gives n received bytes of a call back to the limit. The caller holds l.mu.
func (l *limiter) releaseLocked(c *meteredCall, n int64) {
	c.held -= n
	if c.conn.gone {
		return // removeConnLocked has given its bytes back
	}
	c.conn.held -= n
	l.held -= n
}

// removeConnLocked forgets a connection that is closed or cut, and gives the bytes of all its calls back to the limit. The
// caller holds l.mu.
func (l *limiter) removeConnLocked(m *meteredConn) {
	if m.gone {
		return
	}
	m.gone = true
	l.held -= m.held
	if address := m.RemoteAddr().String(); l.meters[address] == m {
		delete(l.meters, address)
	}
}

// The limiter is gRPC's stats.Handler: so it learns which connection a call belongs to, and when a whole message has come.

// Keys of values in a call's context.
type (
	meterKey struct{} // the *meteredConn of the connection
	callKey  struct{} // the *meteredCall of the call
)

// TagConn implements stats.Handler: it puts the connection into the context of its calls.
func (l *limiter) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.meters[info.RemoteAddr.String()]; m != nil {
		return context.WithValue(ctx, meterKey{}, m)
	}
	return ctx
}

// TagRPC implements stats.Handler; it changes nothing.
func (l *limiter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler; it does nothing.
func (l *limiter) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler. When a handler gets a message, it gives the bytes of the message back to the limit.
func (l *limiter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		if c, _ := ctx.Value(callKey{}).(*meteredCall); c != nil {
			l.delivered(c, int64(in.WireLength))
		}
	}
}

// meteredCredentials wraps the server's TLS or plaintext credentials. It wraps each connection into a meteredConn when the
// handshake is over.
type meteredCredentials struct {
	credentials.TransportCredentials
	limiter *limiter
}

// ServerHandshake implements credentials.TransportCredentials: it does the handshake and returns the connection as a
// meteredConn.
func (c *meteredCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	m := &meteredConn{Conn: conn, limiter: c.limiter, calls: map[uint32]*meteredCall{}, frames: frames.FromPreface()}
	if p, ok := raw.(*limitedConn); ok {
		m.entry = p.connEntry
	}
	c.limiter.mu.Lock()
	c.limiter.meters[conn.RemoteAddr().String()] = m
	c.limiter.mu.Unlock()
	return m, info, nil
}

// Clone implements credentials.TransportCredentials: the copy meters its connections too.
func (c *meteredCredentials) Clone() credentials.TransportCredentials {
	return &meteredCredentials{c.TransportCredentials.Clone(), c.limiter}
}

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

// intake bounds what clients make a gRPC server hold before any handler knows of it: connections, calls, and bytes of
// messages that are on their way in. gRPC itself bounds the bytes per stream only, which a client may have a thousand of.
//
// Bytes are counted for the call that they belong to, and given back when a handler has them, or when the call is over, however
// it ended. When there are too many, the connection is cut that has cost most: each byte counts for as long as it has been there.
// Honest clients have messages under way for moments, however large, and one that is cut sends again. In the same way calls are
// ended that have no message yet.
type limiter struct {
	calls, bytes int64 // limits
	connections  *connLimiter
	config       *transport.Config
	refusals     transport.RefusalLog
	start        time.Time // of the clock of calls and bytes

	running atomic.Int64 // calls there are

	mu     sync.Mutex
	held   int64                   // guarded by mu: bytes of all meters
	silent int64                   // guarded by mu: calls of all meters that brought no message yet
	meters map[string]*meteredConn // guarded by mu: by the client's address
}

func newLimiter(c *transport.Config) *limiter {
	return &limiter{
		connections: newConnLimiter(c.MaxConnections, c.MaxConnectionsPerAddress),
		start:       time.Now(),
		calls:       int64(c.MaxCalls), bytes: c.ReceiveBytes, config: c, meters: map[string]*meteredConn{},
	}
}

func (l *limiter) logRefusal(peer net.Addr, err error) {
	l.refusals.Log(l.config.Log(), peer, fmt.Errorf("%w (%s)", err, l.config.Flag("max-connections")))
}

// silentShare is which part of all calls, one in so many, may have brought no message yet.
const silentShare = 4

// refusedGrace is how long a connection that could not be admitted stays open, for its client to read why.
const refusedGrace = time.Second

// call counts a call in, until its context is done, or refuses it. It runs under a lock of gRPC's, in the goroutine that reads
// from the connection.
func (l *limiter) admitCall(ctx context.Context, info *tap.Info) (context.Context, error) {
	m, _ := ctx.Value(meterKey{}).(*meteredConn)
	probe := info.FullMethodName == healthpb.Health_Check_FullMethodName // which no limit may keep out
	var place *connEntry
	if m != nil && !probe {
		place = m.entry
	}
	if place != nil {
		if err := place.beginCall(); err != nil {
			l.logRefusal(m.RemoteAddr(), err)
			conn := place.conn
			time.AfterFunc(refusedGrace, func() { _ = conn.Close() }) // then its client looks for another server
			return nil, wire.Status(batch.Errorf(batch.CodeOverloaded, "%w (%s, %s): try another server, or raise the limit",
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
	if !probe && l.running.Add(1) > l.calls {
		leave()
		return nil, wire.Status(batch.Errorf(batch.CodeOverloaded,
			"%d calls are under way, which is the server's limit (%s): try again, or another server", l.calls, l.config.Flag("max-calls")))
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

// now is the time in microseconds.
func (l *limiter) now() int64 { return time.Since(l.start).Microseconds() }

// begin notes a call, which has brought no message yet. Such calls have a share of all; when it is used up, the oldest one is ended
// of the connection whose silent calls have waited longest, all their times together.
func (l *limiter) addCall(c *meteredCall) {
	l.mu.Lock()
	c.conn.calls[c.stream] = c
	c.silent = c.conn.silent.PushBack(c)
	c.conn.beganSum += c.began
	l.silent++
	var crowded *meteredCall
	if l.silent > max(1, l.calls/silentShare) {
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
		go l.cutCall(crowded) // the caller holds a lock of gRPC's
	}
}

// errUnread ends calls for whose message the server does not wait: Drain's, and those that are too many.
var errUnread = batch.Errorf(batch.CodeOverloaded, "the server ended the call before its message had come, as it shuts down or has too many "+
	"such calls: nothing was done: try again, or another server")

// unread is errUnread as the detail of the status with which gRPC ends a call that is cancelled while its handler waits for the
// message. gRPC takes a detail from the trailer only where the status has none of its own, and the same code.
var unread = sync.OnceValue(func() metadata.MD {
	s := status.New(codes.Canceled, errUnread.Error())
	if with, err := s.WithDetails(wire.FromError(errUnread)); err == nil {
		s = with
	}
	packed, _ := proto.Marshal(s.Proto()) // a message of strings and numbers can always be packed
	return metadata.Pairs("grpc-status-details-bin", string(packed))
})

// reads notes that a handler is about to read the one message of its call. False: the call was ended before.
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

// cut ends a call. Where a handler waits for the call's one message, the call's error says that nothing was done.
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

// silence is how long the connection's silent calls have waited, all together. The caller holds the intake's lock.
func (m *meteredConn) silentTime(now int64) int64 { return int64(m.silent.Len())*now - m.beganSum }

func (l *limiter) endSilenceLocked(c *meteredCall) {
	if c.silent != nil {
		c.conn.silent.Remove(c.silent)
		c.conn.beganSum -= c.began
		c.silent = nil
		l.silent--
	}
}

// end ends the calls that only wait for the server's end and, if silent is set, those that brought no message yet.
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

// came notes bytes of a call's messages that came in, and cuts a connection when they are too many. Bytes for a call that is over,
// or was refused, are held by nobody: gRPC drops them as they come.
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
	if l.held > l.bytes {
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
			"cut off: messages on their way in have more than %d bytes, which is the limit (%s), and this connection had %d of them",
			l.bytes, l.config.Flag("max-receive-bytes"), held))
		_ = most.Conn.Close() // its reader sees that
	}
}

// haste is what a byte counts at least, in microseconds: so a connection that brings very many at once counts, too.
const leastByteTime = 50_000

// cost is what the bytes that a connection holds have cost others. The caller holds the intake's lock.
func (m *meteredConn) cost(now int64) (cost float64) {
	for _, c := range m.calls {
		cost += float64(c.held) * float64(leastByteTime+now-c.heldSince)
	}
	return cost
}

// settleLocked gives back what came for calls that are over, and whose end comes to be noted only in a moment.
func (l *limiter) releaseCancelledLocked() {
	for _, m := range l.meters {
		for _, c := range m.calls {
			if c.held > 0 && c.ctx.Err() != nil {
				l.releaseLocked(c, c.held)
			}
		}
	}
}

// delivered notes bytes of messages that a handler has now.
func (l *limiter) delivered(c *meteredCall, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(c, min(n, c.held)) // padding came beside it, perhaps
	c.heldSince = l.now()              // what is left belongs to later messages
	l.endSilenceLocked(c)
}

// ended forgets a call, and what had come for it.
func (l *limiter) removeCall(c *meteredCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releaseLocked(c, c.held)
	l.endSilenceLocked(c)
	delete(c.conn.calls, c.stream)
}

func (l *limiter) releaseLocked(c *meteredCall, n int64) {
	c.held -= n
	if c.conn.gone {
		return // what it held went with it
	}
	c.conn.held -= n
	l.held -= n
}

// forget drops a connection. The caller holds the lock.
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

// The intake learns from gRPC, as its stats.Handler, which calls belong to which connection, and when a message is whole.

type (
	meterKey struct{}
	callKey  struct{}
)

// TagConn implements stats.Handler.
func (l *limiter) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.meters[info.RemoteAddr.String()]; m != nil {
		return context.WithValue(ctx, meterKey{}, m)
	}
	return ctx
}

// TagRPC implements stats.Handler.
func (l *limiter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (l *limiter) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler.
func (l *limiter) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		if c, _ := ctx.Value(callKey{}).(*meteredCall); c != nil {
			l.delivered(c, int64(in.WireLength))
		}
	}
}

// meteredCredentials put a meter on each connection, behind the handshake.
type meteredCredentials struct {
	credentials.TransportCredentials
	limiter *limiter
}

// ServerHandshake implements credentials.TransportCredentials.
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

// Clone implements credentials.TransportCredentials.
func (c *meteredCredentials) Clone() credentials.TransportCredentials {
	return &meteredCredentials{c.TransportCredentials.Clone(), c.limiter}
}

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
type intake struct {
	calls, bytes int64 // limits
	connections  *connections
	config       *transport.Config
	refusals     transport.Refusals
	start        time.Time // of the clock of calls and bytes

	running atomic.Int64 // calls there are

	mu     sync.Mutex
	held   int64             // guarded by mu: bytes of all meters
	silent int64             // guarded by mu: calls of all meters that brought no message yet
	meters map[string]*meter // guarded by mu: by the client's address
}

func newIntake(c *transport.Config) *intake {
	return &intake{
		connections: newConnections(c.MaxConnections, c.MaxConnectionsPerAddress),
		start:       time.Now(),
		calls:       int64(c.MaxCalls), bytes: c.ReceiveBytes, config: c, meters: map[string]*meter{},
	}
}

func (i *intake) refusedConnection(peer net.Addr, err error) {
	i.refusals.Log(i.config.Log(), peer, fmt.Errorf("%w (%s)", err, i.config.Flag("max-connections")))
}

// silentShare is which part of all calls, one in so many, may have brought no message yet.
const silentShare = 4

// refusedGrace is how long a connection that could not be admitted stays open, for its client to read why.
const refusedGrace = time.Second

// call counts a call in, until its context is done, or refuses it. It runs under a lock of gRPC's, in the goroutine that reads
// from the connection.
func (i *intake) call(ctx context.Context, info *tap.Info) (context.Context, error) {
	m, _ := ctx.Value(meterKey{}).(*meter)
	probe := info.FullMethodName == healthpb.Health_Check_FullMethodName // which no limit may keep out
	var place *admission
	if m != nil && !probe {
		place = m.place
	}
	if place != nil {
		if err := place.enter(); err != nil {
			i.refusedConnection(m.RemoteAddr(), err)
			conn := place.conn
			time.AfterFunc(refusedGrace, func() { _ = conn.Close() }) // then its client looks for another server
			return nil, wire.Status(batch.Errorf(batch.CodeOverloaded, "%w (%s, %s): try another server, or raise the limit",
				err, i.config.Flag("max-connections"), i.config.Flag("max-connections-per-address")))
		}
	}
	leave := func() {
		if place != nil {
			place.exit()
		}
		if !probe {
			i.running.Add(-1)
		}
	}
	if !probe && i.running.Add(1) > i.calls {
		leave()
		return nil, wire.Status(batch.Errorf(batch.CodeOverloaded,
			"%d calls are under way, which is the server's limit (%s): try again, or another server", i.calls, i.config.Flag("max-calls")))
	}
	if m == nil {
		context.AfterFunc(ctx, leave)
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &callMeter{meter: m, stream: m.frames.Opened(), ctx: ctx, cancel: cancel, began: i.now(), waits: strings.HasPrefix(info.FullMethodName, "/grpc.")}
	i.begin(c)
	context.AfterFunc(ctx, func() {
		leave()
		i.ended(c)
	})
	return context.WithValue(ctx, callKey{}, c), nil
}

// now is the time in microseconds.
func (i *intake) now() int64 { return time.Since(i.start).Microseconds() }

// begin notes a call, which has brought no message yet. Such calls have a share of all; when it is used up, the oldest one is ended
// of the connection whose silent calls have waited longest, all their times together.
func (i *intake) begin(c *callMeter) {
	i.mu.Lock()
	c.meter.calls[c.stream] = c
	c.silent = c.meter.silent.PushBack(c)
	c.meter.began += c.began
	i.silent++
	var crowded *callMeter
	if i.silent > max(1, i.calls/silentShare) {
		most := c.meter
		for _, m := range i.meters {
			if m.silence(c.began) > most.silence(c.began) {
				most = m
			}
		}
		crowded, _ = most.silent.Front().Value.(*callMeter)
		i.spokeLocked(crowded)
	}
	i.mu.Unlock()
	if crowded != nil {
		go i.cut(crowded) // the caller holds a lock of gRPC's
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
func (i *intake) reads(ctx context.Context) bool {
	c, _ := ctx.Value(callKey{}).(*callMeter)
	if c == nil {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	c.reader = ctx
	return !c.over
}

// cut ends a call. Where a handler waits for the call's one message, the call's error says that nothing was done.
func (i *intake) cut(c *callMeter) {
	i.mu.Lock()
	reader := c.reader
	c.over = true
	i.mu.Unlock()
	if reader != nil {
		_ = grpc.SetTrailer(reader, unread()) // it fails where the call has ended
	}
	c.cancel()
}

// silence is how long the connection's silent calls have waited, all together. The caller holds the intake's lock.
func (m *meter) silence(now int64) int64 { return int64(m.silent.Len())*now - m.began }

func (i *intake) spokeLocked(c *callMeter) {
	if c.silent != nil {
		c.meter.silent.Remove(c.silent)
		c.meter.began -= c.began
		c.silent = nil
		i.silent--
	}
}

// end ends the calls that only wait for the server's end and, if silent is set, those that brought no message yet.
func (i *intake) end(silent bool) {
	var over []*callMeter
	i.mu.Lock()
	for _, m := range i.meters {
		for _, c := range m.calls {
			if c.waits || silent && c.silent != nil {
				over = append(over, c)
			}
		}
	}
	i.mu.Unlock()
	for _, c := range over {
		i.cut(c)
	}
}

// came notes bytes of a call's messages that came in, and cuts a connection when they are too many. Bytes for a call that is over,
// or was refused, are held by nobody: gRPC drops them as they come.
func (i *intake) came(m *meter, stream uint32, n int64) {
	i.mu.Lock()
	c := m.calls[stream]
	if m.gone || c == nil {
		i.mu.Unlock()
		return
	}
	if c.held == 0 {
		c.since = i.now()
	}
	c.held += n
	m.held += n
	i.held += n
	var most *meter
	if i.held > i.bytes {
		i.settleLocked()
	}
	if i.held > i.bytes {
		var worst float64
		now := i.now()
		for _, other := range i.meters {
			if cost := other.cost(now); cost > worst {
				most, worst = other, cost
			}
		}
	}
	var held int64
	if most != nil {
		held = most.held
		i.forget(most)
	}
	i.mu.Unlock()
	if most != nil {
		i.refusals.Log(i.config.Log(), most.RemoteAddr(), fmt.Errorf(
			"cut off: messages on their way in have more than %d bytes, which is the limit (%s), and this connection had %d of them",
			i.bytes, i.config.Flag("max-receive-bytes"), held))
		_ = most.Conn.Close() // its reader sees that
	}
}

// haste is what a byte counts at least, in microseconds: so a connection that brings very many at once counts, too.
const haste = 50_000

// cost is what the bytes that a connection holds have cost others. The caller holds the intake's lock.
func (m *meter) cost(now int64) (cost float64) {
	for _, c := range m.calls {
		cost += float64(c.held) * float64(haste+now-c.since)
	}
	return cost
}

// settleLocked gives back what came for calls that are over, and whose end comes to be noted only in a moment.
func (i *intake) settleLocked() {
	for _, m := range i.meters {
		for _, c := range m.calls {
			if c.held > 0 && c.ctx.Err() != nil {
				i.releaseLocked(c, c.held)
			}
		}
	}
}

// delivered notes bytes of messages that a handler has now.
func (i *intake) delivered(c *callMeter, n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.releaseLocked(c, min(n, c.held)) // padding came beside it, perhaps
	c.since = i.now()                  // what is left belongs to later messages
	i.spokeLocked(c)
}

// ended forgets a call, and what had come for it.
func (i *intake) ended(c *callMeter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.releaseLocked(c, c.held)
	i.spokeLocked(c)
	delete(c.meter.calls, c.stream)
}

func (i *intake) releaseLocked(c *callMeter, n int64) {
	c.held -= n
	if c.meter.gone {
		return // what it held went with it
	}
	c.meter.held -= n
	i.held -= n
}

// forget drops a connection. The caller holds the lock.
func (i *intake) forget(m *meter) {
	if m.gone {
		return
	}
	m.gone = true
	i.held -= m.held
	if address := m.RemoteAddr().String(); i.meters[address] == m {
		delete(i.meters, address)
	}
}

// The intake learns from gRPC, as its stats.Handler, which calls belong to which connection, and when a message is whole.

type (
	meterKey struct{}
	callKey  struct{}
)

// TagConn implements stats.Handler.
func (i *intake) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	i.mu.Lock()
	defer i.mu.Unlock()
	if m := i.meters[info.RemoteAddr.String()]; m != nil {
		return context.WithValue(ctx, meterKey{}, m)
	}
	return ctx
}

// TagRPC implements stats.Handler.
func (i *intake) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (i *intake) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler.
func (i *intake) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		if c, _ := ctx.Value(callKey{}).(*callMeter); c != nil {
			i.delivered(c, int64(in.WireLength))
		}
	}
}

// meteredCredentials put a meter on each connection, behind the handshake.
type meteredCredentials struct {
	credentials.TransportCredentials
	intake *intake
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *meteredCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	m := &meter{Conn: conn, intake: c.intake, calls: map[uint32]*callMeter{}, frames: frames.FromPreface()}
	if p, ok := raw.(*placed); ok {
		m.place = p.admission
	}
	c.intake.mu.Lock()
	c.intake.meters[conn.RemoteAddr().String()] = m
	c.intake.mu.Unlock()
	return m, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c *meteredCredentials) Clone() credentials.TransportCredentials {
	return &meteredCredentials{c.TransportCredentials.Clone(), c.intake}
}

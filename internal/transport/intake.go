package transport

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// intake bounds what clients make a gRPC server hold before any handler knows of it: connections, calls, and bytes of
// messages that are on their way in. gRPC itself bounds the bytes per stream only, which a client may have a thousand of.
//
// Bytes are counted for the call that they belong to, and given back when a handler has them, or when the call is over, however
// it ended. When the bytes are too many, the connection that holds most of them is cut: honest clients have messages under way
// for moments, and one that is cut sends again.
type intake struct {
	calls, bytes int64 // limits
	connections  *connections
	config       *Config
	refusals     refusals

	running atomic.Int64 // calls there are

	mu     sync.Mutex
	held   int64             // guarded by mu: bytes of all meters
	silent int64             // guarded by mu: calls of all meters that brought no message yet
	meters map[string]*meter // guarded by mu: by the client's address
}

func newIntake(c *Config) *intake {
	return &intake{
		connections: newConnections(c.MaxConnections, c.MaxConnectionsPerAddress),
		calls:       int64(c.MaxCalls), bytes: c.ReceiveBytes, config: c, meters: map[string]*meter{},
	}
}

func (i *intake) refusedConnection(peer net.Addr, err error) {
	i.refusals.log(i.config.logger(), peer, fmt.Errorf("%w (%s)", err, i.config.flag("max-connections")))
}

// silentShare is which part of all calls, one in so many, may have brought no message yet.
const silentShare = 4

// refusedGrace is how long a connection that could not be admitted stays open, for its client to read why.
const refusedGrace = time.Second

// call counts a call in, until its context is done, or refuses it. It runs under a lock of gRPC's, in the goroutine that reads
// from the connection.
func (i *intake) call(ctx context.Context, info *tap.Info) (context.Context, error) {
	m, _ := ctx.Value(meterKey{}).(*meter)
	if m != nil && m.place != nil && info.FullMethodName != healthpb.Health_Check_FullMethodName {
		if err := m.place.admit(); err != nil {
			i.refusedConnection(m.RemoteAddr(), err)
			conn := m.place.conn
			time.AfterFunc(refusedGrace, func() { _ = conn.Close() }) // then its client looks for another server
			return nil, wire.Status(batch.Errorf(batch.CodeOverloaded, "%w (%s, %s): try another server, or raise the limit",
				err, i.config.flag("max-connections"), i.config.flag("max-connections-per-address")))
		}
	}
	if n := i.running.Add(1); n > i.calls {
		i.running.Add(-1)
		return nil, wire.Status(batch.Errorf(batch.CodeOverloaded,
			"%d calls are under way, which is the server's limit (%s): try again, or another server", i.calls, i.config.flag("max-calls")))
	}
	if m == nil {
		context.AfterFunc(ctx, func() { i.running.Add(-1) })
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &callMeter{meter: m, stream: m.frames.opened, cancel: cancel, waits: strings.HasPrefix(info.FullMethodName, "/grpc.")}
	i.begin(c)
	context.AfterFunc(ctx, func() {
		i.running.Add(-1)
		i.ended(c)
	})
	return context.WithValue(ctx, callKey{}, c), nil
}

// begin notes a call, which has brought no message yet. Such calls have a share of all; when it is used up, the oldest one on the
// connection that has most of them is ended.
func (i *intake) begin(c *callMeter) {
	i.mu.Lock()
	c.meter.calls[c.stream] = c
	c.silent = c.meter.silent.PushBack(c)
	i.silent++
	var crowded *callMeter
	if i.silent > max(1, i.calls/silentShare) {
		most := c.meter
		for _, m := range i.meters {
			if m.silent.Len() > most.silent.Len() {
				most = m
			}
		}
		crowded, _ = most.silent.Front().Value.(*callMeter)
		i.spokeLocked(crowded)
	}
	i.mu.Unlock()
	if crowded != nil {
		crowded.cancel()
	}
}

func (i *intake) spokeLocked(c *callMeter) {
	if c.silent != nil {
		c.meter.silent.Remove(c.silent)
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
		c.cancel()
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
	c.held += n
	m.held += n
	i.held += n
	var most *meter
	if i.held > i.bytes {
		for _, other := range i.meters {
			if most == nil || other.held > most.held {
				most = other
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
		i.refusals.log(i.config.logger(), most.RemoteAddr(), fmt.Errorf(
			"cut off: messages on their way in have more than %d bytes, which is the limit (%s), and this connection had %d of them",
			i.bytes, i.config.flag("max-receive-bytes"), held))
		_ = most.Conn.Close() // its reader sees that
	}
}

// delivered notes bytes of messages that a handler has now.
func (i *intake) delivered(c *callMeter, n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.releaseLocked(c, min(n, c.held)) // padding came beside it, perhaps
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
	m := &meter{Conn: conn, intake: c.intake, calls: map[uint32]*callMeter{}, frames: frames{skip: prefaceBytes}}
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

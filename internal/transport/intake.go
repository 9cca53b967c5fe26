package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// intake bounds what clients make a gRPC server hold before any handler knows of it: connections, calls, and bytes of
// messages that are on their way in. gRPC itself bounds the bytes per stream only, which a client may have a thousand of.
//
// When the bytes are too many, the connection that holds most of them is cut: honest clients have messages under way for
// moments, and one that is cut sends again.
type intake struct {
	connections, calls, bytes int64 // limits
	config                    *Config
	refusals                  refusals

	open, running atomic.Int64 // connections and calls there are

	mu     sync.Mutex
	held   int64             // guarded by mu: bytes of all meters
	meters map[string]*meter // guarded by mu: by the client's address
}

func newIntake(c *Config) *intake {
	return &intake{
		connections: int64(c.MaxConnections), calls: int64(c.MaxCalls), bytes: c.ReceiveBytes, config: c, meters: map[string]*meter{},
	}
}

// limited is a listener that takes so many connections and refuses further ones, by hanging up, and says so in the log.
type limited struct {
	net.Listener
	intake *intake
	// hanging counts hang-ups in good order; while there are too many, further ones are abrupt.
	hanging sync.WaitGroup
	room    chan struct{}
}

// maxHangUps bounds hang-ups in good order, each of which takes a second at the most.
const maxHangUps = 100

func (i *intake) limit(l net.Listener) *limited {
	return &limited{Listener: l, intake: i, room: make(chan struct{}, maxHangUps)}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if n := l.intake.open.Add(1); n <= l.intake.connections {
			return &counted{Conn: conn, open: &l.intake.open}, nil
		}
		l.intake.open.Add(-1)
		l.intake.refusals.log(l.intake.config.logger(), conn.RemoteAddr(),
			fmt.Errorf("%d connections are open, which is the limit (%s)", l.intake.connections, l.intake.config.flag("max-connections")))
		select {
		case l.room <- struct{}{}:
			l.hanging.Go(func() {
				hangUp(conn)
				<-l.room
			})
		default:
			_ = conn.Close() // nobody else knows of it
		}
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite is for hangUp.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("a %T can't be closed by half", c.Conn)
}

// call counts a call in, until its context is done, or refuses it. It runs under a lock of gRPC's.
func (i *intake) call(ctx context.Context, _ *tap.Info) (context.Context, error) {
	if n := i.running.Add(1); n > i.calls {
		i.running.Add(-1)
		return nil, status.Errorf(codes.ResourceExhausted,
			"%d calls are under way, which is the server's limit (%s): try again, or another server", i.calls, i.config.flag("max-calls"))
	}
	m, _ := ctx.Value(meterKey{}).(*meter)
	if m != nil {
		m.calls.Add(1)
	}
	context.AfterFunc(ctx, func() {
		i.running.Add(-1)
		if m != nil && m.calls.Add(-1) == 0 {
			i.delivered(m, m.held.Load()) // what was cut short with its calls
		}
	})
	return ctx, nil
}

// came notes bytes of messages that came in, and cuts a connection when they are too many.
func (i *intake) came(m *meter, n int64) {
	i.mu.Lock()
	if m.gone {
		i.mu.Unlock()
		return
	}
	m.held.Add(n)
	i.held += n
	var most *meter
	if i.held > i.bytes {
		for _, other := range i.meters {
			if most == nil || other.held.Load() > most.held.Load() {
				most = other
			}
		}
	}
	var held int64
	if most != nil {
		held = most.held.Load()
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
func (i *intake) delivered(m *meter, n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if m.gone {
		return
	}
	n = min(n, m.held.Load()) // what a message had beside its padding
	m.held.Add(-n)
	i.held -= n
}

// forget drops a connection. The caller holds the lock.
func (i *intake) forget(m *meter) {
	if m.gone {
		return
	}
	m.gone = true
	i.held -= m.held.Load()
	if address := m.RemoteAddr().String(); i.meters[address] == m {
		delete(i.meters, address)
	}
}

// The intake learns from gRPC, as its stats.Handler, which calls belong to which connection, and when a message is whole.

type meterKey struct{}

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
		if m, _ := ctx.Value(meterKey{}).(*meter); m != nil {
			i.delivered(m, int64(in.WireLength))
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
	m := &meter{Conn: conn, intake: c.intake, skip: prefaceBytes}
	c.intake.mu.Lock()
	c.intake.meters[conn.RemoteAddr().String()] = m
	c.intake.mu.Unlock()
	return m, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c *meteredCredentials) Clone() credentials.TransportCredentials {
	return &meteredCredentials{c.TransportCredentials.Clone(), c.intake}
}

// HTTP/2, as far as a meter knows it.
const (
	prefaceBytes     = 24
	frameHeaderBytes = 9
	dataFrame        = 0
)

// meter is a connection whose frames of data are counted. What Read uses belongs to the goroutine that reads.
type meter struct {
	net.Conn
	intake *intake
	calls  atomic.Int64
	held   atomic.Int64 // bytes that came and are not delivered; changed with the intake's lock held
	gone   bool         // guarded by the intake's lock

	skip   int // bytes before the next frame's header
	header [frameHeaderBytes]byte
	filled int // bytes of header
	data   int // of skip: bytes of a frame of data
}

// Read implements net.Conn.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if data := m.count(p[:n]); data > 0 {
		m.intake.came(m, data)
	}
	return n, err
}

// Close implements net.Conn.
func (m *meter) Close() error {
	m.intake.mu.Lock()
	m.intake.forget(m)
	m.intake.mu.Unlock()
	return m.Conn.Close()
}

// count goes through what was read and returns how much of it is data.
func (m *meter) count(p []byte) (data int64) {
	for len(p) > 0 {
		if m.skip > 0 {
			n := min(m.skip, len(p))
			m.skip -= n
			if m.data > 0 {
				m.data -= n
				data += int64(n)
			}
			p = p[n:]
			continue
		}
		n := copy(m.header[m.filled:], p)
		m.filled += n
		p = p[n:]
		if m.filled == frameHeaderBytes {
			m.filled = 0
			m.skip = int(binary.BigEndian.Uint32(m.header[:4]) >> 8)
			m.data = 0
			if m.header[3] == dataFrame {
				m.data = m.skip
			}
		}
	}
	return data
}

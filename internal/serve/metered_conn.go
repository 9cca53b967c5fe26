package serve

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kisgrid/kisgrid/internal/frames"
)

// A client that sends more frames than idleFrames at once that ask for work and bring nothing, and more than idleFramesPerSecond
// for long, is cut. These are resets of calls, empty frames of data, settings and priorities. A client that gives up all the calls
// that it may have, ten times a second, stays below.
const (
	idleFrames          = 20 * maxStreams
	idleFramesPerSecond = 10 * maxStreams
)

var errFlood = errors.New("cut off: it sends frames that bring nothing, such as resets of calls, faster than any client needs to")

// meter is a connection whose calls' bytes are counted. What Read uses belongs to the goroutine that reads.
//
// gRPC reads a frame, acts on it, and reads the next one, all in one goroutine. A meter hands out nothing that follows the end of a
// call's headers before it is asked again. So when gRPC tells of a new call, the newest headers that were read are that call's.
type meteredConn struct {
	net.Conn
	limiter  *limiter
	entry    *connEntry              // nil: its listener has no limit
	calls    map[uint32]*meteredCall // guarded by the intake's lock: by the stream's number
	silent   list.List               // guarded by the intake's lock: of the calls, those that brought no message yet, oldest first
	beganSum int64                   // guarded by the intake's lock: sum of the times at which the silent calls began
	held     int64                   // guarded by the intake's lock: bytes of its calls
	gone     bool                    // guarded by the intake's lock

	frames    frames.Reader
	rest      []byte  // was read from the connection, and follows the headers of a call
	idleCount float64 // frames that bring nothing, less those that time has made up for
	idleAt    time.Time
}

// callMeter counts the bytes that came for one call and that no handler has yet.
type meteredCall struct {
	conn           *meteredConn
	stream         uint32
	ctx            context.Context    // it is over when the call is
	cancel         context.CancelFunc // ends the call
	endsWithServer bool               // it ends only when its client or the server does, as a health watch
	began          int64              // in microseconds, by the intake's clock

	held      int64           // guarded by the intake's lock
	heldSince int64           // guarded by the intake's lock: since when some of these bytes are held, at the most; as began
	silent    *list.Element   // guarded by the intake's lock: of meter.silent, until its first message was delivered
	cut       bool            // guarded by the intake's lock: the server ends it
	reader    context.Context // guarded by the intake's lock: of the handler that reads its one message; nil: it has not begun, or reads a stream
}

// Read implements net.Conn.
func (m *meteredConn) Read(p []byte) (int, error) {
	if len(m.rest) > 0 {
		n := m.frames.Scan(m.rest[:min(len(p), len(m.rest))], m.addBytes)
		copy(p, m.rest[:n])
		m.rest = m.rest[n:]
		return n, m.flooded()
	}
	n, err := m.Conn.Read(p)
	if end := m.frames.Scan(p[:n], m.addBytes); end < n {
		m.rest = append([]byte(nil), p[end:n]...)
		n, err = end, nil // an error comes again with the next Read
	}
	if flood := m.flooded(); flood != nil {
		return n, flood
	}
	return n, err
}

func (m *meteredConn) addBytes(stream uint32, data int) { m.limiter.addBytes(m, stream, int64(data)) }

// flooded is an error when the client has sent too many frames that bring nothing.
func (m *meteredConn) flooded() error {
	idle := m.frames.TakeIdle()
	if idle == 0 {
		return nil
	}
	now := time.Now()
	m.idleCount = max(0, m.idleCount-now.Sub(m.idleAt).Seconds()*idleFramesPerSecond) + float64(idle)
	m.idleAt = now
	if m.idleCount <= idleFrames {
		return nil
	}
	m.limiter.refusals.Log(m.limiter.config.Log(), m.RemoteAddr(), errFlood)
	return fmt.Errorf("%s: %w", m.RemoteAddr(), errFlood)
}

// Close implements net.Conn.
func (m *meteredConn) Close() error {
	m.limiter.mu.Lock()
	m.limiter.removeConnLocked(m)
	m.limiter.mu.Unlock()
	return m.Conn.Close()
}

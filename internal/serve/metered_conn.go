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

// Limits for frames that ask for work and bring no data: resets of calls, empty data frames, settings and priorities. A client
// is cut that sends more than idleFrames at once, or more than idleFramesPerSecond for a longer time. A client that gives up
// all its calls ten times a second stays below.
const (
	idleFrames          = 20 * maxStreams
	idleFramesPerSecond = 10 * maxStreams
)

// errFlood ends a connection that sends too many frames without data.
var errFlood = errors.New("cut off: the client sends frames without data, such as resets of calls, faster than any client needs to")

// meteredConn is a server's connection that counts the received bytes of each call. The fields without a comment about a lock
// belong to the goroutine that reads.
//
// gRPC reads a frame, acts on it, and reads the next frame, all in one goroutine. Read returns at most the bytes up to the end
// of a call's headers. So when gRPC reports a new call, the newest headers that were read belong to this call.
type meteredConn struct {
	net.Conn
	limiter  *limiter
	entry    *connEntry              // its entry in the connLimiter; nil when the listener has no limit
	calls    map[uint32]*meteredCall // by stream number; guarded by the limiter's lock
	silent   list.List               // *meteredCall; calls that have sent no message yet, oldest first; guarded by the limiter's lock
	beganSum int64                   // sum of the start times of the silent calls; guarded by the limiter's lock
	held     int64                   // received bytes of its calls; guarded by the limiter's lock
	gone     bool                    // the connection is closed or cut; guarded by the limiter's lock

	frames    frames.Reader // finds the frames in the received bytes
	rest      []byte        // bytes that were read and come after the headers of a call; the next Read returns them
	idleCount float64       // frames without data, less the number that the passed time allows
	idleAt    time.Time     // when idleCount was computed
}

// meteredCall counts the received bytes of one call that no handler has yet.
type meteredCall struct {
	conn           *meteredConn       // the connection that carries the call
	stream         uint32             // number of its HTTP/2 stream
	ctx            context.Context    // done when the call is over
	cancel         context.CancelFunc // ends the call
	endsWithServer bool               // a call that ends only when its client or the server ends, such as a health watch
	began          int64              // when it began, by limiter.now

	held      int64           // guarded by the limiter's lock
	heldSince int64           // when the oldest of the held bytes came, or a later time; by limiter.now; guarded by the limiter's lock
	silent    *list.Element   // place in conn.silent; nil after its first message; guarded by the limiter's lock
	cut       bool            // the server ended the call; guarded by the limiter's lock
	reader    context.Context // context of the handler that reads its one request; nil before that, and for streams; guarded by the limiter's lock
}

// Read implements net.Conn. It counts the bytes, and returns an error when the client sends too many frames without data.
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
		n, err = end, nil // if there was an error, the next Read returns it again
	}
	if flood := m.flooded(); flood != nil {
		return n, flood
	}
	return n, err
}

// addBytes tells the limiter that data bytes of a message came on a stream. The frames.Reader calls it for each frame of data.
func (m *meteredConn) addBytes(stream uint32, data int) { m.limiter.addBytes(m, stream, int64(data)) }

// flooded returns an error, and logs it, when the client has sent too many frames without data.
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

// Close implements net.Conn: it gives the bytes of the connection's calls back to the limit and closes the connection.
func (m *meteredConn) Close() error {
	m.limiter.mu.Lock()
	m.limiter.removeConnLocked(m)
	m.limiter.mu.Unlock()
	return m.Conn.Close()
}

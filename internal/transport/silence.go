package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/frames"
)

// A client finds a server that hangs or is stopped by its silence, because the server's kernel goes on acknowledging data. gRPC's
// own pings find it too late: a client may send one only every 10 s.
const (
	// silenceLimit is how long a server may be silent before the client sends a probe.
	silenceLimit = 2 * time.Second
	// answerTimeout is how long the server may take to answer the probe. silenceLimit and answerTimeout together are less than
	// the five seconds that the documentation promises.
	answerTimeout = 2500 * time.Millisecond
)

// ProbeSilence wraps a client's credentials. A connection ends when the server has been silent for silenceLimit and has then
// not answered a probe within answerTimeout.
func ProbeSilence(c credentials.TransportCredentials) credentials.TransportCredentials {
	return &probingCredentials{c}
}

// probingCredentials wraps each connection into a probedConn when its handshake is over.
type probingCredentials struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials: it does the handshake and returns the connection as a
// probedConn.
func (a *probingCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return newProbedConn(conn), info, nil
}

// Clone implements credentials.TransportCredentials: the copy probes its connections too.
func (a *probingCredentials) Clone() credentials.TransportCredentials {
	return &probingCredentials{a.TransportCredentials.Clone()}
}

// probedConn is a client's HTTP/2 connection that probes a silent server. The fields without a comment about a lock belong to
// the goroutine that reads.
//
//	             silent for silenceLimit             silent for answerTimeout
//	listening ───────────────────────────► probed ────────────────────────────► ended with an error
//	    ▲                                     │
//	    └───────────── any byte ──────────────┘
type probedConn struct {
	net.Conn
	heard time.Time // when the server last sent something
	asked time.Time // when the probe was sent; zero means that none was sent since heard

	deadlines sync.Mutex // guards external, and orders calls of SetReadDeadline
	external  bool       // the caller has set a read deadline, so the server is not probed any more; guarded by deadlines

	writing sync.Mutex    // held while something is written
	frames  frames.Reader // finds the ends of frames in the written bytes; guarded by writing
}

// newProbedConn makes a probedConn of a connection whose handshake is over. The time of silence begins now.
func newProbedConn(conn net.Conn) *probedConn {
	l := &probedConn{Conn: conn, heard: time.Now(), frames: frames.FromPreface()}
	l.setWake(l.heard.Add(silenceLimit))
	return l
}

// setWake makes a blocked Read return at the time then. own is false if the caller has set a deadline, which then counts
// instead.
func (l *probedConn) setWake(then time.Time) (own bool) {
	l.deadlines.Lock()
	defer l.deadlines.Unlock()
	if !l.external {
		_ = l.Conn.SetReadDeadline(then) // fails only on a closed connection, and then Read fails too
	}
	return !l.external
}

// SetReadDeadline implements net.Conn. After the first call the connection probes the server no more.
func (l *probedConn) SetReadDeadline(t time.Time) error {
	l.deadlines.Lock()
	defer l.deadlines.Unlock()
	l.external = true
	return l.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn. After the first call the connection probes the server no more, as after SetReadDeadline.
func (l *probedConn) SetDeadline(t time.Time) error {
	return errors.Join(l.SetReadDeadline(t), l.Conn.SetWriteDeadline(t))
}

// Read implements net.Conn. It returns an error when the server is silent for too long.
func (l *probedConn) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		now := time.Now()
		if late, ok := errors.AsType[net.Error](err); n > 0 || !ok || !late.Timeout() {
			l.heard, l.asked = now, time.Time{}
			return n, err
		}
		// The read timed out. Send a probe after silenceLimit, and give up answerTimeout later.
		next := l.heard.Add(silenceLimit)
		switch {
		case now.Before(next): // data came since the deadline was set
		case l.asked.IsZero():
			if err := l.ask(now); err != nil {
				return 0, fmt.Errorf("probe the silent server at %s: %w", l.RemoteAddr(), err)
			}
			l.asked = now
			next = now.Add(answerTimeout)
		default:
			if next = l.asked.Add(answerTimeout); !now.Before(next) {
				return 0, fmt.Errorf("the server at %s has been silent for %s and has not answered a probe: it hangs or is stopped, or the network is cut", l.RemoteAddr(), now.Sub(l.heard))
			}
		}
		if !l.setWake(next) {
			return 0, err
		}
	}
}

// ask sends the probe, which is an HTTP/2 frame of settings: a server must acknowledge it. It sends nothing while other data
// is being written, or a group of frames is not complete. The server has to read those bytes too, so its silence is noticed
// all the same.
func (l *probedConn) ask(now time.Time) error {
	if !l.writing.TryLock() {
		return nil
	}
	defer l.writing.Unlock()
	if !l.frames.Between() {
		return nil
	}
	_ = l.Conn.SetWriteDeadline(now.Add(answerTimeout)) // fails only on a closed connection, and then Write fails too
	_, err := l.Conn.Write(frames.Ask)
	_ = l.Conn.SetWriteDeadline(time.Time{})
	return err
}

// Write implements net.Conn. It also notes where frames end in the written bytes, so that a probe never lands inside a frame.
func (l *probedConn) Write(p []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	n, err := l.Conn.Write(p)
	for done := 0; done < n; { // Scan stops after each frame of headers
		done += l.frames.Scan(p[done:n], func(uint32, int) {})
	}
	return n, err
}

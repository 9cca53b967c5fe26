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

// A process that hangs, or is stopped, is found by its silence: its kernel goes on acknowledging what comes. gRPC's own pings, which
// a client may send every 10 s only, find it too late.
const (
	// quiet is how long a server may say nothing before it is asked whether it is there.
	silenceLimit = 2 * time.Second
	// wordWithin is how long it may take to say so. The two together stay below the five seconds that users are told.
	answerTimeout = 2500 * time.Millisecond
)

// Attentive has credentials of a client end a connection on which the server has said nothing for quiet, and not answered within
// wordWithin when asked.
func ProbeSilence(c credentials.TransportCredentials) credentials.TransportCredentials {
	return &probingCredentials{c}
}

type probingCredentials struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (a *probingCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return newProbedConn(conn), info, nil
}

// Clone implements credentials.TransportCredentials.
func (a *probingCredentials) Clone() credentials.TransportCredentials {
	return &probingCredentials{a.TransportCredentials.Clone()}
}

// listening is a client's HTTP/2 connection, behind its handshake, that asks a silent server for a word. What is not guarded belongs
// to the goroutine that reads.
type probedConn struct {
	net.Conn
	heard time.Time // when the server last said something
	asked time.Time // when it was asked since; zero: it was not

	deadlines sync.Mutex
	external  bool // guarded by deadlines: somebody else says how long to read

	writing sync.Mutex    // held while something is written
	frames  frames.Reader // guarded by writing: what was written
}

func newProbedConn(conn net.Conn) *probedConn {
	l := &probedConn{Conn: conn, heard: time.Now(), frames: frames.FromPreface()}
	l.setWake(l.heard.Add(silenceLimit))
	return l
}

// wake has Read look at the time then.
func (l *probedConn) setWake(then time.Time) (own bool) {
	l.deadlines.Lock()
	defer l.deadlines.Unlock()
	if !l.external {
		_ = l.Conn.SetReadDeadline(then) // of a closed connection, which Read tells
	}
	return !l.external
}

// SetReadDeadline implements net.Conn. From then on nobody is asked.
func (l *probedConn) SetReadDeadline(t time.Time) error {
	l.deadlines.Lock()
	defer l.deadlines.Unlock()
	l.external = true
	return l.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (l *probedConn) SetDeadline(t time.Time) error {
	return errors.Join(l.SetReadDeadline(t), l.Conn.SetWriteDeadline(t))
}

// Read implements net.Conn.
func (l *probedConn) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		now := time.Now()
		if late, ok := errors.AsType[net.Error](err); n > 0 || !ok || !late.Timeout() {
			l.heard, l.asked = now, time.Time{}
			return n, err
		}
		next := l.heard.Add(silenceLimit)
		switch {
		case now.Before(next):
		case l.asked.IsZero():
			if err := l.ask(now); err != nil {
				return 0, fmt.Errorf("ask %s whether it is there: %w", l.RemoteAddr(), err)
			}
			l.asked = now
			next = now.Add(answerTimeout)
		default:
			if next = l.asked.Add(answerTimeout); !now.Before(next) {
				return 0, fmt.Errorf("the server at %s has said nothing for %s, though it was asked: it hangs, or is stopped, or the way to it is cut", l.RemoteAddr(), now.Sub(l.heard))
			}
		}
		if !l.setWake(next) {
			return 0, err
		}
	}
}

// ask sends the frame that the server must answer, unless something is being written, or frames are that belong together: the server
// must answer those, or take them in, or is as silent as it would be to this.
func (l *probedConn) ask(now time.Time) error {
	if !l.writing.TryLock() {
		return nil
	}
	defer l.writing.Unlock()
	if !l.frames.Between() {
		return nil
	}
	_ = l.Conn.SetWriteDeadline(now.Add(answerTimeout)) // of a closed connection, which Write tells
	_, err := l.Conn.Write(frames.Ask)
	_ = l.Conn.SetWriteDeadline(time.Time{})
	return err
}

// Write implements net.Conn.
func (l *probedConn) Write(p []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	n, err := l.Conn.Write(p)
	for done := 0; done < n; {
		done += l.frames.Scan(p[done:n], func(uint32, int) {})
	}
	return n, err
}

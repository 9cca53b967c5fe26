package testprocess

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Line is a relay of TCP connections between clients and one server. A test can cut it, stall it, or hold back the server's answers.
// Its methods may be called from several goroutines.
//
//	clients ──▶ Line ──▶ server
//
// An undisturbed line copies bytes both ways. When one side closes a connection, the line closes the other side too.
type Line struct {
	to       string
	listener net.Listener
	end      context.Context                 // done when the test ends
	stalled  chan struct{}                   // closed by Stall
	stall    func()                          // closes stalled; safe to call twice
	deaf     atomic.Pointer[context.Context] // answers wait until this context is done; nil means that none waits

	mu    sync.Mutex
	cut   bool              // guarded by mu
	conns map[net.Conn]bool // both ends of every connection that is open; guarded by mu
}

// StartLine starts a line to a server at a free address of 127.0.0.1. The line ends with the test.
func StartLine(tb testing.TB, to string) *Line {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return StartLineOn(tb, to, listener)
}

// StartLineOn starts a line to a server that takes its clients from a listener, such as one that speaks TLS. The line closes the
// listener, and ends, with the test.
func StartLineOn(tb testing.TB, to string, listener net.Listener) *Line {
	l := &Line{to: to, listener: listener, stalled: make(chan struct{}), conns: map[net.Conn]bool{}}
	l.stall = sync.OnceFunc(func() { close(l.stalled) })
	ctx, end := context.WithCancel(context.Background())
	l.end = ctx
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // the test ended
			}
			running.Go(func() { l.serve(near) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		end()
		l.Cut()
		running.Wait()
	})
	return l
}

// Address is where the line takes clients, as host:port.
func (l *Line) Address() string { return l.listener.Addr().String() }

// Cut closes every connection of the line at once. Until Mend, the line accepts new connections and closes them before a byte passes.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		_ = c.Close()
	}
}

// Mend ends a Cut: connections made from now on pass.
func (l *Line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Stall lets no further byte pass in either direction, until the test ends. Connections stay open.
func (l *Line) Stall() { l.stall() }

// Deafen holds back the server's bytes until heard is called. Bytes of clients still pass.
func (l *Line) Deafen() (heard func()) {
	ctx, heard := context.WithCancel(l.end)
	l.deaf.Store(&ctx)
	return heard
}

// serve connects a client to the server until one of them closes the connection, or the line is cut.
func (l *Line) serve(near net.Conn) {
	defer near.Close()
	far, err := new(net.Dialer).DialContext(l.end, "tcp", l.to)
	if err != nil {
		return // the client sees its connection closed
	}
	defer far.Close()
	if !l.note(near, far) {
		return
	}
	defer l.forget(near, far)
	var answers sync.WaitGroup
	answers.Go(func() {
		l.carry(near, far, func() {
			if deaf := l.deaf.Load(); deaf != nil {
				<-(*deaf).Done()
			}
		})
	})
	l.carry(far, near, func() {})
	answers.Wait()
}

// note adds both ends of a connection to those that Cut closes. It returns false, and adds nothing, while the line is cut.
func (l *Line) note(near, far net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.conns[near], l.conns[far] = true, true
	return true
}

// forget removes both ends of a connection from those that Cut closes.
func (l *Line) forget(near, far net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, near)
	delete(l.conns, far)
}

// carry copies bytes one way until either side closes, then closes both. It calls hold before it writes. On a stalled line it writes
// nothing more, and returns when the test ends.
func (l *Line) carry(to io.WriteCloser, from io.ReadCloser, hold func()) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		hold()
		select {
		case <-l.stalled:
			<-l.end.Done()
			return
		default:
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

package simnet

import (
	"bytes"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of a connection. It implements net.Conn. Fields are guarded by the Net's mu.
type Conn struct {
	process       *Process
	peer          *Conn
	local, remote *net.TCPAddr

	readable, writable    sync.Cond // Read, or Write, may go on; their lock is the Net's mu
	readLimit, writeLimit limit
	writing               bool // a Write is under way; others wait, so that writes don't mix
	closed                bool // by the program
	shut                  bool // the program has ended the sending direction
	drops                 bool // Close resets
	spoke                 bool // the program has written
	in                    inbox
	out                   outbox
	ended                 bool          // the peer's last byte has come
	failed                bool          // the connection was reset or given up
	failure               syscall.Errno // why, until a call has returned it; else 0
	gone                  bool          // the kernel does not know the connection any more
	heard                 time.Time     // when the peer's kernel last sent something, apart from answers to keepalive
	broken                bool          // packets of one direction at least vanish
	userTimeout           time.Duration // TCP_USER_TIMEOUT; 0 means none
	dying                 *time.Timer   // fires when the kernel may give the connection up; nil when it never had to
	dies                  time.Time     // when dying fires; zero while it is stopped
	dialled               bool          // this end called DialContext
	retrying              *time.Timer   // fires when queued packets arrive; nil when there were none
}

// userTimeout is TCP_USER_TIMEOUT of clients that speak HTTP/2: the timeout of keepalive in the settings of every gRPC client here.
const userTimeout = 3 * time.Second

// inbox holds bytes that have come and that the program has not read.
type inbox struct {
	bytes []byte
	begin int // index of the first unread byte
}

// unread returns how many bytes the program has not read.
func (b *inbox) unread() int { return len(b.bytes) - b.begin }

// add appends bytes.
func (b *inbox) add(p []byte) {
	if b.begin > 0 && len(b.bytes)+len(p) > cap(b.bytes) {
		b.bytes = b.bytes[:copy(b.bytes, b.bytes[b.begin:])]
		b.begin = 0
	}
	b.bytes = append(b.bytes, p...)
}

// take moves bytes into p.
func (b *inbox) take(p []byte) int {
	n := copy(p, b.bytes[b.begin:])
	if b.begin += n; b.begin == len(b.bytes) {
		b.bytes, b.begin = b.bytes[:0], 0
	}
	return n
}

// limit is a deadline of one direction. Its timer exists only once a call has had to wait.
type limit struct {
	at    time.Time   // zero means none
	timer *time.Timer // wakes waiting calls; nil until it is needed
	fires time.Time   // when timer fires; zero while it is stopped
}

// passed reports whether the deadline has passed.
func (l *limit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

// armLocked makes sure that calls waiting on cond are woken at the deadline. A timer that fires too early is set again then.
func (l *limit) armLocked(cond *sync.Cond) {
	if l.at.IsZero() || !l.fires.IsZero() && !l.fires.After(l.at) {
		return
	}
	l.fires = l.at
	if l.timer != nil {
		l.timer.Reset(time.Until(l.at))
		return
	}
	l.timer = time.AfterFunc(time.Until(l.at), func() {
		cond.L.Lock()
		defer cond.L.Unlock()
		l.fires = time.Time{}
		cond.Broadcast()
	})
}

// stop stops the timer.
func (l *limit) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.fires = time.Time{}
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.wrap("read", net.ErrClosed)
		case c.process.stopped:
			c.process.changed.Wait()
			continue
		case c.readLimit.passed():
			return 0, c.wrap("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case c.in.unread() > 0 || c.drops:
			full := c.in.unread() >= bufferSize
			read := c.in.take(p)
			if full {
				c.peer.sendLocked() // there is room again
			}
			return read, nil
		case c.failure != 0:
			return 0, c.takeFailureLocked("read")
		case c.ended || c.failed:
			return 0, io.EOF
		}
		c.readLimit.armLocked(&c.readable)
		c.readable.Wait()
	}
}

// Write implements net.Conn. It blocks while the buffers of both machines are full.
func (c *Conn) Write(p []byte) (int, error) {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for c.writing && !c.closed {
		c.writable.Wait()
	}
	if !c.spoke && !c.closed {
		c.spoke = true
		if c.dialled && speaksHTTP2(p) {
			c.userTimeout = userTimeout
		}
	}
	c.writing = true
	defer func() {
		c.writing = false
		c.writable.Broadcast()
	}()
	written := 0
	for {
		switch {
		case c.closed:
			return written, c.wrap("write", net.ErrClosed)
		case c.process.stopped:
			c.process.changed.Wait()
			continue
		case c.writeLimit.passed():
			return written, c.wrap("write", os.ErrDeadlineExceeded)
		case c.failure != 0:
			return written, c.takeFailureLocked("write")
		case c.shut || c.failed:
			return written, c.wrap("write", os.NewSyscallError("write", syscall.EPIPE))
		}
		written += c.queueLocked(p[written:])
		if written == len(p) {
			return written, nil
		}
		c.writeLimit.armLocked(&c.writable)
		c.writable.Wait()
	}
}

// speaksHTTP2 reports whether the first bytes of a client are those of HTTP/2, or of TLS for it.
func speaksHTTP2(p []byte) bool {
	return bytes.HasPrefix(p, []byte("PRI * HTTP/2.0")) || len(p) > 0 && p[0] == 22 && bytes.Contains(p, []byte("\x02h2"))
}

// takeFailureLocked returns the error that ended the connection, which the kernel reports once.
func (c *Conn) takeFailureLocked(op string) error {
	failure := c.failure
	c.failure = 0
	return c.wrap(op, os.NewSyscallError(op, failure))
}

// wrap adds to an error of a call what package net adds.
func (c *Conn) wrap(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn. Bytes that were written still go to the peer, unless there are bytes that were not read: then the peer sees
// a reset.
func (c *Conn) Close() error {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for c.process.stopped && !c.closed {
		c.process.changed.Wait()
	}
	if c.closed {
		return c.wrap("close", net.ErrClosed)
	}
	c.closeLocked()
	return nil
}

// closeLocked does the work of Close, and that of the kernel when the process is killed.
func (c *Conn) closeLocked() {
	c.closed = true
	c.process.conns = slices.DeleteFunc(c.process.conns, func(other *Conn) bool { return other == c })
	c.readLimit.stop()
	c.writeLimit.stop()
	c.readable.Broadcast()
	c.writable.Broadcast()
	switch {
	case c.gone:
	case c.in.unread() > 0 || c.drops:
		c.abortLocked()
	default:
		c.shutLocked()
	}
}

// CloseWrite ends the sending direction, as the method of net.TCPConn does.
func (c *Conn) CloseWrite() error {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for c.process.stopped && !c.closed {
		c.process.changed.Wait()
	}
	switch {
	case c.closed:
		return c.wrap("close", net.ErrClosed)
	case c.failed || c.gone:
		return c.wrap("close", os.NewSyscallError("shutdown", syscall.ENOTCONN))
	}
	c.shutLocked()
	c.writable.Broadcast()
	return nil
}

// LocalAddr implements net.Conn. It returns a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn. It returns a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetLinger does, for 0 seconds, what the method of net.TCPConn does: Close then resets the connection, and drops bytes on their way. Other
// times change nothing.
func (c *Conn) SetLinger(sec int) error {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return c.wrap("set", net.ErrClosed)
	}
	c.drops = sec == 0
	return nil
}

// Peer returns the name of the process at the other end.
func (c *Conn) Peer() string { return c.peer.process.name }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setLimits(t, true, true) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setLimits(t, true, false) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setLimits(t, false, true) }

// setLimits sets the deadline of one direction or both. Waiting calls look at it.
func (c *Conn) setLimits(t time.Time, read, write bool) error {
	n := c.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return c.wrap("set", net.ErrClosed)
	}
	if read {
		c.readLimit.at = t
		c.readable.Broadcast()
	}
	if write {
		c.writeLimit.at = t
		c.writable.Broadcast()
	}
	return nil
}

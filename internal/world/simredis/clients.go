package simredis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/network"
)

// ForClients returns a network for processes with go-redis in a bubble of testing/synctest: n, with other connections for subscriptions.
//
// go-redis dials for a subscription, and waits for the answers of the handshake, while it holds a mutex. If another goroutine wants that
// mutex meanwhile, the bubble's time stands still for ever, because a goroutine that waits for a mutex does not count as blocked. So a
// connection for a subscription is there at once: it dials in the background, tells go-redis that the handshake went well, and ends
// when the dial or the handshake fails. go-redis then makes the next one, as it does when a connection breaks.
func ForClients(n network.Network) network.Network { return clients{n} }

// clients is the network of ForClients.
type clients struct{ network.Network }

// DialContext dials, for subscriptions in the background.
func (c clients) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	if !forSubscription() {
		return c.Network.DialContext(ctx, kind, address)
	}
	s := &subscription{done: make(chan struct{}), more: make(chan struct{}, 1)}
	s.changed.L = &s.mu
	limit, bounded := ctx.Deadline()
	if !bounded {
		limit = time.Now().Add(time.Minute)
	}
	dialing, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
	go s.carry(dialing, cancel, func(ctx context.Context) (net.Conn, error) { return c.Network.DialContext(ctx, kind, address) })
	return s, nil
}

// forSubscription reports whether go-redis dials for a subscription.
func forSubscription() bool {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "go-redis/v9/internal/pool.(*PubSubPool).NewConn") {
			return true
		}
		if !more {
			return false
		}
	}
}

// subscription is a connection of go-redis for a subscription. Its goroutine carry, and another that carry starts, end soon after Close.
type subscription struct {
	done chan struct{} // closed by Close
	more chan struct{} // tells carry that there is something to send; buffers one

	mu       sync.Mutex
	changed  sync.Cond
	closed   bool      // guarded by mu, as is everything below
	request  []byte    // the beginning of a command that is not whole yet
	outgoing []byte    // commands that are to be sent
	incoming []byte    // answers and messages that are to be read
	unread   int       // answers of Redis to the handshake that are still to come; the client has got them already
	failure  error     // ends Read behind incoming, and Write
	limit    time.Time // of Read
	timer    *time.Timer
	socket   net.Conn // nil until the dial has ended well
}

// carry dials, and then sends commands until the connection ends.
func (s *subscription) carry(ctx context.Context, cancel context.CancelFunc, dial func(context.Context) (net.Conn, error)) {
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.done:
			cancel()
		case <-ended:
		}
	}()
	socket, err := dial(ctx)
	if err != nil {
		s.fail(err)
		return
	}
	defer socket.Close()
	s.mu.Lock()
	s.socket = socket
	over := s.closed
	s.mu.Unlock()
	if over {
		return
	}
	go s.receive(socket)
	for {
		s.mu.Lock()
		bytes := s.outgoing
		s.outgoing = nil
		s.mu.Unlock()
		if len(bytes) > 0 {
			if _, err := socket.Write(bytes); err != nil {
				s.fail(err)
				return
			}
			continue
		}
		select {
		case <-s.more:
		case <-s.done:
			return
		}
	}
}

// receive takes what Redis sends, until the connection ends.
func (s *subscription) receive(socket net.Conn) {
	from := bufio.NewReader(socket)
	for {
		s.mu.Lock()
		handshake := s.unread > 0
		s.mu.Unlock()
		line, err := from.ReadSlice('\n')
		if err == nil && handshake && line[0] == '-' {
			err = errors.New(strings.TrimSpace(string(line[1:])))
		}
		if err != nil {
			s.fail(err)
			_ = socket.Close()
			return
		}
		s.mu.Lock()
		if handshake {
			s.unread--
		} else {
			s.incoming = append(s.incoming, line...)
			for rest := from.Buffered(); rest > 0; rest = from.Buffered() {
				b, _ := from.Peek(rest)
				s.incoming = append(s.incoming, b...)
				_, _ = from.Discard(rest)
			}
		}
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// fail ends the connection for the client.
func (s *subscription) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
	}
	s.changed.Broadcast()
}

// Write takes commands. It answers those of the handshake at once.
func (s *subscription) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	if s.failure != nil {
		return 0, s.failure
	}
	s.request = append(s.request, p...)
	for {
		whole := bytes.NewReader(s.request)
		from := bufio.NewReaderSize(whole, max(16, len(s.request)))
		args, err := readCommand(from)
		if err != nil {
			break // it is not whole
		}
		size := len(s.request) - whole.Len() - from.Buffered()
		switch strings.ToLower(args[0]) {
		case "hello":
			s.incoming = appendError(s.incoming, "ERR unknown command 'hello'") // then go-redis sends AUTH
		case "auth", "select", "client":
			s.incoming = append(s.incoming, ok...)
			s.unread++
			s.outgoing = append(s.outgoing, s.request[:size]...)
		default:
			s.outgoing = append(s.outgoing, s.request[:size]...)
		}
		s.request = append([]byte(nil), s.request[size:]...)
	}
	s.changed.Broadcast()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Read reads answers and messages.
func (s *subscription) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case len(s.incoming) > 0:
			n := copy(p, s.incoming)
			s.incoming = s.incoming[n:]
			return n, nil
		case s.failure != nil:
			return 0, s.failure
		case !s.limit.IsZero() && !time.Now().Before(s.limit):
			return 0, os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
}

// Close ends the connection.
func (s *subscription) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	close(s.done)
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.socket != nil {
		_ = s.socket.Close()
	}
	s.changed.Broadcast()
	return nil
}

// SetReadDeadline sets the limit of Read.
func (s *subscription) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = t
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !t.IsZero() && !s.closed {
		s.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	return nil
}

// SetWriteDeadline does nothing: Write does not wait.
func (s *subscription) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the limit of Read.
func (s *subscription) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// nowhere is the address of both ends of a connection that may not have been dialled yet.
type nowhere struct{}

func (nowhere) Network() string { return "tcp" }
func (nowhere) String() string  { return "redis" }

// LocalAddr is a name without meaning.
func (s *subscription) LocalAddr() net.Addr { return nowhere{} }

// RemoteAddr is a name without meaning.
func (s *subscription) RemoteAddr() net.Addr { return nowhere{} }

package flowtest

import (
	"context"
	"net"
	"sync"
	"time"
)

// probeTimeout is how long a connection lives over which nothing gets through: the kernels' probes end it, as package
// transport has set them.
const probeTimeout = 5 * time.Second

// link is what lies between two parties: all their connections, whoever dialled.
type link struct {
	mu      sync.Mutex
	cuts    int           // that hold it; guarded by mu
	pauses  int           // guarded by mu
	delay   time.Duration // in each direction; guarded by mu
	changed chan struct{} // closed and replaced when one of those changes; guarded by mu
	conns   map[*relayed]bool
}

// relayed is one connection that goes over a link.
type relayed struct {
	a, b   net.Conn
	broken chan struct{} // closed when it is to end
	once   sync.Once
}

// end ends it, abruptly: what is on its way is lost.
func (r *relayed) end() {
	r.once.Do(func() {
		close(r.broken)
		for _, c := range []net.Conn{r.a, r.b} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

func newLink() *link {
	return &link{changed: make(chan struct{}), conns: map[*relayed]bool{}}
}

// state is how the link is now, and a channel that is closed when that changes.
func (l *link) state() (cut, paused bool, delay time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts > 0, l.pauses > 0, l.delay, l.changed
}

// change changes the link, and returns what takes that back, which is safe twice.
func (l *link) change(cuts, pauses int, delay time.Duration) (back func()) {
	add := func(sign int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cuts += sign * cuts
		l.pauses += sign * pauses
		l.delay += time.Duration(sign) * delay
		close(l.changed)
		l.changed = make(chan struct{})
	}
	add(1)
	return sync.OnceFunc(func() { add(-1) })
}

// awaitDial waits until a connection can be made.
func (l *link) awaitDial(ctx context.Context) error {
	for {
		cut, _, _, changed := l.state()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// breakAll ends all connections.
func (l *link) breakAll() {
	l.mu.Lock()
	all := make([]*relayed, 0, len(l.conns))
	for r := range l.conns {
		all = append(all, r)
	}
	l.mu.Unlock()
	for _, r := range all {
		r.end()
	}
}

// carry carries a connection until one of its ends closes, it breaks, or stop is closed.
func (l *link) carry(stop <-chan struct{}, a, b net.Conn) {
	r := &relayed{a: a, b: b, broken: make(chan struct{})}
	l.mu.Lock()
	l.conns[r] = true
	l.mu.Unlock()
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		chunks := make(chan chunk, 256)
		ways.Go(func() { l.read(r, way[0], chunks) })
		ways.Go(func() { l.write(r, way[1], chunks) })
	}
	ways.Go(func() { l.probe(r) })
	select {
	case <-stop:
		r.end()
	case <-r.broken:
	}
	ways.Wait()
	l.mu.Lock()
	delete(l.conns, r)
	l.mu.Unlock()
}

// chunk is bytes on their way.
type chunk struct {
	bytes []byte
	sent  time.Time
}

// read takes what one side sends, as much as the way holds.
func (l *link) read(r *relayed, from net.Conn, chunks chan<- chunk) {
	defer close(chunks)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case chunks <- chunk{append([]byte(nil), buffer[:n]...), time.Now()}:
			case <-r.broken:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write hands on what was sent, when it may. It ends the connection after the last byte.
func (l *link) write(r *relayed, to net.Conn, chunks <-chan chunk) {
	defer r.end()
	for c := range chunks {
		if !l.pass(r, c.sent) {
			return
		}
		if _, err := to.Write(c.bytes); err != nil {
			return
		}
	}
	l.pass(r, time.Time{})
}

// pass waits until what was sent at a time may arrive; false: the connection broke first.
func (l *link) pass(r *relayed, sent time.Time) bool {
	for {
		cut, paused, delay, changed := l.state()
		var due <-chan time.Time
		if !cut && !paused {
			wait := time.Until(sent.Add(delay))
			if wait <= 0 {
				return true
			}
			due = time.After(wait)
		}
		select {
		case <-due:
			return true
		case <-changed:
		case <-r.broken:
			return false
		}
	}
}

// probe ends a connection that has been cut for so long that kernels would.
func (l *link) probe(r *relayed) {
	var give <-chan time.Time
	for {
		cut, _, _, changed := l.state()
		switch {
		case !cut:
			give = nil
		case give == nil:
			give = time.After(probeTimeout)
		}
		select {
		case <-changed:
		case <-give:
			r.end()
			return
		case <-r.broken:
			return
		}
	}
}

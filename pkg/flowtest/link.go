package flowtest

import (
	"context"
	"net"
	"sync"
	"time"
)

// probeTimeout is how long a connection lives while nothing gets through. In a real network the kernel's keepalive probes end it; package
// internal/transport sets them to this time.
const probeTimeout = 5 * time.Second

// link is the way between two parties: all their connections, whichever of the two dialled. Cuts, pauses and delays of a link add up,
// and hold for all of its connections.
//
// Each connection is a relay of five goroutines:
//
//	a ──▶ read ──▶ chunks ──▶ write ──▶ b      (and the same from b to a)
//	                            │
//	                            └ waits while the link is cut or paused, and for the delay
//	probe ends the connection when the link has been cut for 5 s
type link struct {
	mu      sync.Mutex
	cuts    int             // how many Cuts are in force; guarded by mu
	pauses  int             // how many Pauses are in force; guarded by mu
	delay   time.Duration   // the sum of the delays in force, for each direction; guarded by mu
	changed chan struct{}   // closed and replaced when one of the three above changes; guarded by mu
	conns   map[*relay]bool // all open connections; guarded by mu
}

// relay is one connection over a link: its two ends, and how it is ended.
type relay struct {
	a, b   net.Conn
	broken chan struct{} // closed by end
	once   sync.Once
}

// end closes both ends of the relay at once. Bytes on their way are lost. It is safe to call twice.
func (r *relay) end() {
	r.once.Do(func() {
		close(r.broken)
		for _, c := range []net.Conn{r.a, r.b} {
			if tcp, ok := c.(interface{ SetLinger(sec int) error }); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

// newLink makes a link that nothing disturbs.
func newLink() *link {
	return &link{changed: make(chan struct{}), conns: map[*relay]bool{}}
}

// state returns whether the link is cut, whether it is paused, and its delay. The channel changed is closed when one of them changes.
func (l *link) state() (cut, paused bool, delay time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts > 0, l.pauses > 0, l.delay, l.changed
}

// change adds numbers of cuts and pauses, and a delay, to those of the link. The function back takes them away again, and is safe to call
// twice.
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

// awaitDial blocks until the link is not cut. If ctx is done first, it returns ctx's error.
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

// breakAll ends all connections of the link.
func (l *link) breakAll() {
	l.mu.Lock()
	all := make([]*relay, 0, len(l.conns))
	for r := range l.conns {
		all = append(all, r)
	}
	l.mu.Unlock()
	for _, r := range all {
		r.end()
	}
}

// carry relays bytes between the two ends of a connection until one end closes, the connection is broken, or stop is closed.
func (l *link) carry(stop <-chan struct{}, a, b net.Conn) {
	r := &relay{a: a, b: b, broken: make(chan struct{})}
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

// chunk is some bytes on their way over a relay, and when they were read.
type chunk struct {
	bytes []byte
	sent  time.Time
}

// read reads bytes from one end of a relay and sends them to the channel chunks until the end closes or the relay is broken. It waits while
// the channel is full, with 256 chunks on their way.
func (l *link) read(r *relay, from net.Conn, chunks chan<- chunk) {
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

// write writes the chunks to the other end of a relay, each when the link lets it pass. It ends the relay after the last chunk, or when
// writing fails.
func (l *link) write(r *relay, to net.Conn, chunks <-chan chunk) {
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

// pass blocks until a chunk that was read at the time sent may be written: the link is neither cut nor paused, and the delay is over. It
// returns false if the connection was broken first.
func (l *link) pass(r *relay, sent time.Time) bool {
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

// probe ends a relay when the link has been cut for probeTimeout without a break. It returns when the relay is broken.
func (l *link) probe(r *relay) {
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

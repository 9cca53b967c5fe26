package serve

import (
	"cmp"
	"container/list"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// connections bounds the connections of one port, so that those that say nothing shut nobody else out.
//
//	        accepted             first call            room is needed while it rests, or closed
//	(none) ─────────► newcomer ─────────────► admitted ─────────────────────────────────────────► (none)
//	                     │    room is needed, or closed                                             ▲
//	                     └──────────────────────────────────────────────────────────────────────────┘
//
// A connection is a newcomer until its first call or page has come, so handshakes and silence cost newcomers only. They have a
// share of their own; when it is used up, the oldest newcomer of the address that has most of them is closed. So a newcomer that
// speaks at once gets through a flood of silent ones, whatever their number. Admitted connections are bounded in all and for
// each address; one that has had no call under way for a while, and rests, is closed where another one has a call and finds no
// room. A probe of health admits nothing, and is answered from the share of the newcomers.
type connLimiter struct {
	limit, perAddress, maxNewcomers int

	mu        sync.Mutex
	newcomers []*connEntry   // guarded by mu: the newcomers, oldest first
	resting   list.List      // guarded by mu: of the admitted ones, those without a call under way, the longest first
	admitted  map[string]int // guarded by mu: by address
	total     int            // guarded by mu: of admitted
}

// maxNewcomers is the share of connections on which no call has come yet.
const newcomerLimit = 128

func newConnLimiter(limit, perAddress int) *connLimiter {
	return &connLimiter{limit: limit, perAddress: min(perAddress, limit), maxNewcomers: newcomerLimit, admitted: map[string]int{}}
}

// admission is the place that one connection has among the connections of its port. Its methods may be called concurrently.
type connEntry struct {
	limiter *connLimiter
	conn    net.Conn // below TLS: to close it neither blocks nor writes
	address string   // of the peer, without its port

	admitted    bool          // guarded by of.mu; it never becomes false again
	gone        bool          // guarded by of.mu
	calls       int           // guarded by of.mu: under way, while it is admitted
	restElement *list.Element // guarded by of.mu: of of.resting
	idleSince   time.Time     // guarded by of.mu: when its last call ended
}

// restAfter is how long a connection must have had no call before it gives way to one that has. A client that makes one call after
// the other keeps its connection.
const restAfter = time.Second

// accept gives a connection its place as a newcomer, and closes another newcomer where there are too many.
func (c *connLimiter) add(conn net.Conn) *connEntry {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	a := &connEntry{limiter: c, conn: conn, address: hostOf(conn.RemoteAddr())}
	c.mu.Lock()
	c.newcomers = append(c.newcomers, a)
	var crowded *connEntry
	if len(c.newcomers) > c.maxNewcomers {
		crowded = c.takeCrowdedLocked()
	}
	c.mu.Unlock()
	if crowded != nil {
		_ = crowded.conn.Close() // who reads from it sees that, and tells of its end
	}
	return a
}

// crowdedLocked takes the oldest newcomer of the address with most newcomers off the list.
func (c *connLimiter) takeCrowdedLocked() *connEntry {
	of := map[string]int{}
	for _, a := range c.newcomers {
		of[a.address]++
	}
	most := slices.MaxFunc(c.newcomers, func(a, b *connEntry) int { return cmp.Compare(of[a.address], of[b.address]) }) // the first of those that are equal
	c.removeNewcomerLocked(most)
	return most
}

func (c *connLimiter) removeNewcomerLocked(a *connEntry) {
	if i := slices.Index(c.newcomers, a); i >= 0 {
		c.newcomers = slices.Delete(c.newcomers, i, i+1)
	}
}

// enter counts in a call, or a page, on the connection, which makes a newcomer an admitted connection. Where there is no room for it,
// one that rests is closed. An error says which limit is reached; else exit is to follow.
func (a *connEntry) beginCall() error {
	now := time.Now()
	c := a.limiter
	c.mu.Lock()
	var closed *connEntry
	defer func() {
		c.mu.Unlock()
		if closed != nil {
			_ = closed.conn.Close() // who reads from it sees that, and tells of its end
		}
	}()
	if !a.admitted && !a.gone {
		var full error
		here := ""
		switch {
		case c.admitted[a.address] >= c.perAddress:
			here = a.address
			full = fmt.Errorf("%d connections from %s are open, which is the limit for one address", c.perAddress, a.address)
		case c.total >= c.limit:
			full = fmt.Errorf("%d connections are open, which is the limit", c.limit)
		}
		if full != nil {
			if closed = c.restingLocked(here, now); closed == nil {
				return full
			}
			c.removeLocked(closed)
		}
		c.removeNewcomerLocked(a)
		c.admitted[a.address]++
		c.total++
		a.admitted = true
	}
	a.calls++
	c.stopRestingLocked(a)
	return nil
}

// restingLocked is the connection that gives way: of those from the address, or of the address that has most of those that rest, the
// one that has rested longest. An empty address is any. Nil: none has rested long enough.
func (c *connLimiter) restingLocked(address string, now time.Time) (first *connEntry) {
	of, best := map[string]int{}, map[string]*connEntry{}
	for e := c.resting.Front(); e != nil; e = e.Next() {
		a := e.Value.(*connEntry)
		if now.Sub(a.idleSince) < restAfter {
			break // and so are those behind it
		}
		if address != "" && a.address != address {
			continue
		}
		if of[a.address]++; of[a.address] == 1 {
			best[a.address] = a
		}
		if first == nil || of[a.address] > of[first.address] {
			first = best[a.address]
		}
	}
	return first
}

// exit counts a call out that enter counted in.
func (a *connEntry) endCall() {
	c := a.limiter
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.calls--; a.calls == 0 && a.admitted && !a.gone {
		a.idleSince = time.Now()
		a.restElement = c.resting.PushBack(a)
	}
}

func (c *connLimiter) stopRestingLocked(a *connEntry) {
	if a.restElement != nil {
		c.resting.Remove(a.restElement)
		a.restElement = nil
	}
}

// leave gives the place back. Safe to call twice.
func (a *connEntry) remove() {
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	a.limiter.removeLocked(a)
}

func (c *connLimiter) removeLocked(a *connEntry) {
	if a.gone {
		return
	}
	a.gone = true
	if !a.admitted {
		c.removeNewcomerLocked(a)
		return
	}
	c.stopRestingLocked(a)
	c.total--
	if c.admitted[a.address]--; c.admitted[a.address] == 0 {
		delete(c.admitted, a.address)
	}
}

// closeNewcomers closes the connections on which no call has come.
func (c *connLimiter) closeNewcomers() {
	c.mu.Lock()
	waiting := slices.Clone(c.newcomers)
	c.mu.Unlock()
	for _, a := range waiting {
		_ = a.conn.Close() // who reads from it sees that, and tells of its end
	}
}

// host is an address without its port.
func hostOf(address net.Addr) string {
	if name, _, err := net.SplitHostPort(address.String()); err == nil {
		return name
	}
	return address.String()
}

// limited is a listener whose connections have a place among connections.
type limitedListener struct {
	net.Listener
	connections *connLimiter
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, connEntry: l.connections.add(conn)}, nil
}

// placed is a connection that has its place until it is closed.
type limitedConn struct {
	net.Conn
	*connEntry
}

// Close implements net.Conn.
func (p *limitedConn) Close() error {
	p.remove()
	return p.Conn.Close()
}

// CloseWrite is for hangUp.
func (p *limitedConn) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("a %T can't be closed by half", p.Conn)
}

package transport

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// connections bounds the connections of one port, so that those that say nothing shut nobody else out.
//
//	        accepted             first call            closed
//	(none) ─────────► newcomer ─────────────► admitted ───────► (none)
//	                     │    room is needed, or closed            ▲
//	                     └─────────────────────────────────────────┘
//
// A connection is a newcomer until its first call or page has come, so handshakes and silence cost newcomers only. They have a
// share of their own; when it is used up, the oldest newcomer of the address that has most of them is closed. So a newcomer that
// speaks at once gets through a flood of silent ones, whatever their number. Admitted connections are bounded in all and for
// each address. A probe of health admits nothing, and is answered from the share of the newcomers.
type connections struct {
	limit, perAddress, newcomers int

	mu       sync.Mutex
	waiting  []*admission   // guarded by mu: the newcomers, oldest first
	admitted map[string]int // guarded by mu: by address
	sum      int            // guarded by mu: of admitted
}

// maxNewcomers is the share of connections on which no call has come yet.
const maxNewcomers = 128

func newConnections(limit, perAddress int) *connections {
	return &connections{limit: limit, perAddress: min(perAddress, limit), newcomers: maxNewcomers, admitted: map[string]int{}}
}

// admission is the place that one connection has among the connections of its port. Its methods may be called concurrently.
type admission struct {
	of      *connections
	conn    net.Conn // below TLS: to close it neither blocks nor writes
	address string   // of the peer, without its port

	admitted atomic.Bool // written with of.mu held; it never becomes false again
	gone     bool        // guarded by of.mu
}

// full tells that a further connection could not be admitted.
func (c *connections) full() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fullLocked()
}

func (c *connections) fullLocked() error {
	if c.sum >= c.limit {
		return fmt.Errorf("%d connections are open, which is the limit", c.limit)
	}
	return nil
}

// accept gives a connection its place as a newcomer, and closes another newcomer where there are too many.
func (c *connections) accept(conn net.Conn) *admission {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	a := &admission{of: c, conn: conn, address: host(conn.RemoteAddr())}
	c.mu.Lock()
	c.waiting = append(c.waiting, a)
	var crowded *admission
	if len(c.waiting) > c.newcomers {
		crowded = c.crowdedLocked()
	}
	c.mu.Unlock()
	if crowded != nil {
		_ = crowded.conn.Close() // who reads from it sees that, and tells of its end
	}
	return a
}

// crowdedLocked takes the oldest newcomer of the address with most newcomers off the list.
func (c *connections) crowdedLocked() *admission {
	of := map[string]int{}
	for _, a := range c.waiting {
		of[a.address]++
	}
	most := slices.MaxFunc(c.waiting, func(a, b *admission) int { return cmp.Compare(of[a.address], of[b.address]) }) // the first of those that are equal
	c.dropLocked(most)
	return most
}

func (c *connections) dropLocked(a *admission) {
	if i := slices.Index(c.waiting, a); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// admit makes a newcomer an admitted connection. It does nothing for one that is admitted, and costs it no lock. An error says
// which limit is reached.
func (a *admission) admit() error {
	if a.admitted.Load() {
		return nil
	}
	c := a.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.gone || a.admitted.Load() {
		return nil
	}
	if err := c.fullLocked(); err != nil {
		return err
	}
	if c.admitted[a.address] >= c.perAddress {
		return fmt.Errorf("%d connections from %s are open, which is the limit for one address", c.perAddress, a.address)
	}
	c.dropLocked(a)
	c.admitted[a.address]++
	c.sum++
	a.admitted.Store(true)
	return nil
}

// leave gives the place back. Safe to call twice.
func (a *admission) leave() {
	c := a.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.gone {
		return
	}
	a.gone = true
	if !a.admitted.Load() {
		c.dropLocked(a)
		return
	}
	c.sum--
	if c.admitted[a.address]--; c.admitted[a.address] == 0 {
		delete(c.admitted, a.address)
	}
}

// host is an address without its port.
func host(address net.Addr) string {
	if name, _, err := net.SplitHostPort(address.String()); err == nil {
		return name
	}
	return address.String()
}

// limited is a listener whose connections have a place among connections. It hangs up on those for which no place is left.
type limited struct {
	net.Listener
	connections *connections
	refused     func(net.Addr, error) // is told of each
	// hanging counts hang-ups in good order; while there are too many, further ones are abrupt.
	hanging sync.WaitGroup
	room    chan struct{}
}

// maxHangUps bounds hang-ups in good order, each of which takes a second at the most.
const maxHangUps = 100

func (i *intake) limit(l net.Listener) *limited {
	return &limited{Listener: l, connections: i.connections, refused: i.refusedConnection, room: make(chan struct{}, maxHangUps)}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		full := l.connections.full()
		if full == nil {
			return &placed{Conn: conn, admission: l.connections.accept(conn)}, nil
		}
		l.refused(conn.RemoteAddr(), full)
		select {
		case l.room <- struct{}{}:
			l.hanging.Go(func() {
				hangUp(conn)
				<-l.room
			})
		default:
			_ = conn.Close() // nobody else knows of it
		}
	}
}

// placed is a connection that has its place until it is closed.
type placed struct {
	net.Conn
	*admission
}

// Close implements net.Conn.
func (p *placed) Close() error {
	p.leave()
	return p.Conn.Close()
}

// CloseWrite is for hangUp.
func (p *placed) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("a %T can't be closed by half", p.Conn)
}

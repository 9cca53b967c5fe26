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

// connLimiter limits the connections of one port, so that silent connections don't keep other clients out.
//
//	        accepted             first call            closed, or makes room while it rests
//	(none) ─────────► newcomer ─────────────► admitted ────────────────────────────────────► (none)
//	                     │    closed, or makes room                                             ▲
//	                     └──────────────────────────────────────────────────────────────────────┘
//
// A connection is a newcomer until its first call or page has come. So handshakes and silence cost only the share of
// newcomers. When this share is used up, the oldest newcomer of the address with most newcomers is closed. A newcomer that
// makes a call at once therefore succeeds, however many silent ones there are.
//
// Admitted connections are limited in total and for each address. A connection rests when it has had no call for restAfter.
// When a newcomer has a call and there is no room, a resting connection is closed. A health probe admits no connection; it is
// answered within the share of newcomers.
type connLimiter struct {
	limit, perAddress, maxNewcomers int // limits: of admitted connections, of those for each address, and of newcomers

	mu        sync.Mutex
	newcomers []*connEntry   // oldest first; guarded by mu
	resting   list.List      // *connEntry; admitted connections without a call, the longest resting first; guarded by mu
	admitted  map[string]int // number of admitted connections by address; guarded by mu
	total     int            // number of admitted connections; guarded by mu
}

// newcomerLimit is the number of connections that may be open without having made a call.
const newcomerLimit = 128

// newConnLimiter makes the limiter of one port. limit connections may be admitted, and perAddress of them may come from one
// address.
func newConnLimiter(limit, perAddress int) *connLimiter {
	return &connLimiter{limit: limit, perAddress: min(perAddress, limit), maxNewcomers: newcomerLimit, admitted: map[string]int{}}
}

// connEntry is the entry that a connLimiter keeps for one connection: a newcomer, admitted or gone. Its methods may be called
// concurrently.
type connEntry struct {
	limiter *connLimiter
	conn    net.Conn // the connection below TLS, which can be closed without blocking or writing
	address string   // address of the peer, without its port

	admitted    bool          // guarded by limiter.mu; never becomes false again
	gone        bool          // the connection is closed, or about to be; guarded by limiter.mu
	calls       int           // calls under way, while it is admitted; guarded by limiter.mu
	restElement *list.Element // place in limiter.resting; nil when it is not there; guarded by limiter.mu
	idleSince   time.Time     // when its last call ended; guarded by limiter.mu
}

// restAfter is how long a connection must have had no call before it may be closed to make room. So a client that makes one
// call after the other keeps its connection.
const restAfter = time.Second

// add enters a new connection as a newcomer. If there are then too many newcomers, it closes the oldest one of the address that
// has most.
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
		_ = crowded.conn.Close() // the goroutine that reads from it sees the end, and removes the entry
	}
	return a
}

// takeCrowdedLocked removes the oldest newcomer of the address with most newcomers, and returns it for the caller to close.
// The caller holds c.mu.
func (c *connLimiter) takeCrowdedLocked() *connEntry {
	of := map[string]int{}
	for _, a := range c.newcomers {
		of[a.address]++
	}
	most := slices.MaxFunc(c.newcomers, func(a, b *connEntry) int { return cmp.Compare(of[a.address], of[b.address]) }) // of equal ones the first, which is the oldest
	c.removeNewcomerLocked(most)
	return most
}

// removeNewcomerLocked removes an entry from the newcomers, if it is there. The caller holds c.mu.
func (c *connLimiter) removeNewcomerLocked(a *connEntry) {
	if i := slices.Index(c.newcomers, a); i >= 0 {
		c.newcomers = slices.Delete(c.newcomers, i, i+1)
	}
}

// beginCall adds a call, or an HTTP request, to the calls under way on the connection. The first call admits the connection,
// and may close a resting connection to make room. The error says which limit is reached. Without an error the caller must
// call endCall when the call is over.
func (a *connEntry) beginCall() error {
	now := time.Now()
	c := a.limiter
	c.mu.Lock()
	var closed *connEntry
	defer func() {
		c.mu.Unlock()
		if closed != nil {
			_ = closed.conn.Close() // the goroutine that reads from it sees the end, and removes the entry
		}
	}()
	if !a.admitted && !a.gone { // the first call of a newcomer
		var full error
		here := ""
		switch {
		case c.admitted[a.address] >= c.perAddress:
			here = a.address
			full = fmt.Errorf("%d connections from %s are open, and this is the limit for one address", c.perAddress, a.address)
		case c.total >= c.limit:
			full = fmt.Errorf("%d connections are open, and this is the limit", c.limit)
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

// restingLocked returns the connection that makes room: of the address with most resting connections, the one that has rested
// longest. Where address is not empty, only connections from there count. It returns nil when none has rested long enough. The
// caller holds c.mu.
func (c *connLimiter) restingLocked(address string, now time.Time) (first *connEntry) {
	of, best := map[string]int{}, map[string]*connEntry{}
	for e := c.resting.Front(); e != nil; e = e.Next() {
		a := e.Value.(*connEntry)
		if now.Sub(a.idleSince) < restAfter {
			break // the entries behind this one have rested for a shorter time
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

// endCall takes a call that is over off the calls under way on the connection. With the last of them the connection rests.
func (a *connEntry) endCall() {
	c := a.limiter
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.calls--; a.calls == 0 && a.admitted && !a.gone {
		a.idleSince = time.Now()
		a.restElement = c.resting.PushBack(a)
	}
}

// stopRestingLocked takes an entry out of the resting ones, if it is there. The caller holds c.mu.
func (c *connLimiter) stopRestingLocked(a *connEntry) {
	if a.restElement != nil {
		c.resting.Remove(a.restElement)
		a.restElement = nil
	}
}

// remove takes a connection that is closed out of the limiter, which makes room for another one. It may be called twice.
func (a *connEntry) remove() {
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	a.limiter.removeLocked(a)
}

// removeLocked takes an entry out of the limiter, as remove does, for a caller that holds c.mu.
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

// closeNewcomers closes every connection that has not made a call or asked for a page.
func (c *connLimiter) closeNewcomers() {
	c.mu.Lock()
	waiting := slices.Clone(c.newcomers)
	c.mu.Unlock()
	for _, a := range waiting {
		_ = a.conn.Close() // the goroutine that reads from it sees the end, and removes the entry
	}
}

// hostOf returns an address without its port.
func hostOf(address net.Addr) string {
	if name, _, err := net.SplitHostPort(address.String()); err == nil {
		return name
	}
	return address.String()
}

// limitedListener is a listener that enters each accepted connection into a connLimiter.
type limitedListener struct {
	net.Listener
	connections *connLimiter
}

// Accept implements net.Listener: it accepts a connection and enters it into the limiter as a newcomer.
func (l *limitedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: conn, connEntry: l.connections.add(conn)}, nil
}

// limitedConn is a connection that stays in the connLimiter until it is closed.
type limitedConn struct {
	net.Conn
	*connEntry
}

// Close implements net.Conn: it takes the connection out of the limiter and closes it.
func (p *limitedConn) Close() error {
	p.remove()
	return p.Conn.Close()
}

// CloseWrite ends the sending direction. Package transport uses it to end a refused TLS handshake.
func (p *limitedConn) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("close the sending direction: a %T can't do that", p.Conn)
}

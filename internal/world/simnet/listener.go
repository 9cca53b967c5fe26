package simnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
)

// backlog is how many connections may wait for Accept, as Linux has it by default. Further ones are not answered.
const backlog = 4096

// Listener is a net.Listener of a process.
type Listener struct {
	process *Process
	at      netip.AddrPort // an unspecified IPv6 address means all addresses

	arrived sync.Cond // a connection waits, or the state changed; its lock is the Net's mu
	waiting []*Conn   // guarded by the Net's mu
	closed  bool      // guarded by the Net's mu
}

// Listen implements network.Network.
func (p *Process) Listen(ctx context.Context, address string) (net.Listener, error) {
	wrap := func(at net.Addr, err error) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: err}
	}
	if err := p.ready(); err != nil {
		return wrap(nil, err)
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return wrap(nil, err)
	}
	port, err := (&net.Resolver{PreferGo: true}).LookupPort(ctx, "tcp", portText)
	if err != nil {
		return wrap(nil, err)
	}
	ip := netip.IPv6Unspecified()
	if host != "" {
		found, err := p.LookupHost(ctx, "", host)
		if err != nil {
			return wrap(nil, err)
		}
		ip = netip.MustParseAddr(found[0])
		for _, text := range found { // package net prefers IPv4 here
			if other := netip.MustParseAddr(text); other.Is4() {
				ip = other
				break
			}
		}
	}
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	at := netip.AddrPortFrom(ip, uint16(port)) //nolint:gosec // a port
	if !ip.IsUnspecified() && !ip.IsLoopback() && !slices.Contains(p.host.ips, ip) {
		return wrap(tcpAddr(at), os.NewSyscallError("bind", syscall.EADDRNOTAVAIL))
	}
	if port == 0 {
		free, err := p.host.freePortLocked()
		if err != nil {
			return wrap(tcpAddr(at), os.NewSyscallError("bind", err))
		}
		at = netip.AddrPortFrom(ip, free)
	}
	for _, other := range p.host.processes {
		for _, l := range other.listeners {
			if l.at.Port() == at.Port() && (accepts(l.at.Addr(), ip) || accepts(ip, l.at.Addr())) {
				return wrap(tcpAddr(at), os.NewSyscallError("bind", syscall.EADDRINUSE))
			}
		}
	}
	if p.killed {
		return wrap(tcpAddr(at), net.ErrClosed)
	}
	l := &Listener{process: p, at: at}
	l.arrived.L = &n.mu
	p.listeners = append(p.listeners, l)
	return l, nil
}

// accepts reports whether a listener at an address takes connections to another one: the same address, or an unspecified one. The
// unspecified IPv6 address takes IPv4 too.
func accepts(at, to netip.Addr) bool {
	return at == to || at.IsUnspecified() && (at.Is6() || to.Is4())
}

// listenerLocked returns the listener of the host that takes connections to an address, or nil. The caller holds the Net's mu.
func (h *Host) listenerLocked(to netip.AddrPort) *Listener {
	for _, p := range h.processes {
		for _, l := range p.listeners {
			if l.at.Port() == to.Port() && accepts(l.at.Addr(), to.Addr()) {
				return l
			}
		}
	}
	return nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	n := l.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		case len(l.waiting) > 0 && !l.process.stopped:
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			return c, nil
		}
		l.arrived.Wait()
	}
}

// Close implements net.Listener. Connections that wait for Accept are reset.
func (l *Listener) Close() error {
	n := l.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for l.process.stopped {
		l.process.changed.Wait()
	}
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.closeLocked()
	return nil
}

// closeLocked does the work of Close. The caller holds the Net's mu.
func (l *Listener) closeLocked() {
	l.closed = true
	l.process.listeners = slices.DeleteFunc(l.process.listeners, func(other *Listener) bool { return other == l })
	for _, c := range l.waiting {
		c.abortLocked()
		c.closeLocked()
	}
	l.waiting = nil
	l.arrived.Broadcast()
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return tcpAddr(l.at) }

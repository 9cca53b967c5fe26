package simnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/kisgrid/kisgrid/internal/network"
)

// firstSYN is the pause before a request to connect is sent again. Each further pause is twice as long.
const firstSYN = time.Second

// leastShare is the least time that one of several addresses of a name has, as in package net.
const leastShare = 2 * time.Second

// errDialTimeout is the error of an attempt to connect whose time is over. It is what package net returns.
type errDialTimeout struct{}

func (errDialTimeout) Error() string     { return "i/o timeout" }
func (errDialTimeout) Timeout() bool     { return true }
func (errDialTimeout) Temporary() bool   { return true }
func (errDialTimeout) Is(err error) bool { return err == context.DeadlineExceeded } //nolint:errorlint // as package net has it

// errDialCanceled is the error of an attempt to connect that was canceled. It is what package net returns.
type errDialCanceled struct{}

func (errDialCanceled) Error() string     { return "operation was canceled" }
func (errDialCanceled) Is(err error) bool { return err == context.Canceled } //nolint:errorlint // as package net has it

// dialError returns the error of package net for a context that is done.
func dialError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errDialCanceled{}
	}
	return errDialTimeout{}
}

// DialContext implements network.Network. It tries the addresses of a name one after the other, each for its share of the time.
func (p *Process) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	fail := func(at net.Addr, err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: kind, Addr: at, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, network.DialTimeout)
	defer cancel()
	if err := p.ready(); err != nil {
		return fail(nil, err)
	}
	targets, err := p.targets(ctx, kind, address)
	if err != nil {
		return fail(nil, err)
	}
	var first error
	var at net.Addr
	for i, target := range targets {
		attempt, end := share(ctx, len(targets)-i)
		conn, err := p.connect(attempt, target)
		end()
		if ready := p.ready(); ready != nil {
			if conn != nil {
				_ = conn.Close()
			}
			return fail(tcpAddr(target), ready)
		}
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first, at = err, tcpAddr(target)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return fail(at, first)
}

// targets returns the addresses that an address stands for.
func (p *Process) targets(ctx context.Context, kind, address string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := (&net.Resolver{PreferGo: true}).LookupPort(ctx, kind, portText)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	found, err := p.LookupHost(ctx, "", host)
	if err != nil {
		return nil, err
	}
	var targets []netip.AddrPort
	for _, text := range found {
		ip, err := netip.ParseAddr(text)
		if err != nil || strings.HasSuffix(kind, "4") && !ip.Is4() || strings.HasSuffix(kind, "6") && !ip.Is6() {
			continue
		}
		if ip.IsUnspecified() { // Linux connects to itself
			if ip = netip.IPv6Loopback(); strings.Contains(text, ".") {
				ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
		}
		targets = append(targets, netip.AddrPortFrom(ip, uint16(port))) //nolint:gosec // a port
	}
	if len(targets) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return targets, nil
}

// share returns a context for one of so many addresses that are left.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left <= 1 {
		return ctx, func() {}
	}
	rest := time.Until(deadline)
	part := max(rest/time.Duration(left), min(leastShare, rest))
	return context.WithTimeout(ctx, part)
}

// connect makes one attempt to connect to one address.
func (p *Process) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n := p.host.net
	for pause := firstSYN; ; pause *= 2 {
		n.mu.Lock()
		there, back, answer := p.knockLocked(to)
		n.mu.Unlock()
		if answer == lost {
			if !wait(ctx.Done(), pause) {
				return nil, dialError(ctx)
			}
			continue
		}
		if answer == unreachable {
			if !wait(ctx.Done(), neighbourFound) {
				return nil, dialError(ctx)
			}
			return nil, os.NewSyscallError("connect", syscall.EHOSTUNREACH)
		}
		if !wait(ctx.Done(), there) {
			return nil, dialError(ctx)
		}
		if answer == refused {
			if !wait(ctx.Done(), back) {
				return nil, dialError(ctx)
			}
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		n.mu.Lock()
		conn := p.openLocked(to)
		n.mu.Unlock()
		if !wait(ctx.Done(), back) {
			if conn != nil {
				_ = conn.Close()
			}
			return nil, dialError(ctx)
		}
		if conn == nil {
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		return conn, nil
	}
}

// answer is what comes back for a request to connect.
type answer int

// Answers to a request to connect.
const (
	open        answer = iota // a listener may be there
	refused                   // the path refuses
	lost                      // nothing comes back
	unreachable               // no machine has the address
)

// machineLocked returns the machine that an address means for the process, or nil.
func (p *Process) machineLocked(ip netip.Addr) *Host {
	if ip.IsLoopback() {
		return p.host
	}
	return p.host.net.hostOfLocked(ip)
}

// knockLocked returns how long a request to connect and its answer take, and what the answer is.
func (p *Process) knockLocked(to netip.AddrPort) (there, back time.Duration, a answer) {
	n := p.host.net
	host := p.machineLocked(to.Addr())
	if host == nil {
		if p.host.down {
			return 0, 0, lost
		}
		return 0, 0, unreachable
	}
	at := host.own
	if l := host.listenerLocked(to); l != nil {
		at = l.process
		if len(l.waiting) >= backlog {
			return 0, 0, lost
		}
	}
	way, home := n.pathLocked(p, at), n.pathLocked(at, p)
	now := time.Now()
	there, back = way.takes(now, 0).Sub(now), home.takes(now, 0).Sub(now)
	switch {
	case way.cut || home.cut || way.blackHole:
		return there, back, lost
	case way.unreached:
		return there, back, unreachable
	case way.refuse:
		return there, back, refused
	}
	return there, back, open
}

// openLocked makes a connection to a listener, which accepts it later. It returns nil where there is none.
func (p *Process) openLocked(to netip.AddrPort) *Conn {
	n := p.host.net
	host := p.machineLocked(to.Addr())
	l := host.listenerLocked(to)
	if l == nil || p.killed {
		return nil
	}
	port, err := p.host.freePortLocked()
	if err != nil {
		return nil
	}
	from := to.Addr() // of the own host
	if host != p.host {
		from = p.host.ips[0]
		for _, ip := range p.host.ips {
			if ip.Is4() == to.Addr().Is4() {
				from = ip
				break
			}
		}
	}
	now := time.Now()
	local, remote := tcpAddr(netip.AddrPortFrom(from, port)), tcpAddr(to)
	near := &Conn{process: p, local: local, remote: remote, heard: now, dialled: true}
	far := &Conn{process: l.process, local: remote, remote: local, heard: now, peer: near}
	near.peer = far
	for _, c := range []*Conn{near, far} {
		c.readable.L, c.writable.L = &n.mu, &n.mu
		c.out.path = n.pathLocked(c.process, c.peer.process)
		n.conns = append(n.conns, c)
	}
	near.broken = near.out.path.cut || far.out.path.cut
	far.broken = near.broken
	p.conns = append(p.conns, near)
	l.process.conns = append(l.process.conns, far)
	l.waiting = append(l.waiting, far)
	l.arrived.Signal()
	return near
}

package simnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Net is a network. Its methods, and those of its hosts, processes and connections, may be called concurrently.
type Net struct {
	seed uint64

	v4, v6 bool // which addresses hosts get that have none of their own

	mu     sync.Mutex
	hosts  []*Host          // guarded by mu
	names  map[string]*name // by name in lower case without a dot at the end; guarded by mu
	conns  []*Conn          // every end that its kernel knows; guarded by mu
	faults []*Fault         // faults in force; guarded by mu
	made   uint64           // number of faults made so far, for their random numbers; guarded by mu
}

// New makes a network without hosts. seed decides the jitter of delays.
func New(seed uint64) *Net {
	return &Net{seed: seed, v4: true, names: map[string]*name{}}
}

// Choose says which addresses hosts get that are added without addresses: of IPv4, of IPv6, or both. It is IPv4 at first. It is called before
// hosts are added.
func (n *Net) Choose(v4, v6 bool) { n.v4, n.v6 = v4, v6 }

// Host is a machine. It implements network.Network for programs that need no process of their own.
type Host struct {
	net  *Net
	name string
	ips  []netip.Addr
	own  *Process // has the host's name; it is always there
	down bool     // its cable is out; guarded by net.mu

	processes []*Process // guarded by net.mu
	nextPort  uint16     // the next free port to try; guarded by net.mu
}

// The range of ports from which dialers and port 0 get theirs, as Linux has it.
const firstFreePort, lastFreePort = 32768, 60999

// Host returns the host of this name, and adds it if there is none. ips are its addresses beside the loopback ones; without any, an
// address of the networks 10.0.0.0/8 or fd00::/64 is chosen, as Choose says. The host's name is looked up as these addresses. It panics on text that is no IP
// address and on an address that another host has, since both are mistakes of the test.
func (n *Net) Host(hostName string, ips ...string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		if h.name == hostName {
			return h
		}
	}
	h := &Host{net: n, name: hostName, nextPort: firstFreePort}
	for _, text := range ips {
		ip := netip.MustParseAddr(text)
		if n.hostOfLocked(ip) != nil || ip.IsLoopback() {
			panic(fmt.Sprintf("host %s: the address %s is taken", hostName, ip))
		}
		h.ips = append(h.ips, ip)
	}
	for i := 0; len(h.ips) == 0; i++ {
		four, six := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 1)}), netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i / 250), 15: byte(i%250 + 1)})
		if n.hostOfLocked(four) != nil || n.hostOfLocked(six) != nil {
			continue
		}
		if n.v4 {
			h.ips = append(h.ips, four)
		}
		if n.v6 {
			h.ips = append(h.ips, six)
		}
	}
	h.own = newProcess(h, hostName)
	h.processes = []*Process{h.own}
	n.hosts = append(n.hosts, h)
	n.names[canonical(hostName)] = &name{addresses: h.IPs()}
	return h
}

// hostOfLocked returns the host that has an address, or nil if there is none. The caller holds mu.
func (n *Net) hostOfLocked(ip netip.Addr) *Host {
	for _, h := range n.hosts {
		if slices.Contains(h.ips, ip) {
			return h
		}
	}
	return nil
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// IP returns the host's first address that is not a loopback address.
func (h *Host) IP() string { return h.ips[0].String() }

// IPs returns the host's addresses that are no loopback addresses.
func (h *Host) IPs() []string {
	texts := make([]string, len(h.ips))
	for i, ip := range h.ips {
		texts[i] = ip.String()
	}
	return texts
}

// Down pulls the host's cable: packets to and from other hosts vanish. Connections within the host go on. Its processes go on too.
func (h *Host) Down() { h.setDown(true) }

// Up plugs the cable in again. Connections that are not given up yet go on at the next retransmission.
func (h *Host) Up() { h.setDown(false) }

// setDown sets whether the host's cable is out.
func (h *Host) setDown(down bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.down = down
	h.net.refreshLocked()
}

// Crash cuts the host's power: its processes are killed without a word to their peers, and the cable is out until Up. Its kernel then
// knows none of the connections, and answers their packets with resets.
func (h *Host) Crash() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.down = true
	h.net.refreshLocked()
	for _, p := range h.processes {
		for _, c := range p.conns {
			c.forgetLocked()
		}
		p.killLocked()
	}
	h.processes = []*Process{h.own}
	h.own.killed = false
}

// DialContext implements network.Network, as Process.DialContext does.
func (h *Host) DialContext(ctx context.Context, kind, address string) (net.Conn, error) {
	return h.own.DialContext(ctx, kind, address)
}

// Listen implements network.Network, as Process.Listen does.
func (h *Host) Listen(ctx context.Context, address string) (net.Listener, error) {
	return h.own.Listen(ctx, address)
}

// LookupHost implements network.Network, as Process.LookupHost does.
func (h *Host) LookupHost(ctx context.Context, server, host string) ([]string, error) {
	return h.own.LookupHost(ctx, server, host)
}

// InterfaceAddrs implements network.Network, as Process.InterfaceAddrs does.
func (h *Host) InterfaceAddrs() ([]net.Addr, error) { return h.own.InterfaceAddrs() }

// Open lists what the host itself has open, as Process.Open does.
func (h *Host) Open() []string { return h.own.Open() }

// InterfaceAddrs implements network.Network: it returns the loopback addresses and then the host's own, as *net.IPNet.
func (p *Process) InterfaceAddrs() ([]net.Addr, error) {
	addrs := []net.Addr{
		&net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)},
		&net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	for _, ip := range p.host.ips {
		network := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(8, 32)}
		if ip.Is6() {
			network.Mask = net.CIDRMask(64, 128)
		}
		addrs = append(addrs, network)
	}
	return addrs, nil
}

// freePortLocked returns a port of the host that no listener and no connection uses. The caller holds net.mu.
func (h *Host) freePortLocked() (uint16, error) {
	for range lastFreePort - firstFreePort + 1 {
		port := h.nextPort
		if h.nextPort++; h.nextPort > lastFreePort {
			h.nextPort = firstFreePort
		}
		if !h.portUsedLocked(port) {
			return port, nil
		}
	}
	return 0, syscall.EADDRNOTAVAIL
}

// portUsedLocked reports whether a listener or a connection of the host uses a port. The caller holds net.mu.
func (h *Host) portUsedLocked(port uint16) bool {
	for _, p := range h.processes {
		for _, l := range p.listeners {
			if l.at.Port() == port {
				return true
			}
		}
		for _, c := range p.conns {
			if c.local.Port == int(port) {
				return true
			}
		}
	}
	return false
}

// wait blocks for a time. It returns false when done is closed before.
func wait(done <-chan struct{}, d time.Duration) bool {
	if d <= 0 {
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// tcpAddr turns an address into the type that package net gives to connections.
func tcpAddr(a netip.AddrPort) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(a)
}

package network

import (
	"context"
	"net"
)

// Network is the network as one machine sees it. Its methods may be called from several goroutines. Addresses are host:port; a host may
// be a name or an IP address, and localhost is this machine.
type Network interface {
	// DialContext connects to an address. network is "tcp", or a restriction of it. It blocks until it is connected, fails, or ctx is done.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens a listener at an address of this machine. An empty host means all addresses of the machine, and port 0 a free port. An
	// address that is taken gives an error that wraps syscall.EADDRINUSE.
	Listen(ctx context.Context, address string) (net.Listener, error)
	// LookupHost returns the IP addresses of a host; for an IP address, the address itself. An empty server means the name servers of the
	// machine, and else the name server at that address.
	LookupHost(ctx context.Context, server, host string) ([]string, error)
	// InterfaceAddrs returns the addresses of this machine, with the loopback addresses.
	InterfaceAddrs() ([]net.Addr, error)
}

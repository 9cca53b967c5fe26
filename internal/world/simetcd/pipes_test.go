package simetcd_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc/test/bufconn"
)

// pipes is a network of one machine in memory, without names and faults. It implements network.Network.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipe // by address; guarded by mu
}

// newPipes makes a network.
func newPipes() *pipes { return &pipes{listeners: map[string]*pipe{}} }

// pipe is a listener at an address.
type pipe struct {
	*bufconn.Listener
	net     *pipes
	address string
}

// Addr implements net.Listener.
func (p *pipe) Addr() net.Addr { return pipeAddr(p.address) }

// Close implements net.Listener.
func (p *pipe) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.listeners[p.address] == p {
		delete(p.net.listeners, p.address)
	}
	return p.Listener.Close()
}

// pipeAddr is the address of a pipe. It implements net.Addr.
type pipeAddr string

// Network implements net.Addr.
func (pipeAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a pipeAddr) String() string { return string(a) }

// Listen implements network.Network.
func (n *pipes) Listen(_ context.Context, address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, syscall.EADDRINUSE)
	}
	p := &pipe{bufconn.Listen(1 << 16), n, address}
	n.listeners[address] = p
	return p, nil
}

// DialContext implements network.Network.
func (n *pipes) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	p := n.listeners[address]
	n.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
	}
	return p.DialContext(ctx)
}

// LookupHost implements network.Network.
func (n *pipes) LookupHost(_ context.Context, _, host string) ([]string, error) { return []string{host}, nil }

// InterfaceAddrs implements network.Network.
func (n *pipes) InterfaceAddrs() ([]net.Addr, error) { return nil, nil }

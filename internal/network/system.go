package network

import (
	"context"
	"net"
	"time"
)

// DialTimeout limits one attempt of DialContext, with the lookup of the name.
const DialTimeout = 5 * time.Second

// Probes are the settings of the kernel's keepalive for every connection, dialled or accepted. After two seconds of silence the kernel
// sends a probe every second, and three unanswered probes end the connection. So a peer that is cut off, or whose machine is gone, is
// noticed while nothing is sent.
var Probes = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

// System returns the network of the machine on which this process runs.
func System() Network { return system{} }

// Or returns n, or the network of this machine if n is nil.
func Or(n Network) Network {
	if n == nil {
		return System()
	}
	return n
}

// system is the network of this machine.
type system struct{}

// dialer makes the connections of every system.
var dialer = net.Dialer{Timeout: DialTimeout, KeepAliveConfig: Probes}

// DialContext implements Network.
func (system) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return dialer.DialContext(ctx, network, address)
}

// Listen implements Network.
func (system) Listen(ctx context.Context, address string) (net.Listener, error) {
	return (&net.ListenConfig{KeepAliveConfig: Probes}).Listen(ctx, "tcp", address)
}

// LookupHost implements Network.
func (system) LookupHost(ctx context.Context, server, host string) ([]string, error) {
	if server == "" {
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	asking := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, server)
	}}
	return asking.LookupHost(ctx, host)
}

// InterfaceAddrs implements Network.
func (system) InterfaceAddrs() ([]net.Addr, error) { return net.InterfaceAddrs() }

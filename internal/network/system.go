package network

import (
	"context"
	"crypto/tls"
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

// DialTLS connects over n and does the TLS handshake with the server, whose certificate must have the name in config or else the host of
// the address. It blocks until that is done, fails, or ctx is done.
func DialTLS(ctx context.Context, n Network, network, address string, config *tls.Config) (net.Conn, error) {
	raw, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		config = config.Clone()
		config.ServerName = host
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the reason
		return nil, err
	}
	return conn, nil
}

// Dialer returns a function that dials over n within timeout, with TLS if config is not nil. It fits Dialer of go-redis.
func Dialer(n Network, config *tls.Config, timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if config == nil {
			return n.DialContext(ctx, network, address)
		}
		return DialTLS(ctx, n, network, address, config)
	}
}

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

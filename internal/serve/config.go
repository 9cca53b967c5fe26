package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// BindDialFlags adds the flags of a process that dials: <prefix>tls-cert, <prefix>tls-key, <prefix>tls-ca and
// <prefix>tls-server-name. The flags write into c. Errors of c then name settings by these flags.
func BindDialFlags(c *transport.Config, fs *pflag.FlagSet, prefix string) {
	c.SettingName = func(setting string) string { return "--" + prefix + setting }
	fs.StringVar(&c.TLSCert, prefix+"tls-cert", c.TLSCert, "PEM `file` with this process's certificate and its intermediate certificates")
	fs.StringVar(&c.TLSKey, prefix+"tls-key", c.TLSKey, "PEM `file` with the key of the certificate")
	fs.StringVar(&c.TLSCA, prefix+"tls-ca", c.TLSCA, "PEM `file` with the authorities that must have issued the certificates of peers")
	fs.StringVar(&c.TLSServerName, prefix+"tls-server-name", c.TLSServerName, "`name` that the certificate of a dialled server must have (default: the host that is dialled)")
}

// BindFlags adds the flags of a process that listens and dials: the flags of BindDialFlags without a prefix,
// tls-require-client-cert, and the limits max-batch-bytes, max-connections, max-connections-per-address, max-calls and
// max-receive-bytes.
func BindFlags(c *transport.Config, fs *pflag.FlagSet) {
	BindDialFlags(c, fs, "")
	fs.BoolVar(&c.RequireClientCert, "tls-require-client-cert", c.RequireClientCert, "refuse clients without a certificate")
	fs.IntVar(&c.BatchBytes, "max-batch-bytes", batch.Limits{BatchBytes: c.BatchBytes}.WithDefaults().BatchBytes,
		"limit for the rows of one batch, in `bytes`; use the same value for coordinators and workers")
	limits := withLimits(*c)
	fs.IntVar(&c.MaxConnections, "max-connections", limits.MaxConnections, "limit for connections that make calls; a further one takes the place of an idle one, or is refused")
	fs.IntVar(&c.MaxConnectionsPerAddress, "max-connections-per-address", c.MaxConnectionsPerAddress,
		"limit for connections from one address, such as the address of a proxy (default: three quarters of max-connections)")
	fs.IntVar(&c.MaxCalls, "max-calls", limits.MaxCalls, "limit for concurrent calls; further calls are refused")
	fs.Int64Var(&c.ReceiveBytes, "max-receive-bytes", limits.ReceiveBytes,
		"limit for messages that are being received, in `bytes` over all connections; beyond it, the connection is cut that has held most bytes for the longest time")
}

// withLimits returns a copy of c in which each limit of a listener that is not set has its default. ReceiveBytes is at least
// four times the largest message.
func withLimits(c transport.Config) *transport.Config {
	limited := c
	if limited.MaxConnections <= 0 {
		limited.MaxConnections = 1000
	}
	if limited.MaxConnectionsPerAddress <= 0 {
		limited.MaxConnectionsPerAddress = max(1, limited.MaxConnections*3/4)
	}
	if limited.MaxCalls <= 0 {
		limited.MaxCalls = 4096
	}
	if limited.ReceiveBytes <= 0 {
		limited.ReceiveBytes = 64 << 20
	}
	limited.ReceiveBytes = max(limited.ReceiveBytes, 4*int64(c.MessageBytes()))
	return &limited
}

// ReceiveLimit returns the limit of a gRPC listener for messages that are being received, in bytes over all connections:
// c.ReceiveBytes, or its default if that is not set, and at least four times the largest message.
func ReceiveLimit(c transport.Config) int64 { return withLimits(c).ReceiveBytes }

// Listen opens a TCP listener in a network; nil means that of the machine. The kernel checks the peers of its connections, so that a dead
// peer is noticed.
func Listen(ctx context.Context, in network.Network, address string) (net.Listener, error) {
	listener, err := network.Or(in).Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w: choose another address, or end the process that has it", address, err)
	}
	return listener, nil
}

// ListenNear opens a TCP listener as Listen does. When the port is in use and elsewhere is true, it takes a free port of the
// same host and logs the address. So a second process on one machine needs no flags for ports that the user did not choose.
func ListenNear(ctx context.Context, in network.Network, address string, elsewhere bool, log hclog.Logger) (net.Listener, error) {
	l, err := Listen(ctx, in, address)
	if err == nil || !elsewhere || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, err
	}
	if l, err = Listen(ctx, in, net.JoinHostPort(host, "0")); err != nil {
		return nil, err
	}
	log.Warn("the port is in use; took a free one", "wanted", address, "listen", l.Addr().String())
	return l, nil
}

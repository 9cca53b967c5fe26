// Package serve is what every listener of the project has in common: limits of what connections, calls and messages on their way in may
// cost, health, and the HTTP port. Package transport has what it shares with dialers.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// BindDialFlags binds what a dialer needs: <prefix>tls-cert, -key, -ca and -server-name. Errors of c call settings by these flags.
func BindDialFlags(c *transport.Config, fs *pflag.FlagSet, prefix string) {
	c.SettingName = func(setting string) string { return "--" + prefix + setting }
	fs.StringVar(&c.TLSCert, prefix+"tls-cert", c.TLSCert, "PEM `file` of this process's certificate, with its intermediates")
	fs.StringVar(&c.TLSKey, prefix+"tls-key", c.TLSKey, "PEM `file` of the certificate's key")
	fs.StringVar(&c.TLSCA, prefix+"tls-ca", c.TLSCA, "PEM `file` of the authorities that peers' certificates must come from")
	fs.StringVar(&c.TLSServerName, prefix+"tls-server-name", c.TLSServerName, "`name` that the certificates of those dialled must have (default: the host dialled)")
}

// BindFlags binds what a process needs that listens and dials: besides the dialer's flags, tls-require-client-cert, max-batch-bytes,
// -connections, -connections-per-address, -calls and -receive-bytes.
func BindFlags(c *transport.Config, fs *pflag.FlagSet) {
	BindDialFlags(c, fs, "")
	fs.BoolVar(&c.RequireClientCert, "tls-require-client-cert", c.RequireClientCert, "refuse clients that show no certificate")
	fs.IntVar(&c.BatchBytes, "max-batch-bytes", batch.Limits{BatchBytes: c.BatchBytes}.WithDefaults().BatchBytes,
		"limit for the rows of one batch, in `bytes`; the same for coordinators and workers")
	limits := withLimits(*c)
	fs.IntVar(&c.MaxConnections, "max-connections", limits.MaxConnections, "limit for connections that make calls; further ones take the place of one that rests, or are refused")
	fs.IntVar(&c.MaxConnectionsPerAddress, "max-connections-per-address", c.MaxConnectionsPerAddress,
		"limit for open connections from one address, such as a proxy's (default: three quarters of max-connections)")
	fs.IntVar(&c.MaxCalls, "max-calls", limits.MaxCalls, "limit for calls under way; further ones are refused")
	fs.Int64Var(&c.ReceiveBytes, "max-receive-bytes", limits.ReceiveBytes,
		"limit for messages on their way in, in `bytes` over all connections; the one whose bytes have cost most, by size and time, is cut")
}

// withLimits is a process's Config with its listeners' limits filled in.
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

// IntakeBytes is how many bytes of messages a gRPC listener really lets be on their way in: ReceiveBytes, or what it is raised to.
func ReceiveLimit(c transport.Config) int64 { return withLimits(c).ReceiveBytes }

// Listen opens a TCP listener whose connections notice a dead peer.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{KeepAliveConfig: transport.Probes}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: choose another address, or end what holds it: %w", address, err)
	}
	return listener, nil
}

// ListenNear is Listen, but where the port is in use and elsewhere will do it takes a free one of the same host, and logs which. It
// is for ports that nobody chose: a second process on a machine need not be told others.
func ListenNear(ctx context.Context, address string, elsewhere bool, log hclog.Logger) (net.Listener, error) {
	l, err := Listen(ctx, address)
	if err == nil || !elsewhere || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, err
	}
	if l, err = Listen(ctx, net.JoinHostPort(host, "0")); err != nil {
		return nil, err
	}
	log.Warn("the port is in use, took a free one instead", "wanted", address, "listen", l.Addr().String())
	return l, nil
}

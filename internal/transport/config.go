// Package transport is what every listener and dialer of the project has in common: TLS from files that may change,
// keepalive that notices a dead peer in about five seconds, limits of what one message and one connection may cost, and
// health. An error here says which flag or file would mend it.
package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Config says how to listen and how to dial. The zero value is plaintext with the default limits.
//
// A process has one certificate for both: as a server it shows it to those who dial it, as a client to those it dials. All
// files are PEM, are read at once, and are looked at again when a connection is made, at most once a second: a new
// certificate or CA is taken up without a restart. While the files don't fit together, as in the middle of a change, the
// old ones stay in use and the logger is told.
type Config struct {
	// TLSCert and TLSKey are the files of this process's certificate, with its intermediates, and of its key. A listener
	// speaks TLS when they are set; a dialer shows them when it is asked for a certificate.
	TLSCert, TLSKey string
	// TLSCA is the file of the authorities that peers' certificates must come from. Without it a dialer that has a
	// certificate trusts the system's. A dialer speaks TLS when TLSCA or TLSCert is set.
	TLSCA string
	// TLSServerName is the name that the certificates of those dialled must have. Empty: the host that is dialled. Set it
	// where addresses are numbers that no certificate knows, as those of pods.
	TLSServerName string
	// RequireClientCert makes a listener refuse clients that show no certificate. Without it a certificate that is shown
	// must still come from TLSCA, where that is set.
	RequireClientCert bool
	// Attentive has Dial's connections end when the server has been silent for some five seconds, though it was asked. It is for those
	// who wait for answers and hear nothing else; sessions of workers have a beat of their own.
	Attentive bool
	// BatchBytes and BatchRows are the limits for one batch; MessageBytes follows from them. 0 means 8 MiB, and 65,536.
	BatchBytes, BatchRows int
	// MaxConnections is how many connections of a gRPC listener may make calls. A further one takes the place of the one that has
	// had no call under way for longest, a second at least; where there is none, its call is refused. Connections on which no call has
	// come yet don't count: they have a share of 128 beside it, of which the oldest makes room. 0 means 1000.
	MaxConnections int
	// MaxConnectionsPerAddress is how many of MaxConnections may come from one address. Raise it where many clients share one, as
	// behind a proxy. 0 means three quarters of MaxConnections.
	MaxConnectionsPerAddress int
	// MaxCalls is how many calls a gRPC listener has under way; further ones are refused. 0 means 4096.
	MaxCalls int
	// ReceiveBytes is how many bytes of messages may be on their way in before a handler has them, over all connections of a
	// gRPC listener; the connection whose bytes have cost most, by size and time, is cut when they are more. 0 means 64 MiB; at least four times
	// MessageBytes are taken.
	ReceiveBytes int64
	// Logger is told of reloaded files and refused connections. Nil: nobody is.
	Logger hclog.Logger
	// Call says how errors call a setting, given as tls-cert, tls-key or tls-ca. Nil: by its flag, --tls-cert.
	Call func(setting string) string

	prefix string // of the flags, so that errors name them
}

// BindFlags binds what a dialer needs: <prefix>tls-cert, -key, -ca and -server-name.
func (c *Config) BindFlags(fs *pflag.FlagSet, prefix string) {
	c.prefix = prefix
	fs.StringVar(&c.TLSCert, prefix+"tls-cert", c.TLSCert, "PEM `file` of this process's certificate, with its intermediates")
	fs.StringVar(&c.TLSKey, prefix+"tls-key", c.TLSKey, "PEM `file` of the certificate's key")
	fs.StringVar(&c.TLSCA, prefix+"tls-ca", c.TLSCA, "PEM `file` of the authorities that peers' certificates must come from")
	fs.StringVar(&c.TLSServerName, prefix+"tls-server-name", c.TLSServerName, "`name` that the certificates of those dialled must have (default: the host dialled)")
}

// BindServerFlags binds what a listener needs besides: <prefix>tls-require-client-cert, <prefix>max-batch-bytes,
// -connections, -connections-per-address, -calls and
// -receive-bytes.
func (c *Config) BindServerFlags(fs *pflag.FlagSet, prefix string) {
	c.BindFlags(fs, prefix)
	fs.BoolVar(&c.RequireClientCert, prefix+"tls-require-client-cert", c.RequireClientCert, "refuse clients that show no certificate")
	fs.IntVar(&c.BatchBytes, prefix+"max-batch-bytes", batch.Limits{BatchBytes: c.BatchBytes}.WithDefaults().BatchBytes,
		"limit for the rows of one batch, in `bytes`; the same for coordinators and workers")
	limits := c.withLimits()
	fs.IntVar(&c.MaxConnections, prefix+"max-connections", limits.MaxConnections, "limit for connections that make calls; further ones take the place of one that rests, or are refused")
	fs.IntVar(&c.MaxConnectionsPerAddress, prefix+"max-connections-per-address", c.MaxConnectionsPerAddress,
		"limit for open connections from one address, such as a proxy's (default: three quarters of max-connections)")
	fs.IntVar(&c.MaxCalls, prefix+"max-calls", limits.MaxCalls, "limit for calls under way; further ones are refused")
	fs.Int64Var(&c.ReceiveBytes, prefix+"max-receive-bytes", limits.ReceiveBytes,
		"limit for messages on their way in, in `bytes` over all connections; the one whose bytes have cost most, by size and time, is cut")
}

// withLimits is c with its listeners' limits filled in.
func (c *Config) withLimits() *Config {
	limited := *c
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
func (c *Config) IntakeBytes() int64 { return c.withLimits().ReceiveBytes }

// MessageBytes is the limit for one gRPC message: the batch limit in bytes, a quarter more, and what travels beside each row,
// which is its end, its key and its place.
func (c *Config) MessageBytes() int {
	const beside = 16
	limit := batch.Limits{BatchBytes: c.BatchBytes, BatchRows: c.BatchRows}.WithDefaults()
	return limit.BatchBytes + limit.BatchBytes/4 + beside*limit.BatchRows
}

// flag is how errors call a flag.
func (c *Config) flag(name string) string {
	if c.Call != nil {
		return c.Call(name)
	}
	return "--" + c.prefix + name
}

func (c *Config) logger() hclog.Logger {
	if c.Logger == nil {
		return hclog.NewNullLogger()
	}
	return c.Logger
}

// The kernel's keepalive finds a peer whose machine is gone, or that a partition cuts off, while nothing is sent: after
// probeIdle it probes every probeInterval, and probeCount unanswered ones end the connection. A process that hangs is found by
// gRPC's pings in a server, and by its silence in a client (silence.go).
const (
	probeIdle     = 2 * time.Second
	probeInterval = time.Second
	probeCount    = 3
)

var probes = net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount}

// Listen opens a TCP listener whose connections notice a dead peer.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{KeepAliveConfig: probes}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: choose another address, or end what holds it: %w", address, err)
	}
	return listener, nil
}

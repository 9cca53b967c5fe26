// Package transport is what every listener and dialer of the project has in common: TLS from files that may change,
// keepalive that notices a dead peer in about five seconds, limits of what one message and one connection may cost, and
// health. An error here says which flag or file would mend it.
package transport

import (
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

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
	ProbeSilence bool
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
	SettingName func(setting string) string
}

// MessageBytes is the limit for one gRPC message: the batch limit in bytes, a quarter more, and what travels beside each row,
// which is its end, its key and its place.
func (c *Config) MessageBytes() int {
	const beside = 16
	limit := batch.Limits{BatchBytes: c.BatchBytes, BatchRows: c.BatchRows}.WithDefaults()
	return limit.BatchBytes + limit.BatchBytes/4 + beside*limit.BatchRows
}

// Flag is how errors call a setting.
func (c *Config) Flag(setting string) string {
	if c.SettingName != nil {
		return c.SettingName(setting)
	}
	return "--" + setting
}

// Log is the logger, or one that tells nobody.
func (c *Config) Log() hclog.Logger {
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

// Probes are the kernel's keepalive of every connection.
var Probes = net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount}

// Limits of one connection, of both sides.
const (
	StreamWindow     = 8 << 20   // bytes that may be on their way in one stream
	ConnectionWindow = 16 << 20  // bytes that may be on their way in all streams together
	Buffer           = 256 << 10 // bytes gathered for one read or write
	MaxHeaderBytes   = 64 << 10  // of one answer; an error's text travels there
)

// gRPC's own pings: a client can ping a server every 10 s at most.
const (
	// PingTimeout is how long a ping may go unanswered.
	PingTimeout = 3 * time.Second
	clientPing  = 10 * time.Second
)

package transport

import (
	"crypto/x509"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Config says how to listen and how to dial. The zero value means plaintext with the default limits.
//
// A process has one certificate. As a server it shows the certificate to the processes that dial it, and as a client to the
// servers that it dials. All files have the format PEM. They are read when the Config is first used, and checked for changes
// when a connection is made, at most once a second. So a new certificate or authority is used without a restart. While the
// files don't fit together, as in the middle of a change, the earlier ones stay in use and a warning is logged.
type Config struct {
	// TLSCert and TLSKey are the files with this process's certificate, its intermediate certificates, and its key. With them
	// a listener speaks TLS, and a dialer shows the certificate to a server that asks for one. Default: none.
	TLSCert, TLSKey string
	// TLSCA is the file with the authorities that must have issued the certificates of peers. A dialer speaks TLS when TLSCA
	// or TLSCert is set; with TLSCert alone it trusts the authorities of the system. Default: none.
	TLSCA string
	// TLSServerName is the name that the certificates of dialled servers must have. Set it where servers are dialled by IP
	// addresses that no certificate has, such as those of pods. Default: the host that is dialled.
	TLSServerName string
	// RequireClientCert makes a listener refuse clients without a certificate. Without it a client needs none; a certificate
	// that the client does show must come from TLSCA, where that is set.
	RequireClientCert bool
	// ProbeSilence makes connections of Dial end when the server has been silent for about five seconds and has not answered a
	// probe. It is for clients that only wait for answers. Sessions of workers don't need it, because they have heartbeats.
	// See silence.go.
	ProbeSilence bool
	// BatchBytes and BatchRows are the limits for one batch, from which MessageBytes is computed. Default: 8 MiB, and 65,536
	// rows.
	BatchBytes, BatchRows int
	// MaxConnections is how many connections of a gRPC listener may make calls. A further connection takes the place of the
	// one that has had no call for the longest time, at least a second; its call is refused where there is none. Connections
	// without a call don't count: 128 of them may be open in addition, and the oldest one is closed for a new one. Default
	// 1000.
	MaxConnections int
	// MaxConnectionsPerAddress is how many of MaxConnections may come from one address. Raise it where many clients share an
	// address, as behind a proxy. Default: three quarters of MaxConnections.
	MaxConnectionsPerAddress int
	// MaxCalls is how many calls of a gRPC listener may be under way; further calls are refused. Default 4096.
	MaxCalls int
	// ReceiveBytes limits the bytes of messages that are being received, which no handler has yet, over all connections of a
	// gRPC listener. When there are more, the connection is cut whose bytes have cost most, by their number and age. Default
	// 64 MiB; at least four times MessageBytes are used.
	ReceiveBytes int64
	// CheckServer is called with the certificate that a dialled gRPC server has proved to have. An error refuses the server. It
	// is not called without TLS. Default nil: every certificate of the authorities is accepted.
	CheckServer func(*x509.Certificate) error
	// Token returns the token that each call of a client of Dial carries. A token goes only over TLS, or to this machine itself, unless
	// TokenPlaintext is true. Default nil: calls carry no token.
	Token          TokenSource
	TokenPlaintext bool
	// Network is the network over which to dial and to look names up. Default: that of the machine.
	Network network.Network
	// Logger logs reloaded files and refused connections. Default nil: nothing is logged.
	Logger hclog.Logger
	// SettingName returns the name by which errors call a setting, such as "tls-cert". Default nil: the setting's flag, such
	// as --tls-cert.
	SettingName func(setting string) string
}

// MessageBytes returns the limit for one gRPC message: the limit for a batch in bytes, a quarter more, and 16 bytes beside
// each row for its end, its key and its place.
func (c *Config) MessageBytes() int {
	const beside = 16
	limit := batch.Limits{BatchBytes: c.BatchBytes, BatchRows: c.BatchRows}.WithDefaults()
	return limit.BatchBytes + limit.BatchBytes/4 + beside*limit.BatchRows
}

// Flag returns the name by which errors call a setting such as "tls-cert": the result of SettingName, or else the flag
// --tls-cert.
func (c *Config) Flag(setting string) string {
	if c.SettingName != nil {
		return c.SettingName(setting)
	}
	return "--" + setting
}

// Log returns Logger. If that is nil, it returns a logger that drops everything.
func (c *Config) Log() hclog.Logger {
	if c.Logger == nil {
		return hclog.NewNullLogger()
	}
	return c.Logger
}

// Limits of one connection, the same on both sides.
const (
	StreamWindow     = 8 << 20   // so many bytes of one stream may be sent before the receiver has read them
	ConnectionWindow = 16 << 20  // so many bytes of all streams of a connection may be sent before the receiver has read them
	Buffer           = 256 << 10 // the buffer for one read or write has so many bytes
	MaxHeaderBytes   = 64 << 10  // the header of one answer, in which the text of an error travels, has at most so many bytes
)

// Times of gRPC's own pings. They and its silence in a client (silence.go) find a process that hangs, which the kernel's keepalive
// (network.Probes) does not find, because the kernel of its machine still answers. grpc-go lets a client ping a server every 10 s at most.
const (
	// PingTimeout is how long a ping may go unanswered.
	PingTimeout = 3 * time.Second
	clientPing  = 10 * time.Second // a client pings a server that has been silent for this time
)

package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/network"
)

// Time limits of connecting and of refusing a connection.
const (
	dialTimeout   = network.DialTimeout // one attempt to connect takes at most so long, handshake included
	hangUpTimeout = time.Second         // a refused client has so long to read why it is refused
)

// ServerTLS returns the settings of listeners that are not gRPC servers. nil without an error means plaintext.
func (c *Config) ServerTLS() (*tls.Config, error) {
	f, err := c.serverFiles()
	if f == nil {
		return nil, err
	}
	return serverTLS(f), nil
}

// ClientTLS returns the settings of clients that dial by themselves. The certificate follows changes of its file; the
// authorities stay the ones that are read now, because crypto/tls can't change them. Use Dialer or Credentials where a library
// accepts one of them. nil without an error means plaintext.
func (c *Config) ClientTLS() (*tls.Config, error) {
	f, err := openFiles(*c)
	if f == nil {
		return nil, err
	}
	config := f.latest().client.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.latest().shown(), nil }
	return config, nil
}

// Dialer returns a function that connects and does the TLS handshake. An attempt ends with ctx or after 5 s. The function fits
// DialTLSContext of http.Transport, and Dialer of go-redis. Without TLS files it connects in plaintext.
func (c *Config) Dialer() (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	f, err := openFiles(*c)
	if err != nil {
		return nil, err
	}
	via := network.Or(c.Network)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if f == nil {
			return via.DialContext(ctx, network, address)
		}
		conn, err := dialTLS(ctx, via, network, address, f.latest().client)
		if err != nil {
			return nil, f.config.explainClient(address, err)
		}
		return f.config.explainReads(address, conn), nil
	}, nil
}

// dialTLS connects and does the TLS handshake, within dialTimeout.
func dialTLS(ctx context.Context, via network.Network, kind, address string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return network.DialTLS(ctx, via, kind, address, config)
}

// Credentials returns the credentials of gRPC clients, for Dial and for clients that Dial does not make, such as etcd's.
// Without TLS files they are those of plaintext.
func (c *Config) Credentials() (credentials.TransportCredentials, error) {
	f, err := openFiles(*c)
	if err != nil {
		return nil, err
	}
	return f.credentials(), nil
}

// ServerCredentials returns the credentials of gRPC servers: TLS, or plaintext without TLS files. TLS credentials log clients
// that they refuse.
func (c *Config) ServerCredentials() (credentials.TransportCredentials, error) {
	f, err := c.serverFiles()
	if err != nil {
		return nil, err
	}
	return f.credentials(), nil
}

// serverFiles opens the files of a listener, which needs a certificate and can't speak TLS with a CA file alone.
func (c *Config) serverFiles() (*tlsFiles, error) {
	if c.TLSCA != "" && c.TLSCert == "" {
		return nil, fmt.Errorf("%s alone does not make a listener speak TLS: also give %s and %s", c.Flag("tls-ca"), c.Flag("tls-cert"), c.Flag("tls-key"))
	}
	return openFiles(*c)
}

// serverTLS returns the TLS settings of a server that use the current content of the files f for each handshake.
func serverTLS(f *tlsFiles) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         f.latest().server.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.latest().server, nil },
	}
}

// credentials returns gRPC credentials with the files; for a nil tlsFiles, plaintext.
func (f *tlsFiles) credentials() credentials.TransportCredentials {
	if f == nil {
		return insecure.NewCredentials()
	}
	return &tlsCredentials{files: f, name: f.config.TLSServerName, refusals: &RefusalLog{}}
}

// tlsCredentials are gRPC's TLS credentials that use the current content of the files for each handshake. Their errors say
// what to change.
type tlsCredentials struct {
	files    *tlsFiles
	name     string      // the name that a server's certificate must have; empty means the host of the authority
	refusals *RefusalLog // logs refused clients of a server
}

// ClientHandshake implements credentials.TransportCredentials: it does the client's TLS handshake. An error says which setting
// to change.
func (t *tlsCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	dialled := authority
	if t.name != "" {
		authority = t.name
	}
	conn, info, err := credentials.NewTLS(t.files.latest().client).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, t.files.config.explainClient(dialled, err)
	}
	if check := t.files.config.CheckServer; check != nil {
		if err := checkServer(info, check); err != nil {
			_ = conn.Close()
			return nil, nil, fmt.Errorf("connect to %s: %w", dialled, err)
		}
	}
	return t.files.config.explainReads(dialled, conn), info, nil
}

// checkServer calls check with the certificate of the server with which the handshake was made.
func checkServer(info credentials.AuthInfo, check func(*x509.Certificate) error) error {
	tls, ok := info.(credentials.TLSInfo)
	if !ok || len(tls.State.PeerCertificates) == 0 {
		return errors.New("the server has shown no certificate")
	}
	return check(tls.State.PeerCertificates[0])
}

// explainReads wraps a client's connection to the server at address. The wrapped Read explains a refusal that the server sends
// in place of its first data.
func (c *Config) explainReads(address string, conn net.Conn) net.Conn {
	return &handshakenConn{Conn: conn, explain: func(err error) error { return c.explainClient(address, err) }}
}

// handshakenConn is a client's connection whose TLS handshake is over on this side. In TLS 1.3 a server that refuses the
// client says so only after that, in place of its first data.
type handshakenConn struct {
	net.Conn
	explain     func(error) error // adds to an alert of the server which setting to change
	serverSpoke bool              // the server has sent data; owned by the goroutine that reads
}

// Read implements net.Conn. It explains an alert that comes in place of the first data.
func (s *handshakenConn) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.serverSpoke && err != nil && remoteAlert(err) != "" {
		err = errors.Join(s.explain(err)) // go-redis unwraps an error once, and would lose the explanation
	}
	s.serverSpoke = s.serverSpoke || n > 0
	return n, err
}

// ServerHandshake implements credentials.TransportCredentials. It logs each refused client, because gRPC does not log the
// returned error.
func (t *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Server(raw, t.files.latest().server)
	err := conn.HandshakeContext(context.Background()) // bounded by the deadline that gRPC has set on raw
	if err != nil {
		err = t.files.config.explainServer(err)
	} else if conn.ConnectionState().NegotiatedProtocol != "h2" {
		err = errors.New("the client does not ask for HTTP/2 (ALPN h2), which gRPC needs: it may not be a gRPC client")
	}
	if err != nil {
		t.refusals.Log(t.files.config.Log(), raw.RemoteAddr(), err)
		hangUp(raw)
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// hangUp ends the sending direction of a refused connection and waits until the client has ended too. Closing the connection
// at once would reset it, because the client is still sending, and a reset destroys the alert that says why the client is
// refused.
func hangUp(raw net.Conn) {
	defer raw.Close()
	if half, ok := raw.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if raw.SetReadDeadline(time.Now().Add(hangUpTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, raw, MaxHeaderBytes) // ends with an error when the client closes the connection, or at the deadline
	}
}

// Info implements credentials.TransportCredentials: it says that the connection is secured by TLS.
func (t *tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials: the copy uses the same files.
func (t *tlsCredentials) Clone() credentials.TransportCredentials {
	clone := *t
	return &clone
}

// OverrideServerName implements credentials.TransportCredentials; it always fails.
func (t *tlsCredentials) OverrideServerName(string) error {
	return errors.New("set the name that a server's certificate must have by Config.TLSServerName")
}

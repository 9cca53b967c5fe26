package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	dialTimeout   = 5 * time.Second // for one attempt to connect, handshake included
	hangUpTimeout = time.Second     // for a refused client to take notice
)

// ServerTLS is for listeners that are not gRPC servers. Nil without an error means plaintext.
func (c *Config) ServerTLS() (*tls.Config, error) {
	f, err := c.serverFiles()
	if f == nil {
		return nil, err
	}
	return serverTLS(f), nil
}

// ClientTLS is for libraries that dial by themselves. The certificate is reloaded, but the CA stays the one read now, since
// crypto/tls can't change it: where a library takes a dialer or gRPC credentials, give it Dialer or Credentials instead.
// Nil without an error means plaintext.
func (c *Config) ClientTLS() (*tls.Config, error) {
	f, err := openFiles(*c)
	if f == nil {
		return nil, err
	}
	config := f.latest().client.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.latest().shown(), nil }
	return config, nil
}

// Dialer connects and shakes hands; an attempt ends with ctx or after 5 s. It fits http.Transport's DialTLSContext and
// go-redis's Dialer. Without TLS files it connects in plaintext.
func (c *Config) Dialer() (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	f, err := openFiles(*c)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if f == nil {
			return dialer.DialContext(ctx, network, address)
		}
		conn, err := (&tls.Dialer{NetDialer: &dialer, Config: f.latest().client}).DialContext(ctx, network, address)
		if err != nil {
			return nil, f.config.explainClient(address, err)
		}
		return f.config.explainReads(address, conn), nil
	}, nil
}

// Credentials are for gRPC clients that are not made by Dial, such as etcd's.
func (c *Config) Credentials() (credentials.TransportCredentials, error) {
	f, err := openFiles(*c)
	if err != nil {
		return nil, err
	}
	return f.credentials(), nil
}

// ServerCredentials are for gRPC servers. What they refuse is logged.
func (c *Config) ServerCredentials() (credentials.TransportCredentials, error) {
	f, err := c.serverFiles()
	if err != nil {
		return nil, err
	}
	return f.credentials(), nil
}

// serverFiles are the files of a listener, which can't do with a CA alone.
func (c *Config) serverFiles() (*tlsFiles, error) {
	if c.TLSCA != "" && c.TLSCert == "" {
		return nil, fmt.Errorf("%s alone does not make a listener speak TLS: give %s and %s too", c.Flag("tls-ca"), c.Flag("tls-cert"), c.Flag("tls-key"))
	}
	return openFiles(*c)
}

func serverTLS(f *tlsFiles) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         f.latest().server.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.latest().server, nil },
	}
}

func (f *tlsFiles) credentials() credentials.TransportCredentials {
	if f == nil {
		return insecure.NewCredentials()
	}
	return &tlsCredentials{files: f, name: f.config.TLSServerName, refusals: &RefusalLog{}}
}

// tlsCredentials are gRPC's TLS, with what the files say at each handshake, and with errors that tell what to do.
type tlsCredentials struct {
	files    *tlsFiles
	name     string // to be found in the server's certificate; empty: the authority's host
	refusals *RefusalLog
}

func (t *tlsCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	dialled := authority
	if t.name != "" {
		authority = t.name
	}
	conn, info, err := credentials.NewTLS(t.files.latest().client).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, t.files.config.explainClient(dialled, err)
	}
	return t.files.config.explainReads(dialled, conn), info, nil
}

func (c *Config) explainReads(address string, conn net.Conn) net.Conn {
	return &handshakenConn{Conn: conn, explain: func(err error) error { return c.explainClient(address, err) }}
}

// shaken is a connection whose handshake is over on the client's side. What the server then refuses, as a client without a
// certificate, it says in place of its first word.
type handshakenConn struct {
	net.Conn
	explain     func(error) error
	serverSpoke bool // the server has; owned by the goroutine that reads
}

// Read implements net.Conn.
func (s *handshakenConn) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.serverSpoke && err != nil && remoteAlert(err) != "" {
		err = errors.Join(s.explain(err)) // of a chain, go-redis would throw the first link away
	}
	s.serverSpoke = s.serverSpoke || n > 0
	return n, err
}

// ServerHandshake logs what it refuses: gRPC, to which it returns the error, tells nobody.
func (t *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := tls.Server(raw, t.files.latest().server)
	err := conn.HandshakeContext(context.Background()) // bounded by the deadline that gRPC has set on raw
	if err != nil {
		err = t.files.config.explainServer(err)
	} else if conn.ConnectionState().NegotiatedProtocol != "h2" {
		err = errors.New("the client does not ask for HTTP/2 (ALPN h2), as gRPC does")
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

// hangUp ends what is sent and waits for the client to end too. Closing at once would reset the connection, since the
// client is still sending, and a reset destroys the alert that tells the client why.
func hangUp(raw net.Conn) {
	defer raw.Close()
	if half, ok := raw.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if raw.SetReadDeadline(time.Now().Add(hangUpTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, raw, MaxHeaderBytes) // ends in an error: the client's hanging up, or the deadline
	}
}

func (t *tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (t *tlsCredentials) Clone() credentials.TransportCredentials {
	clone := *t
	return &clone
}

func (t *tlsCredentials) OverrideServerName(string) error {
	return errors.New("the name that a certificate must have is set by Config.TLSServerName")
}

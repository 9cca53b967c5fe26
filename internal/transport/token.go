package transport

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TokenSource returns the token that a call carries. It is called for each call, by several goroutines at the same time, so it keeps what
// takes long to get.
type TokenSource func(context.Context) (string, error)

// TokenFile returns a source whose token stands in a file. The file is read again when a call is made, at most once a second, so that a new
// token is used without a restart.
func TokenFile(path string) TokenSource {
	f := &tokenFile{path: path}
	return func(context.Context) (string, error) { return f.token() }
}

// tokenFile keeps the token of a file current. Any goroutine may use it.
type tokenFile struct {
	path  string
	mu    sync.Mutex
	read  time.Time // guarded by mu: when the file was last read; zero means never
	value string    // guarded by mu
	wrong error     // guarded by mu: why the file can't be used
}

// token returns the token in the file, or why there is none.
func (f *tokenFile) token() (string, error) {
	f.mu.Lock()
	due := f.read.IsZero() || time.Since(f.read) >= recheck
	value, wrong := f.value, f.wrong
	f.mu.Unlock()
	if !due {
		return value, wrong
	}
	value, wrong = readToken(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.wrong, f.read = value, wrong, time.Now()
	return value, wrong
}

// readToken reads a file with one token. Space around the token is left out.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", batch.Errorf(batch.CodeUnauthenticated, "read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || token == "" {
		return "", batch.Errorf(batch.CodeUnauthenticated, "read the token: %s is not a file with one token in it", path)
	}
	return token, nil
}

// tokenCredentials adds the token to each call of a connection. They implement credentials.PerRPCCredentials.
type tokenCredentials struct {
	source    TokenSource
	plaintext bool // the token may go over any connection
}

// GetRequestMetadata implements credentials.PerRPCCredentials. It fails if the token would travel in the open to another machine.
func (c *tokenCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if info, ok := credentials.RequestInfoFromContext(ctx); !c.plaintext && (!ok || !private(info.AuthInfo)) {
		return nil, wire.Status(batch.Errorf(batch.CodeUnauthenticated,
			"the token was not sent, because the connection is not encrypted and does not stay on this machine: use TLS (--tls-ca), or allow it (--token-plaintext) where something else encrypts the connection"))
	}
	token, err := c.source(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	if token == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. GetRequestMetadata checks the connection, because gRPC itself would
// refuse connections within this machine, too.
func (c *tokenCredentials) RequireTransportSecurity() bool { return false }

// private reports whether nobody on a network can read what goes over a connection.
func private(info credentials.AuthInfo) bool {
	switch info.(type) {
	case credentials.TLSInfo, *credentials.TLSInfo, loopback:
		return true
	}
	return false
}

// loopback is the AuthInfo of a connection without TLS that stays on this machine.
type loopback struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (loopback) AuthType() string { return "loopback" }

// noteLoopback wraps the credentials of a client without TLS. It notes of a connection that it stays on this machine.
type noteLoopback struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (n noteLoopback) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", authority, err)
	}
	if at, ok := raw.RemoteAddr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		info = loopback{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	}
	return conn, info, nil
}

// Clone implements credentials.TransportCredentials.
func (n noteLoopback) Clone() credentials.TransportCredentials {
	return noteLoopback{n.TransportCredentials.Clone()}
}

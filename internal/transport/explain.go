package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// explainClient adds to the error of a failed TLS handshake with the server at address: the likely cause, and the setting to
// change.
func (c *Config) explainClient(address string, err error) error {
	if advice := c.certificateAdvice("the server's", err); advice != "" {
		return fmt.Errorf("connect to %s with TLS: %s: %w", address, advice, err)
	}
	var wrongName x509.HostnameError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &wrongName):
		return fmt.Errorf("connect to %s with TLS: the server's certificate is for another name: dial a name in the certificate, or give one with %s: %w",
			address, c.Flag("tls-server-name"), err)
	case errors.As(err, &notTLS):
		return fmt.Errorf("connect to %s with TLS: the server does not speak TLS: give it a certificate, or leave out %s and %s here: %w",
			address, c.Flag("tls-ca"), c.Flag("tls-cert"), err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("connect to %s with TLS: the server closed the connection during the handshake: perhaps it does not speak TLS, or has reached its --max-connections: %w", address, err)
	case remoteAlert(err) != "":
		return fmt.Errorf("connect to %s with TLS: %s: %w", address, c.alertAdvice(remoteAlert(err)), err)
	}
	return fmt.Errorf("connect to %s with TLS: %w", address, err)
}

// explainServer adds to the error of a failed TLS handshake with a client: the likely cause, and the setting to change.
func (c *Config) explainServer(err error) error {
	if advice := c.certificateAdvice("the client's", err); advice != "" {
		return fmt.Errorf("%s: %w", advice, err)
	}
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &notTLS):
		return fmt.Errorf("the client does not speak TLS: give it %s: %w", c.Flag("tls-ca"), err)
	case strings.Contains(err.Error(), "didn't provide a certificate"):
		return fmt.Errorf("the client shows no certificate: give it %s and %s: %w", c.Flag("tls-cert"), c.Flag("tls-key"), err)
	case remoteAlert(err) != "":
		return fmt.Errorf("the client refuses this server's certificate: the certificate must be valid, have the name that the client dials, and come from an authority in the client's %s: %w",
			c.Flag("tls-ca"), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the client closed the connection during the handshake: %w", err)
	}
	return err
}

// certificateAdvice says why a certificate that this process verified is wrong, and how to fix that. whose says whose
// certificate it is. It returns "" for an error that it does not know.
func (c *Config) certificateAdvice(whose string, err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		if c.TLSCA == "" {
			return fmt.Sprintf("%s certificate comes from an authority that this system does not trust: give the authority's file with %s", whose, c.Flag("tls-ca"))
		}
		return fmt.Sprintf("%s certificate comes from an authority that is not in %s (%s): add the authority to this file", whose, c.TLSCA, c.Flag("tls-ca"))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("%s certificate is valid only from %s to %s: renew it, or correct this machine's clock",
			whose, invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return whose + " certificate does not allow this use: it needs server and client authentication as extended key usage"
	}
	return ""
}

// remoteAlert returns the TLS alert with which the other side ended the handshake, or "" when err is not an alert.
func remoteAlert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// alertAdvice returns advice how to fix the cause of the TLS alert that a server sent.
func (c *Config) alertAdvice(alert string) string {
	if strings.Contains(alert, "certificate required") {
		return fmt.Sprintf("the server asks for a certificate: give one with %s and %s", c.Flag("tls-cert"), c.Flag("tls-key"))
	}
	return fmt.Sprintf("the server refuses this process's certificate (%s): the certificate must be valid and come from an authority in the server's %s", c.TLSCert, c.Flag("tls-ca"))
}

// hint adds advice to the error of a call over plaintext, when the server closed the connection before its first byte. A server
// that speaks only TLS does that. hint returns any other error unchanged.
func (c *Config) hint(err error) error {
	s, ok := status.FromError(err)
	if !ok || err == nil || c.TLSCA != "" || c.TLSCert != "" || !strings.Contains(s.Message(), "error reading server preface: ") {
		return err
	}
	hinted := s.Proto()
	hinted.Message = "the server closed the connection before it sent anything: perhaps it speaks only TLS, then give " + c.Flag("tls-ca") +
		", or it has reached its --max-connections: " + s.Message()
	return status.ErrorProto(hinted)
}

// hintUnary is the gRPC interceptor of calls with one request: it lets hint add advice to their errors.
func (c *Config) hintUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return c.hint(invoke(ctx, method, req, reply, cc, opts...))
}

// hintStream is the gRPC interceptor of streams: it lets hint add advice to the error of opening a stream.
func (c *Config) hintStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	return stream, c.hint(err)
}

// RefusalLog logs refused connections, at most one line in a second. Otherwise any process that can connect could fill the
// log. Its methods may be called concurrently.
type RefusalLog struct {
	mu     sync.Mutex
	last   time.Time // when a line was logged last; guarded by mu
	unsaid int       // refused connections since then, which have no line; guarded by mu
}

// Log logs that the connection from peer was refused because of err. If a line was logged less than a second ago, Log only
// counts the refusal; the next line has the count.
func (r *RefusalLog) Log(log hclog.Logger, peer net.Addr, err error) {
	r.mu.Lock()
	unsaid, now := r.unsaid, time.Now()
	if now.Sub(r.last) < time.Second {
		r.unsaid++
		r.mu.Unlock()
		return
	}
	r.last, r.unsaid = now, 0
	r.mu.Unlock()
	log.Warn("refused a connection", "peer", peer.String(), "error", err, "others_since_last_line", unsaid)
}

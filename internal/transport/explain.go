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

// explainClient says what a failed handshake with the server at address means, and what mends it.
func (c *Config) explainClient(address string, err error) error {
	if advice := c.certificateAdvice("the server's", err); advice != "" {
		return fmt.Errorf("connect to %s with TLS: %s: %w", address, advice, err)
	}
	var wrongName x509.HostnameError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &wrongName):
		return fmt.Errorf("connect to %s with TLS: the server's certificate is for another name: dial a name that it has, or give one as %s: %w",
			address, c.Flag("tls-server-name"), err)
	case errors.As(err, &notTLS):
		return fmt.Errorf("connect to %s with TLS: the server does not speak TLS: give it a certificate, or leave out %s and %s here: %w",
			address, c.Flag("tls-ca"), c.Flag("tls-cert"), err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("connect to %s with TLS: the server hung up during the handshake: it may not speak TLS, or have as many connections as its --max-connections allows: %w", address, err)
	case remoteAlert(err) != "":
		return fmt.Errorf("connect to %s with TLS: %s: %w", address, c.alertAdvice(remoteAlert(err)), err)
	}
	return fmt.Errorf("connect to %s with TLS: %w", address, err)
}

// explainServer says what a failed handshake with a client means, and what mends it.
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
		return fmt.Errorf("the client refuses this server's certificate: it must be valid, be for the name that the client dials, and come from the client's %s: %w",
			c.Flag("tls-ca"), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the client hung up before the handshake was over: %w", err)
	}
	return err
}

// certificateAdvice says what is wrong with a certificate that was verified here; empty: nothing that is known.
func (c *Config) certificateAdvice(whose string, err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		if c.TLSCA == "" {
			return fmt.Sprintf("%s certificate comes from an authority that this system does not trust: give its file as %s", whose, c.Flag("tls-ca"))
		}
		return fmt.Sprintf("%s certificate comes from an authority that is not in %s (%s): add it there", whose, c.TLSCA, c.Flag("tls-ca"))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("%s certificate is valid from %s to %s only: renew it, or set the clock right",
			whose, invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return whose + " certificate is not made for this use: it needs both server and client authentication as extended key usage"
	}
	return ""
}

// remoteAlert is the TLS alert with which the other side ended the handshake; empty for any other error.
func remoteAlert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

func (c *Config) alertAdvice(alert string) string {
	if strings.Contains(alert, "certificate required") {
		return fmt.Sprintf("the server asks for a certificate: give one with %s and %s", c.Flag("tls-cert"), c.Flag("tls-key"))
	}
	return fmt.Sprintf("the server refuses this process's certificate (%s): it must be valid and come from the server's %s", c.TLSCert, c.Flag("tls-ca"))
}

// hint adds to the error of a call that was made without TLS what may mend the connection behind it: a server that speaks
// TLS only hangs up without a word.
func (c *Config) hint(err error) error {
	s, ok := status.FromError(err)
	if !ok || err == nil || c.TLSCA != "" || c.TLSCert != "" || !strings.Contains(s.Message(), "error reading server preface: ") {
		return err
	}
	hinted := s.Proto()
	hinted.Message = "the server hung up before it said a word: it may speak TLS only, then give " + c.Flag("tls-ca") +
		", or have as many connections as its --max-connections allows: " + s.Message()
	return status.ErrorProto(hinted)
}

func (c *Config) hintUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return c.hint(invoke(ctx, method, req, reply, cc, opts...))
}

func (c *Config) hintStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	return stream, c.hint(err)
}

// Refusals logs refused connections, one a second: whoever can connect could fill the log otherwise.
type RefusalLog struct {
	mu     sync.Mutex
	last   time.Time // guarded by mu
	unsaid int       // guarded by mu: refused since, without a line
}

// Log logs a refused connection, unless another one was within the second.
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

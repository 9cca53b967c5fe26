package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// takesBytes is the longest message, in bytes, that a command takes from a coordinator. It is above the limits that coordinators have by
// default, because a command can't know how high a coordinator's limit is set, and a dead letter may be as long as that limit.
const takesBytes = 256 << 20

// server holds the flags by which a command reaches a coordinator: --server, --context, and those for TLS and tokens.
type server struct {
	address   string // one address, several with commas between them, or dns:///NAME
	transport transport.Config
	tokenFile string
	context   string         // the name of a context; empty means the current one
	flags     *pflag.FlagSet // the command's flags, which say what was given
}

// bind adds --server and the flags for TLS to cmd. The flags write into s.
func (s *server) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&s.address, "server", "localhost:7700", "`address` of a coordinator; several with commas between them, or dns:///NAME")
	serve.BindDialFlags(&s.transport, fs, "")
	fs.StringVar(&s.tokenFile, "token-file", "", "`file` with a token, by which the coordinators know you")
	fs.BoolVar(&s.transport.TokenPlaintext, "token-plaintext", false, "send the token without TLS to other machines, too, because something else encrypts the connection")
	fs.StringVar(&s.context, "context", "", "`name` of a context, which says what these flags don't (default: the current context, unless --server is given; kisgrid config sets it)")
	s.flags = fs
}

// resolve completes the flags by what the context says. Call it after the command line was parsed, before the flags are used.
func (s *server) resolve() error {
	if s.context != "" || !s.flags.Changed("server") {
		all, err := readContexts()
		if err != nil {
			return err
		}
		name := s.context
		if name == "" {
			name = all.Current
		}
		if name != "" {
			c, err := all.named(name)
			if err != nil {
				return err
			}
			for flag, value := range map[string]struct {
				to   *string
				from string
			}{
				"server": {&s.address, c.Server}, "tls-ca": {&s.transport.TLSCA, c.TLSCA}, "tls-cert": {&s.transport.TLSCert, c.TLSCert}, "tls-key": {&s.transport.TLSKey, c.TLSKey},
				"tls-server-name": {&s.transport.TLSServerName, c.TLSServerName}, "token-file": {&s.tokenFile, c.TokenFile},
			} {
				if !s.flags.Changed(flag) {
					*value.to = value.from
				}
			}
			if !s.flags.Changed("token-plaintext") {
				s.transport.TokenPlaintext = c.TokenPlaintext
			}
		}
	}
	if s.tokenFile != "" {
		s.transport.Token = transport.TokenFile(s.tokenFile)
	}
	return nil
}

// client dials as a client of the cluster, with the flags that resolve has completed and with more options.
func (s *server) client(retryFor time.Duration, more ...client.Option) (*client.Client, error) {
	t := &s.transport
	dial := append(more, client.WithTLSFiles(t.TLSCA, t.TLSCert, t.TLSKey), client.WithTLSServerName(t.TLSServerName), client.WithRetryFor(retryFor))
	if s.tokenFile != "" {
		dial = append(dial, client.WithTokenSource(client.TokenFile(s.tokenFile)))
	}
	if t.TokenPlaintext {
		dial = append(dial, client.WithTokenPlaintext())
	}
	return client.Dial(s.address, dial...)
}

// admin connects to a coordinator and calls f with a client of its Admin service. An error of f is returned with the coordinator's
// address, unless it is an ownError.
func (s *server) admin(f func(pb.AdminClient) error) error {
	if err := s.resolve(); err != nil {
		return err
	}
	return s.call(f)
}

// ownError is an error that a function given to server.admin found by itself, before it called a coordinator.
type ownError struct{ error }

// Unwrap returns the error itself.
func (e ownError) Unwrap() error { return e.error }

// call does the same as admin, with flags that are resolved already.
func (s *server) call(f func(pb.AdminClient) error) error {
	address, dial, err := transport.Resolve(s.address)
	if err != nil {
		return err
	}
	config := s.transport
	config.ProbeSilence = true
	conn, err := transport.Dial(address, config, append(dial, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(takesBytes)))...)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := wire.FromStatus(f(pb.NewAdminClient(conn))); err != nil {
		if own, ok := errors.AsType[ownError](err); ok {
			return own.error
		}
		return fmt.Errorf("%w (coordinator %s; --server or KISGRID_SERVER names another one)", err, s.address)
	}
	return nil
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// takesBytes is the longest message, in bytes, that a command takes from a coordinator. It is above the limits that coordinators have by
// default, because a command can't know how high a coordinator's limit is set, and a dead letter may be as long as that limit.
const takesBytes = 256 << 20

// server holds the flags by which a command reaches a coordinator: --server and those for TLS.
type server struct {
	address   string // one address, several with commas between them, or dns:///NAME
	transport transport.Config
}

// bind adds --server and the flags for TLS to cmd. The flags write into s.
func (s *server) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&s.address, "server", "localhost:7700", "`address` of a coordinator; several with commas between them, or dns:///NAME")
	serve.BindDialFlags(&s.transport, fs, "")
}

// admin connects to a coordinator and calls f with a client of its Admin service. An error of f is returned with the coordinator's
// address.
func (s *server) admin(f func(pb.AdminClient) error) error {
	address, dial, err := transport.Resolve(s.address)
	if err != nil {
		return err
	}
	s.transport.ProbeSilence = true
	conn, err := transport.Dial(address, s.transport, append(dial, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(takesBytes)))...)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := wire.FromStatus(f(pb.NewAdminClient(conn))); err != nil {
		return fmt.Errorf("%w (coordinator %s; --server or KISGRID_SERVER names another one)", err, s.address)
	}
	return nil
}

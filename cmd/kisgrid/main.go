// Command kisgrid is the command line of KisGrid: it shows, runs and operates clusters.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errTold) {
			fmt.Fprintln(os.Stderr, "kisgrid:", err)
		}
		stop()
		os.Exit(1)
	}
}

// errTold ends the program with exit code 1 where everything has been said already.
var errTold = errors.New("it has been told")

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kisgrid",
		Short: "Run flows of Go functions over rows, on a cluster",
		Long: `kisgrid shows, runs and operates KisGrid clusters.

  kisgrid demo                          a whole cluster in this process, and two flows that share data
  kisgrid dev                           the same cluster, until Ctrl-C
  kisgrid new DIR                       a project of your own, that builds and passes its test
  kisgrid apply -f DIR                  change flows, live
  kisgrid submit FLOW -f rows.ndjson    run rows through a flow
  kisgrid get flows                     what runs, and how far a change has come
  kisgrid dead list                     rows that could not be done; dead redrive runs them again`,
		SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
	}
	cmd.AddCommand(demoCommand(), devCommand(), newCommand(), applyCommand(), getCommand(), deleteCommand(), exportCommand(), rolloutCommand(), submitCommand(), deadCommand(), explainCommand(), lintCommand(), versionCommand())
	command.FromEnvironment(cmd)
	return cmd
}

// takesBytes is how many bytes of one message the cluster verbs take: more than any coordinator's limit by default. Which one's is
// higher they can't know, and a letter may be as long as that.
const takesBytes = 256 << 20

// server is how the cluster verbs reach a coordinator.
type server struct {
	address   string
	transport transport.Config
}

func (s *server) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&s.address, "server", "localhost:7700", "`address` of a coordinator; a list, or dns:///NAME, for several")
	serve.BindDialFlags(&s.transport, fs, "")
}

// admin calls f with a connection to a coordinator's Admin service.
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
		return fmt.Errorf("%w (coordinator %s; --server or KISGRID_SERVER names another)", err, s.address)
	}
	return nil
}

// output is a verb's -o.
type output struct{ format string }

func (o *output) bind(cmd *cobra.Command, formats string) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "`format`: "+formats+" (default: for people)")
}

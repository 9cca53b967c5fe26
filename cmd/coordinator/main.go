// Command coordinator takes batches from clients, shards them to workers, and decides with its peers which revision of each
// flow is active.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
)

type flags struct {
	listen, advertise, http string
	// listenElsewhere and httpElsewhere: where the port is in use, a free one will do.
	listenElsewhere, httpElsewhere bool
	etcd                           command.Etcd
	dead                           command.DeadLetters
	lease, drain, noWorker         time.Duration
	budget                         int64
	limits                         batch.Limits
	steps, txnOps                  int
	transport                      transport.Config
	logging                        command.Logging
	tracing                        command.Tracing
}

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "coordinator:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Take batches from clients and shard them to workers",
		Long: `coordinator is the process that clients and the kisgrid command speak to. It keeps the flow definitions in etcd, shards
batches of rows to the workers that have registered there, and answers when each row has its outcome. Run as many as you
like: any of them takes any client, and one of them, elected in etcd, decides which revision of a flow is active.

SIGTERM or SIGINT drains it: no new batches are taken, those under way end. A second signal cuts them off.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.listenElsewhere = !cmd.Flags().Changed("listen") && f.advertise == "" // which names the port
			f.httpElsewhere = !cmd.Flags().Changed("http")
			return f.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.listen, "listen", ":7700", "`address` for clients and the command line; if the default is in use, any free port")
	fs.StringVar(&f.advertise, "advertise", "", "`address` that others are told (default: --listen, with 127.0.0.1 where etcd is on this machine, else with this machine's first address)")
	fs.StringVar(&f.http, "http", ":7702", "`address` for /metrics, /livez and /readyz; empty for none; if the default is in use, any free port")
	f.etcd.BindFlags(fs)
	fs.DurationVar(&f.lease, "lease", cluster.DefaultTTL, "how long a worker that can't be reached is waited for")
	fs.DurationVar(&f.noWorker, "no-worker", 10*time.Second, "how long rows wait while no worker is ready for their flow; then they are failed")
	fs.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long a stop waits for rows under way")
	fs.Int64Var(&f.budget, "budget-bytes", 96<<20, "`bytes` of rows that clients may have under way together; each stream takes at least 512 KiB of it")
	fs.IntVar(&f.limits.RowBytes, "max-row-bytes", 1<<20, "limit for one row, in `bytes`")
	fs.IntVar(&f.limits.BatchRows, "max-batch-rows", 65536, "limit for one batch, in `rows`")
	fs.IntVar(&f.steps, "max-steps", coordinator.DefaultMaxSteps, "how many `steps` a flow's document may have to be taken in; one that was accepted before goes on")
	fs.IntVar(&f.txnOps, "max-txn-ops", cluster.DefaultMaxOperations, "how many `documents` one change may write, where it is not made in parts: no more than etcd's flag of this name")
	f.dead.BindFlags(fs)
	serve.BindFlags(&f.transport, fs)
	f.logging.BindFlags(fs)
	f.tracing.BindFlags(fs)
	command.FromEnvironment(cmd)
	return cmd
}

// leastTxnOps is how many operations the coordinator needs for what it writes in one transaction for itself.
const leastTxnOps = 8

func (f *flags) run(ctx context.Context, errs io.Writer) error {
	log, err := f.logging.Logger("coordinator", errs)
	if err != nil {
		return err
	}
	f.transport.Logger = log.Named("transport")
	f.limits.BatchBytes = f.transport.BatchBytes
	provider, endTraces, err := f.tracing.Open(ctx, "kisgrid-coordinator", log.Named("tracing"))
	if err != nil {
		return err
	}
	defer endTraces()
	if f.txnOps < leastTxnOps {
		return fmt.Errorf("--max-txn-ops %d: give what etcd's --max-txn-ops is, 128 where nobody sets it, and %d at the least", f.txnOps, leastTxnOps)
	}
	etcd, err := f.etcd.Config(log.Named("etcd"))
	if err != nil {
		return err
	}
	etcd.MaxOperations = f.txnOps
	store, err := cluster.Open(etcd)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Warn("close etcd", "error", err)
		}
	}()
	letters, err := f.dead.Open()
	if err != nil {
		return err
	}
	if letters != nil {
		defer letters.Close()
	}
	listener, err := serve.ListenNear(ctx, f.listen, f.listenElsewhere, log)
	if err != nil {
		return err
	}
	advertise, err := serve.Advertised(f.advertise, f.listen, listener.Addr(), f.etcd.Endpoints)
	if err != nil {
		return err
	}
	config := coordinator.Config{
		Store: store, Listener: listener, Advertise: advertise, Transport: f.transport, Lease: f.lease, NoWorker: f.noWorker,
		Limits: f.limits, MaxSteps: f.steps, Budget: f.budget, DeadLetters: letters, Build: command.Build(), Logger: log, Tracing: provider,
	}
	if f.http != "" {
		if config.HTTP, err = serve.ListenNear(ctx, f.http, f.httpElsewhere, log); err != nil {
			return fmt.Errorf("metrics: %w (--http \"\" serves none)", err)
		}
	}
	c, err := coordinator.New(config)
	if err != nil {
		return err
	}
	command.LimitHeap(c.Budgets())
	log.Info("starting", "id", c.ID(), "listen", listener.Addr(), "advertise", advertise, "http", address(config.HTTP), "etcd", f.etcd.Endpoints)
	return command.Serve(ctx, c, f.drain, log)
}

func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

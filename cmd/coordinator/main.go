// Command coordinator is the process of a coordinator. It takes batches of rows from clients, shards the rows to workers, and answers with
// their outcomes. One of the coordinators, the leader, decides which revision of each flow is active. The work is done in package
// pkg/coordinator; this command reads the flags, opens etcd, the store of dead letters and the listeners, and serves until SIGTERM.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
)

// flags are the values of the command line's flags.
type flags struct {
	listen, advertise, http string
	httpHosts               []string
	httpBase                string
	// listenElsewhere and httpElsewhere say that another free port may be used if the default port is in use, because no flag names a port.
	listenElsewhere, httpElsewhere bool
	etcd                           command.Etcd
	dead                           command.DeadLetters
	lease, drain, noWorker         time.Duration
	budget                         int64
	limits                         batch.Limits
	steps, txnOps                  int
	access                         string
	accessPlaintext, refuseDirect  bool
	transport                      transport.Config
	pprof                          bool
	logging                        command.Logging
	tracing                        command.Tracing
}

// main runs the command. After an error it prints the error and exits with its code: see command.ExitCode.
func main() {
	if cmd, err := root().ExecuteC(); err != nil {
		command.Report(os.Stderr, "coordinator", cmd, err)
		os.Exit(command.ExitCode(err))
	}
}

// root makes the command coordinator with its flags. A flag that is not given is taken from its environment variable, if that is set.
func root() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Take batches from clients and shard them to workers",
		Long: `coordinator is the server for clients and for the command kisgrid. It finds flow definitions and workers in etcd, shards the rows of
each batch to workers, and answers when each row has its outcome. You can run any number of coordinators: each takes any client. One
of them, which etcd elects as the leader, decides which revision of a flow is active.

SIGTERM or SIGINT drains the coordinator: it takes no new batches, and ends when the batches under way have ended, or after
--drain-timeout. A second signal ends it at once.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuse(cmd.Flags()); err != nil {
				return err
			}
			f.listenElsewhere = !cmd.Flags().Changed("listen") && f.advertise == "" // --advertise would name the default port
			f.httpElsewhere = !cmd.Flags().Changed("http")
			return f.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.listen, "listen", ":7700", "`address` for clients and the command kisgrid; where the default is in use, a free port")
	fs.StringVar(&f.advertise, "advertise", "", "`address` that others connect to (default: --listen, with the host 127.0.0.1 where etcd is on this machine, else with this machine's first address)")
	fs.StringVar(&f.http, "http", ":7702", "`address` for the console, rows over HTTP, /metrics, /livez and /readyz; empty means that they are not served; where the default is in use, a free port")
	fs.StringSliceVar(&f.httpHosts, "http-hosts", nil, "further `names` of this coordinator that HTTP requests may have in their Host header; * allows all")
	fs.StringVar(&f.httpBase, "http-base", "", "`path`, such as /a/b, below which --http serves its pages, too: for a proxy that leaves paths as they are")
	f.etcd.BindFlags(fs)
	fs.DurationVar(&f.lease, "lease", cluster.DefaultTTL, "how long a worker that can't be reached is believed to live")
	fs.DurationVar(&f.noWorker, "no-worker", 10*time.Second, "how long rows wait for a worker that can run their flow; then they are failed")
	fs.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long a drain waits for batches under way")
	fs.Int64Var(&f.budget, "budget-bytes", 96<<20, "`bytes` of rows that all clients together may have under way; each stream takes at least 512 KiB of it")
	fs.IntVar(&f.limits.RowBytes, "max-row-bytes", 1<<20, "most `bytes` of one row")
	fs.IntVar(&f.limits.BatchRows, "max-batch-rows", 65536, "most `rows` of one batch")
	fs.IntVar(&f.steps, "max-steps", coordinator.DefaultMaxSteps, "most `steps` of a new document of a flow; an accepted document with more steps goes on running")
	fs.IntVar(&f.txnOps, "max-txn-ops", cluster.DefaultMaxOperations, "most `documents` that one transaction writes: no more than etcd's --max-txn-ops")
	f.dead.BindFlags(fs)
	serve.BindFlags(&f.transport, fs)
	fs.StringVar(&f.access, "access-file", "", "`file` that says who may do what, and which processes are coordinators and workers (default: everybody who can connect may do everything)")
	fs.BoolVar(&f.accessPlaintext, "access-plaintext", false, "take tokens also without TLS from other machines, because something else encrypts the connections")
	fs.BoolVar(&f.refuseDirect, "refuse-direct-changes", false, "refuse documents that somebody writes or deletes in etcd, and not through a coordinator")
	fs.BoolVar(&f.pprof, "pprof", false, "serve profiles below /debug/pprof/ of --http, for who can reach that port")
	f.logging.BindFlags(fs)
	f.tracing.BindFlags(fs)
	command.FromEnvironment(cmd)
	return cmd
}

// refuse returns an error if a flag has a value with which no coordinator can work.
func refuse(fs *pflag.FlagSet) error {
	if err := command.Positive(fs, "lease", "budget-bytes", "max-row-bytes", "max-batch-rows", "max-batch-bytes", "max-steps", "max-connections", "max-calls", "max-receive-bytes"); err != nil {
		return err
	}
	return command.NotNegative(fs, "no-worker", "drain-timeout", "max-connections-per-address")
}

// leastTxnOps is the number of operations of the largest transaction that the coordinator makes for itself, such as for its key in etcd.
const leastTxnOps = 8

// run opens etcd, the store of dead letters and the listeners, and runs the coordinator until the process gets SIGTERM or SIGINT. The
// log goes to errs.
func (f *flags) run(ctx context.Context, errs io.Writer) error {
	log, err := f.logging.Logger("coordinator", errs)
	if err != nil {
		return err
	}
	f.logging.TakeOver(log)
	f.transport.Logger = log.Named("transport")
	f.limits.BatchBytes = f.transport.BatchBytes
	provider, endTraces, err := f.tracing.Open(ctx, "kisgrid-coordinator", log.Named("tracing"))
	if err != nil {
		return err
	}
	defer endTraces()
	if f.txnOps < leastTxnOps {
		return fmt.Errorf("--max-txn-ops %d: give the value of etcd's --max-txn-ops, whose default is 128, and at least %d", f.txnOps, leastTxnOps)
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
	listener, err := serve.ListenNear(ctx, nil, f.listen, f.listenElsewhere, log)
	if err != nil {
		return err
	}
	advertise, err := serve.Advertised(nil, f.advertise, f.listen, listener.Addr(), f.etcd.Endpoints)
	if err != nil {
		return err
	}
	config := coordinator.Config{
		Store: store, Listener: listener, Advertise: advertise, Transport: f.transport, AccessFile: f.access, AccessPlaintext: f.accessPlaintext, RefuseDirect: f.refuseDirect, Lease: f.lease, NoWorker: f.noWorker,
		Limits: f.limits, MaxSteps: f.steps, Budget: f.budget, DeadLetters: letters, HTTPHosts: f.httpHosts, HTTPBase: f.httpBase, Build: command.Build(), Profiles: f.pprof, Logger: log, Tracing: provider,
	}
	if f.http != "" {
		if config.HTTP, err = serve.ListenNear(ctx, nil, f.http, f.httpElsewhere, log); err != nil {
			return fmt.Errorf("serve metrics: %w (--http \"\" serves no metrics)", err)
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

// address returns the address of a listener; "" if l is nil.
func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

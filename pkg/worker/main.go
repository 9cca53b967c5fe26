package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Main is the whole main function of a worker program. It runs the program's command line with the functions that register
// adds to the registry, and ends the process.
//
//	func main() { worker.Main(students.Register) }
func Main(register func(*kis.Registry)) {
	os.Exit(execute(register, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// errAlreadyPrinted ends a command with exit status 1 without printing an error. Commands return it when their output has
// explained the failure.
var errAlreadyPrinted = errors.New("told already")

// execute runs one command line and returns the exit status.
func execute(register func(*kis.Registry), args []string, in io.Reader, out, errs io.Writer) int {
	name := filepath.Base(args[0])
	cmd := rootCommand(name, register)
	cmd.SetArgs(args[1:])
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	err := cmd.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errAlreadyPrinted):
		fmt.Fprintf(errs, "%s: %v\n", name, err)
	}
	return 1
}

// rootCommand makes the command line of a worker program: the commands "serve", "lint" and "run". Without a command the
// program serves.
func rootCommand(name string, register func(*kis.Registry)) *cobra.Command {
	var s serveFlags
	cmd := &cobra.Command{
		Use:   name,
		Short: "Run the functions of flows for a KisGrid cluster",
		Long: name + ` is a worker: it runs flows, chains of the Go functions that are built into it, for a KisGrid cluster. Without a command it
serves. It finds the cluster through etcd, registers there under its name, and waits for coordinators to dial it and to
send flow definitions and rows. Start as many as you like: rows are shared out among them.

Try a flow without any cluster with "run", and check your documents with "lint".

SIGTERM or SIGINT drains it: rows that have not begun go back, those under way end, results are delivered. A second signal
cuts it off; what that leaves undone runs again on other workers.`,
		Example: "  " + name + " --etcd etcd-0:2379,etcd-1:2379 --advertise $(hostname -i):7701\n" +
			"  " + name + " lint ./conf\n" +
			"  " + name + " run ./conf CalStuAvgScore12 -f rows.ndjson",
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
		RunE: s.run(register),
	}
	serve := &cobra.Command{
		Use: "serve", Short: "Serve the cluster (what " + name + " does without a command)",
		Args: cobra.NoArgs, RunE: s.run(register),
	}
	s.bind(cmd.Flags())
	s.bind(serve.Flags())
	cmd.AddCommand(serve, lintCommand(register), runCommand(register))
	cmd.CompletionOptions.HiddenDefaultCmd = true
	command.FromEnvironment(cmd)
	return cmd
}

// serveFlags has the values of the flags with which a worker serves a cluster.
type serveFlags struct {
	config  Config
	etcd    command.Etcd
	access  command.DocumentAccess
	logging command.Logging
	tracing command.Tracing
	drain   time.Duration // how long the first signal waits for running rows before it cuts them off
}

// bind adds the flags of serving to a flag set. The flags write into s.
func (s *serveFlags) bind(fs *pflag.FlagSet) {
	c := &s.config
	fs.SortFlags = false
	fs.StringVar(&c.Name, "name", "", "`name` that outlives the process: rows are shared out by it; no other worker may have it (default: the address that is advertised)")
	fs.StringVar(&c.Listen, "listen", ":7701", "`address` for coordinators; if the default is in use, any free port")
	fs.StringVar(&c.Advertise, "advertise", "", "`address` that coordinators dial (default: --listen, with 127.0.0.1 where etcd is on this machine, else with this machine's first address)")
	fs.StringVar(&c.HTTP, "http", ":7702", "`address` for /metrics, /healthz, /livez and /readyz; empty for none; if the default is in use, any free port")
	s.etcd.BindFlags(fs)
	fs.DurationVar(&c.Lease, "lease", cluster.DefaultTTL, "how long the cluster waits for a worker that says nothing, and the worker for a coordinator")
	fs.Int64Var(&c.MemoryBudget, "memory-budget", 64<<20, "`bytes` of rows and results that the worker holds and lets coordinators send")
	fs.Int64Var(&c.RowBudget, "row-budget", 256<<10, "the same in `rows`")
	fs.DurationVar(&s.drain, "drain-timeout", 30*time.Second, "how long a stop waits for rows under way")
	fs.IntVar(&c.Limits.BatchRows, "max-batch-rows", 65536, "limit for one batch, in `rows`")
	serve.BindFlags(&c.Transport, fs)
	s.access.BindFlags(fs)
	s.logging.BindFlags(fs)
	s.tracing.BindFlags(fs)
}

// run returns the function of the commands that serve: it makes a Worker out of the flags and runs it until a signal ends it.
func (s *serveFlags) run(register func(*kis.Registry)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		log, err := s.logging.Logger("worker", cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		c := s.config
		registry := kis.NewRegistry()
		register(registry)
		c.Registry, c.Build, c.Logger = registry, command.Build(), log
		c.Limits.BatchBytes = c.Transport.BatchBytes
		c.Documents = s.access.Access(cmd.Flags())
		c.ListenElsewhere = !cmd.Flags().Changed("listen") && c.Advertise == "" // which names the port
		c.HTTPElsewhere = !cmd.Flags().Changed("http")
		if c.Etcd, err = s.etcd.Config(log.Named("etcd")); err != nil {
			return err
		}
		provider, endTraces, err := s.tracing.Open(cmd.Context(), "kisgrid-worker", log.Named("tracing"))
		if err != nil {
			return err
		}
		defer endTraces()
		c.Tracing = provider
		w, err := New(c)
		if err != nil {
			return err
		}
		command.FollowHeap(c.MemoryBudget)
		warnOfMemory(log, command.ReadCgroup(), c.MemoryBudget)
		return command.Serve(cmd.Context(), w, s.drain, log)
	}
}

// besideBudget is the memory in bytes that a worker needs besides its budget, without the data that functions keep.
const besideBudget = 96 << 20

// warnOfMemory logs a warning when the operating system has killed processes of this control group for their use of memory,
// and when the group's limit is below the memory that the budget may need. Coordinators can't see either.
func warnOfMemory(log hclog.Logger, of command.Cgroup, budget int64) {
	if of.Kills > 0 {
		log.Warn("the system has killed processes here for their memory: raise the limit, lower --memory-budget, or let functions keep less",
			"kills", of.Kills, "limit", of.Limit)
	}
	if of.Limit > 0 && of.Limit < budget+besideBudget {
		log.Warn("the system's limit of memory is below what the budget may come to: raise it, or lower --memory-budget",
			"limit", of.Limit, "budget", budget, "needed", budget+besideBudget)
	}
}

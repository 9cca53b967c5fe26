package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/flowcmd"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Main is the whole main function of a worker program. It runs the program's command line with the functions that register
// adds to the registry, and ends the process.
//
//	func main() { worker.Main(students.Register) }
func Main(register func(*kis.Registry)) {
	os.Exit(executeAs(rootCommand(filepath.Base(os.Args[0]), register, true), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line in a process that has other work, too, and returns the exit status. args begins with the name of the program.
func execute(register func(*kis.Registry), args []string, in io.Reader, out, errs io.Writer) int {
	return executeAs(rootCommand(filepath.Base(args[0]), register, false), args, in, out, errs)
}

// executeAs runs one command line of cmd and returns the exit status: see flowcmd.ExitStatus.
func executeAs(cmd *cobra.Command, args []string, in io.Reader, out, errs io.Writer) int {
	cmd.SetArgs(flowcmd.Arguments(args[1:]))
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	ran, err := cmd.ExecuteContextC(context.Background())
	if err != nil && !errors.Is(err, flowcmd.ErrReported) {
		command.Report(terminal.NewWriter(errs), cmd.Name(), ran, err)
	}
	return flowcmd.ExitStatus(err)
}

// rootCommand makes the command line of a worker program: the commands "serve", "lint", "run" and "test". Without a command the
// program serves. ownsProcess says that the process has nothing else to do, so that the loggers of its libraries may be set.
func rootCommand(name string, register func(*kis.Registry), ownsProcess bool) *cobra.Command {
	s := serveFlags{ownsProcess: ownsProcess}
	cmd := &cobra.Command{
		Use:   name,
		Short: "Run the functions of flows for a KisGrid cluster",
		Long: name + ` is a worker of a KisGrid cluster. It runs flows, which are chains of the Go functions that are built into this program.

Without a command it serves the cluster: it registers in etcd under its name, and coordinators then dial it and send it flow
definitions and rows. You can start any number of workers; the rows are divided among them.

The command "run" runs a flow without a cluster, "test" runs the test files beside your documents, and "lint" checks the documents.

SIGTERM or SIGINT drains the worker: rows that have not begun go back to their coordinators, running rows end, and their results are
delivered. A second signal cuts the running rows off; they run again on other workers.`,
		Example: "  " + name + " --etcd etcd-0:2379,etcd-1:2379 --advertise $(hostname -i):7701\n" +
			"  " + name + " lint ./conf\n" +
			"  " + name + " run ./conf CalStuAvgScore12 -f rows.ndjson\n" +
			"  " + name + " test ./conf",
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
		RunE: s.run(register),
	}
	serve := &cobra.Command{
		Use: "serve", Short: "Serve the cluster (what " + name + " does without a command)",
		Args: cobra.NoArgs, RunE: s.run(register),
	}
	s.bind(cmd.Flags())
	s.bind(serve.Flags())
	cmd.AddCommand(serve, flowcmd.Lint(register), flowcmd.Run(register), flowcmd.Test(register))
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
	generic bool          // register no Go functions
	drain   time.Duration // how long the first signal waits for running rows before it cuts them off

	ownsProcess bool // the process does nothing else, so the loggers of its libraries may be set
}

// bind adds the flags of a serving worker to the flag set fs. Parsing the flags writes their values into s.
func (s *serveFlags) bind(fs *pflag.FlagSet) {
	c := &s.config
	fs.SortFlags = false
	fs.StringVar(&c.Name, "name", "", "`name` of the worker, by which rows are assigned to it; keep it over restarts, and give each worker another one (default: the advertised address)")
	fs.StringVar(&c.Listen, "listen", ":7701", "`address` on which coordinators reach the worker; when the default port is in use, a free port is taken")
	fs.StringVar(&c.Advertise, "advertise", "", "`address` that is registered in etcd for coordinators to dial (default: --listen, on 127.0.0.1 when etcd is on this machine, else on this machine's first address)")
	fs.StringVar(&c.HTTP, "http", ":7702", "`address` of the pages /metrics, /healthz, /livez and /readyz; empty: no pages; when the default port is in use, a free port is taken")
	s.etcd.BindFlags(fs)
	fs.DurationVar(&c.Lease, "lease", cluster.DefaultTTL, "how long the cluster waits for a silent worker before it counts it as dead, and how long the worker keeps the rows of a coordinator that is away")
	fs.Int64Var(&c.MemoryBudget, "memory-budget", 64<<20, "limit for the rows and results that the worker holds, and for rows that it lets coordinators send, in `bytes`")
	fs.Int64Var(&c.RowBudget, "row-budget", 256<<10, "the same limit as --memory-budget, in `rows`")
	fs.DurationVar(&s.drain, "drain-timeout", 30*time.Second, "how long a stop waits until running rows have ended and their results are delivered")
	fs.IntVar(&c.Limits.BatchRows, "max-batch-rows", 65536, "limit for one batch, in `rows`; use the same value for coordinators and workers")
	fs.BoolVar(&s.generic, "generic", false, "register none of the program's Go functions: the worker runs flows whose functions are all made of their documents, such as expressions")
	serve.BindFlags(&c.Transport, fs)
	fs.StringVar(&c.AccessFile, "access-file", "", "`file` that lists the certificates of coordinators; the worker then takes sessions from no others (default: from everybody who can connect)")
	fs.BoolVar(&c.Profiles, "pprof", false, "serve profiles below /debug/pprof/ of --http, for who can reach that port")
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
		if err := command.Positive(cmd.Flags(), "lease", "memory-budget", "row-budget", "max-batch-rows", "max-batch-bytes", "max-connections", "max-calls", "max-receive-bytes"); err != nil {
			return err
		}
		if err := command.NotNegative(cmd.Flags(), "drain-timeout", "max-connections-per-address"); err != nil {
			return err
		}
		if s.ownsProcess {
			s.logging.TakeOver(log)
		}
		c := s.config
		registry := kis.NewRegistry()
		if !s.generic {
			register(registry)
		}
		c.Registry, c.Build, c.Logger = registry, command.Build(), log
		c.Limits.BatchBytes = c.Transport.BatchBytes
		c.Documents = s.access.Access(cmd.Flags())
		c.ListenElsewhere = !cmd.Flags().Changed("listen") && c.Advertise == "" // an advertised address needs the port that it names
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
// and another when the group's limit is below the memory that the budget, in bytes, may need. No coordinator can know these
// facts.
func warnOfMemory(log hclog.Logger, of command.Cgroup, budget int64) {
	if of.Kills > 0 {
		log.Warn("the operating system has killed processes in this container for their use of memory: raise the container's limit, lower --memory-budget, or let functions keep less data",
			"kills", of.Kills, "limit", of.Limit)
	}
	if of.Limit > 0 && of.Limit < budget+besideBudget {
		log.Warn("the container's memory limit is too low for the memory budget: raise the limit, or lower --memory-budget",
			"limit", of.Limit, "budget", budget, "needed", budget+besideBudget)
	}
}

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FromEnvironment makes every flag of root and its subcommands fall back to an environment variable, when the command line
// does not give the flag. The variable of --log-level is KISGRID_LOG_LEVEL. Call it once, on the root command, after all flags
// are added. It also adds a sentence about this to the help text of root.
func FromEnvironment(root *cobra.Command) {
	before := root.PersistentPreRunE
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		var failed []error
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			value, there := os.LookupEnv(environmentName(f.Name))
			if f.Changed || !there || f.Name == "help" {
				return
			}
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				failed = append(failed, fmt.Errorf("read the environment variable %s: %w", environmentName(f.Name), err))
			}
		})
		if err := errors.Join(failed...); err != nil {
			return err
		}
		if before != nil {
			return before(cmd, args)
		}
		return nil
	}
	root.Long = strings.TrimSpace(root.Long) + "\n\nA flag that is not given takes its value from the environment variable KISGRID_<FLAG>, in capitals and with underscores: " +
		"--log-level from KISGRID_LOG_LEVEL."
}

// environmentName returns the environment variable of a flag.
func environmentName(flag string) string {
	return "KISGRID_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Logging has the flags of a program's log.
type Logging struct {
	// Level is trace, debug, info, warn, error or off.
	Level string
	// Format is text or json.
	Format string
}

// BindFlags adds --log-level and --log-format. The default of --log-level is the value that Level has before the call, or info.
func (l *Logging) BindFlags(fs *pflag.FlagSet) {
	if l.Level == "" {
		l.Level = "info"
	}
	fs.StringVar(&l.Level, "log-level", l.Level, "least `level` that is logged: trace, debug, info, warn, error or off")
	fs.StringVar(&l.Format, "log-format", "text", "`format` of the log: text or json")
}

// Logger makes the program's logger, which has this name and writes to out. An error says which flag has a wrong value.
func (l *Logging) Logger(name string, out io.Writer) (hclog.Logger, error) {
	level := hclog.LevelFromString(l.Level)
	if level == hclog.NoLevel {
		return nil, fmt.Errorf("--log-level %q: give trace, debug, info, warn, error or off", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		return nil, fmt.Errorf("--log-format %q: give text or json", l.Format)
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: level, Output: out, JSONFormat: l.Format == "json", TimeFormat: time.RFC3339Nano, TimeFn: time.Now}), nil
}

// Service is a process that serves until it is stopped: a coordinator or a worker.
type Service interface {
	// Run serves until ctx is done, or until Drain has finished.
	Run(ctx context.Context) error
	// Drain lets running work end, and then ends Run. When ctx is done first, it cuts the work off.
	Drain(ctx context.Context) error
}

// Serve runs a service until it ends. The first SIGTERM or SIGINT drains the service, at most for the time drain; a second
// signal cuts it off. Serve returns the error of Run.
//
//	running ──signal──► draining ──drained, or time over──► ended
//	                       └──────second signal──► cut off ──► ended
func Serve(ctx context.Context, s Service, drain time.Duration, log hclog.Logger) error {
	SteadyHeap()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	select {
	case err := <-ran:
		return err
	case got := <-signals:
		log.Info("stopping; a second signal cuts off the running work", "signal", got.String(), "timeout", drain)
	}
	draining, stop := context.WithTimeout(ctx, drain)
	defer stop()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(draining) }()
	select {
	case <-signals:
		log.Warn("cut off by a second signal")
		cancel()
	case err := <-drained:
		if err != nil {
			log.Warn("the running work did not end in time and was cut off", "error", err)
		}
		return <-ran
	}
	<-drained //nolint:errcheck // the service was cut off on purpose, so its error says nothing new
	return <-ran
}

// Package command is what the project's programs have in common on the command line: flags that fall back to the
// environment, logging, and the two stops.
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

// FromEnvironment lets every flag of the command and its children that the command line does not give fall back to
// KISGRID_<FLAG>, dashes as underscores. Call it once, on the root, after all flags are bound.
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
				failed = append(failed, fmt.Errorf("environment variable %s: %w", environmentName(f.Name), err))
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
	root.Long = strings.TrimSpace(root.Long) + "\n\nEvery flag falls back to the environment variable KISGRID_<FLAG>, in capitals and with underscores: " +
		"--log-level is KISGRID_LOG_LEVEL."
}

func environmentName(flag string) string {
	return "KISGRID_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Logging is how a program logs.
type Logging struct {
	// Level is trace, debug, info, warn, error or off.
	Level string
	// Format is text or json.
	Format string
}

// BindFlags binds --log-level, by default l.Level or info, and --log-format.
func (l *Logging) BindFlags(fs *pflag.FlagSet) {
	if l.Level == "" {
		l.Level = "info"
	}
	fs.StringVar(&l.Level, "log-level", l.Level, "trace, debug, info, warn, error or off")
	fs.StringVar(&l.Format, "log-format", "text", "text or json")
}

// Logger makes the program's logger.
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

// Service is a process that serves until it is stopped.
type Service interface {
	// Run serves until ctx is done, or Drain is over.
	Run(ctx context.Context) error
	// Drain lets what is under way end, and ends Run.
	Drain(ctx context.Context) error
}

// Serve runs the service. The first SIGTERM or SIGINT drains it, for drain at the longest; a second one cuts it off.
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
		log.Info("stopping; a second signal cuts off what is under way", "signal", got.String(), "timeout", drain)
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
			log.Warn("what was under way did not end in time and was cut off", "error", err)
		}
		return <-ran
	}
	<-drained //nolint:errcheck // cut off: it has nothing to tell
	return <-ran
}

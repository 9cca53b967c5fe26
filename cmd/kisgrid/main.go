package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/flowcmd"
)

// main runs the command that the arguments name. Ctrl-C and SIGTERM end its context. Every failure ends with exit code 1, but for test, which
// ends with 2 when it could run nothing.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd := root()
	cmd.SetArgs(flowcmd.Arguments(os.Args[1:]))
	if err := cmd.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "kisgrid:", err)
		}
		stop()
		os.Exit(flowcmd.ExitStatus(err))
	}
}

// errReported ends the program with exit code 1 without a message. A command returns it when it has already printed the reason.
var errReported = flowcmd.ErrReported

// root makes the command kisgrid with all of its subcommands.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kisgrid",
		Short: "Run flows of Go functions over rows, on a cluster",
		Long: `kisgrid shows, runs and operates KisGrid clusters.

  kisgrid demo                          run a whole cluster in this process, and two flows that share data
  kisgrid dev                           run the same cluster until Ctrl-C
  kisgrid new DIR                       write a Go project that builds and passes its test; with --no-go, one without Go
  kisgrid test DIR                      run the tests of flows, which stand beside the documents
  kisgrid apply -f DIR                  change flows while they run
  kisgrid submit FLOW -f rows.ndjson    run rows through a flow
  kisgrid get flows                     show which flows run, and how far a change has come
  kisgrid dead list                     list the rows that failed for good; dead redrive runs them again

Each subcommand has its own --help. A flag such as --server can also be set in the environment, as KISGRID_SERVER.`,
		SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
	}
	cmd.AddCommand(demoCommand(), devCommand(), newCommand(), applyCommand(), getCommand(), deleteCommand(), exportCommand(), rolloutCommand(), submitCommand(), deadCommand(), explainCommand(), runCommand(), testCommand(), lintCommand(), evalCommand(), schemaCommand(), versionCommand())
	command.FromEnvironment(cmd)
	return cmd
}

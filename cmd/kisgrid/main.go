package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/flowcmd"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// main runs the command that the arguments name, and ends with the exit code of its error: see flowcmd.ExitStatus. Ctrl-C and SIGTERM end its
// context; a second signal ends the program at once.
func main() {
	ctx, stop := command.Interruptible(context.Background())
	out, log := terminal.NewWriter(os.Stdout), terminal.NewWriter(os.Stderr)
	cmd := root()
	cmd.SetArgs(flowcmd.Arguments(os.Args[1:]))
	cmd.SetOut(out)
	cmd.SetErr(log)
	err := cmd.ExecuteContext(ctx)
	code := exitStatus(err)
	interrupted := ctx.Err() != nil && (errors.Is(err, context.Canceled) || batch.CodeOf(err) == batch.CodeCancelled)
	switch {
	case interrupted:
		code = command.ExitInterrupted
		fmt.Fprintln(log, "kisgrid: interrupted")
	case err != nil && !errors.Is(err, errReported):
		fmt.Fprintln(log, "kisgrid:", err)
	}
	stop()
	os.Exit(code)
}

// errReported ends the program with exit code 1 without a message. A command returns it when it has already printed the reason.
var errReported = flowcmd.ErrReported

// exitStatus returns the exit code of a command that ended with err: see flowcmd.ExitStatus. An error of diff gives 2, because 1 means that
// something differs.
func exitStatus(err error) int {
	if _, ok := errors.AsType[noComparison](err); ok && flowcmd.ExitStatus(err) == 1 {
		return command.ExitUsage
	}
	return flowcmd.ExitStatus(err)
}

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
  kisgrid apply -f DIR                  change flows while they run; diff -f DIR shows what would change
  kisgrid edit flow NAME                change a document in your editor
  kisgrid submit FLOW -f rows.ndjson    run rows through a flow
  kisgrid get flows                     show which flows run, and how far a change has come
  kisgrid dead list                     list the rows that failed for good; dead redrive runs them again

Each subcommand has its own --help. A flag such as --server can also be set in the environment, as KISGRID_SERVER.`,
		SilenceUsage: true, SilenceErrors: true, Version: command.Build(),
	}
	cmd.AddCommand(
		demoCommand(), devCommand(), newCommand(),
		applyCommand(), diffCommand(), editCommand(), getCommand(), describeCommand(), deleteCommand(), exportCommand(), rolloutCommand(),
		pauseCommand(false), pauseCommand(true), cordonCommand(false), cordonCommand(true), drainCommand(),
		submitCommand(), deadCommand(), explainCommand(), tapCommand(),
		doctorCommand(), topCommand(), benchCommand(), peekCommand(),
		runCommand(), testCommand(), lintCommand(), evalCommand(), schemaCommand(),
		auditCommand(), configCommand(), tokenCommand(), versionCommand(),
	)
	bindCompletions(cmd)
	command.FromEnvironment(cmd)
	command.StrictUsage(cmd)
	return cmd
}

package flowcmd

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// ErrReported ends a command with exit status 1 without printing an error. Commands return it when their output has explained the failure.
var ErrReported = errors.New("the output has said why")

// errUnusable ends a command with exit status 2 without printing an error: the output has said why nothing could run.
var errUnusable = fmt.Errorf("%w: nothing could run", ErrReported)

// ExitStatus returns the exit status of a program whose command ended with err: 0 for nil, 2 where test could run nothing, and else
// as command.ExitCode says.
func ExitStatus(err error) int {
	if errors.Is(err, errUnusable) {
		return command.ExitUsage
	}
	return command.ExitCode(err)
}

// PrintNotices writes warnings or notes, one in each line, with the kind in front.
func PrintNotices(out io.Writer, kind string, texts []string) error {
	for _, text := range texts {
		if _, err := fmt.Fprintln(out, kind+": "+text); err != nil {
			return err
		}
	}
	return nil
}

// PrintMistakes writes the mistakes in documents that err has, one in each line as compilers do, and then returns ErrReported. An error
// without mistakes is returned unchanged.
func PrintMistakes(out io.Writer, err error) error {
	mistakes := definition.MistakesOf(err)
	if mistakes == nil {
		return err
	}
	if _, err := fmt.Fprintln(out, mistakes); err != nil {
		return err
	}
	return ErrReported
}

// ExactArgs accepts exactly as many arguments as there are names. The error lists the names.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fmt.Errorf("%s needs %s, but the arguments are %q: write %s", cmd.CommandPath(), strings.Join(names, " and "), args, cmd.UseLine())
	}
}

package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// The exit codes of programs. Every other failure is ExitFailed.
const (
	ExitFailed      = 1   // rows are not done, a flow is not active, a call was refused
	ExitUsage       = 2   // the command line has a mistake
	ExitUnreachable = 3   // no coordinator could be reached
	ExitInterrupted = 130 // Ctrl-C or SIGTERM ended the command
)

// exitError is an error with an exit code.
type exitError struct {
	error
	code int
}

// ExitCode returns the exit code. Errors of other packages may have this method, too.
func (e exitError) ExitCode() int { return e.code }

// Unwrap returns the error without its exit code.
func (e exitError) Unwrap() error { return e.error }

// ExitCode returns the exit code of a program that ends with err: 0 for nil, else the code that the error has, or ExitFailed.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return coded.ExitCode()
	}
	return ExitFailed
}

// Usage makes the error of a mistake in the command line.
func Usage(format string, args ...any) error {
	return exitError{fmt.Errorf(format, args...), ExitUsage}
}

// Unreachable gives an error the exit code ExitUnreachable, if it is one with CodeUnavailable. Call it with errors of calls that no
// coordinator has answered.
func Unreachable(err error) error {
	if batch.CodeOf(err) != batch.CodeUnavailable {
		return err
	}
	return exitError{err, ExitUnreachable}
}

// StrictUsage makes mistakes in the command line of root and all of its subcommands errors with the exit code ExitUsage: unknown flags, wrong
// arguments, and unknown subcommands, for which the error names the nearest ones. Call it once, after all subcommands are added.
func StrictUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage("%w: %s --help lists the flags", err, cmd.CommandPath())
	})
	walk(root, func(cmd *cobra.Command) {
		if cmd.HasSubCommands() && !cmd.Runnable() {
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = func(cmd *cobra.Command, args []string) error { return subcommandOf(cmd, args) }
			return
		}
		check := cmd.Args
		if check == nil {
			return
		}
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return Usage("%w: %s --help shows its use", err, cmd.CommandPath())
			}
			return nil
		}
	})
}

// subcommandOf prints the help of a command that has only subcommands, or says which subcommand was meant.
func subcommandOf(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	if near := nearest(cmd, args[0]); len(near) > 0 {
		return Usage("there is no command %q: did you mean %s?", cmd.CommandPath()+" "+args[0], strings.Join(near, " or "))
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return Usage("there is no command %q: there are %s", cmd.CommandPath()+" "+args[0], strings.Join(names, ", "))
}

// synonyms are verbs that other programs have for verbs of this one.
var synonyms = map[string]string{
	"create": "apply", "update": "apply", "put": "apply", "deploy": "apply", "rm": "delete", "remove": "delete", "del": "delete", "list": "get", "ls": "get",
	"show": "get", "status": "get", "send": "submit", "produce": "submit", "publish": "submit", "pub": "submit", "start": "dev", "serve": "dev", "validate": "lint",
	"check": "lint", "init": "new", "undo": "rollout undo", "history": "rollout history", "redrive": "dead redrive", "letters": "dead list", "dlq": "dead",
	"backup": "export", "where": "explain", "trace": "explain",
}

// nearest returns the subcommands that a wrong name may have meant, with the path of the command before them. A verb that other programs have for
// one of this program's goes first, since its meaning is known.
func nearest(cmd *cobra.Command, name string) (near []string) {
	other := synonyms[name]
	if words := strings.Fields(other); other != "" && slices.ContainsFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == words[0] }) {
		return []string{cmd.CommandPath() + " " + other}
	}
	most := 1 // characters that may be wrong
	if len(name) > 4 {
		most = 2
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && (distance(sub.Name(), name) <= most || len(name) > 1 && strings.HasPrefix(sub.Name(), name)) {
			near = append(near, cmd.CommandPath()+" "+sub.Name())
		}
	}
	return near
}

// distance returns how many characters must be added, removed, replaced or exchanged with their neighbour to make one word of another.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// walk calls f for a command and all commands below it.
func walk(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, f)
	}
}

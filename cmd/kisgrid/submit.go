package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/submission"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/client/oteltrace"
)

// submitCommand makes the command kisgrid submit, which sends rows from a file or standard input through a flow.
func submitCommand() *cobra.Command {
	var s server
	var sub submission.Submitter
	var tracing command.Tracing
	retryFor := 30 * time.Second
	logName := ""
	cmd := &cobra.Command{
		Use:   "submit FLOW -f rows.ndjson",
		Short: "Run rows through a flow",
		Long: `submit reads rows, sends them through a flow in batches, in their order, and prints a summary of their outcomes on standard error. With
--results it prints the output of the flow's last function on standard output. With -o json the summary is one line of JSON, on standard
output, or on standard error where --results uses standard output.

Rows are one JSON object in each line, or the elements of a JSON array, or records of CSV. The first line of CSV names the columns; the types
of their values are those of the flow's first function. Any of these may be compressed with gzip. A batch that is not full leaves after
--flush.

Ctrl-C, or an error, stops reading. Rows under way have --grace to end. Then submit says which lines are answered, which have no answer, and
from which line to go on. A second Ctrl-C ends it at once.

A row that is rejected (--rejects) and was kept as a dead letter would run twice if both are run again: use --report-only for one, or dead
redrive for the other. A row that failed may have taken effect in part.

With --log the file is a log of that name, and the line of a row is its position. The command may then be killed at any moment and run again,
also with lines added at the end: each row takes effect once. It begins behind the lines that an earlier command has done completely. Rows
that ran before run again where it is not certain, and save nothing twice, for 30 days. A dead row is done; lines must not change, so mend
rejected rows in a file of their own. The rows run on the revision of the flow with which the first command began, until all lines are done.

Exit codes: 0 when every row is done, filtered or aborted; 1 when a row is dead, failed or has no answer; 2 for a mistake in the command line;
3 when no coordinator can be reached; 130 when Ctrl-C ended it too early.`,
		Example: `  kisgrid submit CalStuAvgScore12 -f rows.ndjson
  kisgrid submit CalStuAvgScore12 -f rows.csv.gz --outcomes outcomes.csv --rejects rejects.csv
  kisgrid submit CalStuAvgScore12 -f 2026-12.ndjson --log scores-2026-12
  producer | kisgrid submit CalStuAvgScore12 --results > averages.ndjson`,
		Args: exactly("FLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			sub.Flow = args[0]
			if err := s.resolve(); err != nil {
				return err
			}
			sub.Types = func(ctx context.Context) (rowfile.Types, error) { return rowTypes(ctx, &s, sub.Flow) }
			sub.ShardKey = func(ctx context.Context) (string, error) { return shardKeyOf(ctx, &s, sub.Flow) }
			wait := newWaiting(cmd.ErrOrStderr(), s.address, retryFor)
			provider, endTraces, err := tracing.Open(cmd.Context(), "kisgrid", wait.logger)
			if err != nil {
				return err
			}
			defer endTraces()
			c, err := s.client(retryFor, oteltrace.WithTracing(provider), client.WithLogger(wait.logger))
			if err != nil {
				return err
			}
			defer c.Close()
			var log *fileLog
			if logName != "" {
				if err := sub.CheckLog(); err != nil {
					return err
				}
				end := wait.begin()
				log, err = beginLog(cmd.Context(), c, sub.Flow, logName, retryFor)
				end()
				if err != nil {
					return command.Unreachable(err)
				}
				sub.StartAt(int(log.floor))
			}
			open := func(ctx context.Context) (submission.Stream, error) {
				defer wait.begin()()
				stream, err := c.Stream(ctx, sub.Flow)
				return clientStream{stream, log}, command.Unreachable(err)
			}
			err = sub.Run(cmd.Context(), open, cmd.InOrStdin(), terminal.Data(cmd.OutOrStdout()), cmd.ErrOrStderr())
			if log != nil && (err == nil || errors.Is(err, submission.ErrNotDone)) {
				if kept := log.end(cmd.Context()); kept != nil {
					return kept
				}
			}
			if errors.Is(err, submission.ErrNotDone) {
				return errReported
			}
			return err
		},
	}
	sub.BindFlags(cmd.Flags())
	cmd.Flags().StringVar(&logName, "log", "", "`name` of the log that the file is: killed and run again, the command doubles nothing")
	cmd.Flags().DurationVar(&retryFor, "retry-for", retryFor, "how long to look for a coordinator, at the beginning and when one is lost")
	tracing.BindFlags(cmd.Flags())
	s.bind(cmd)
	return cmd
}

// clientStream makes a stream of package client usable by package submission. It does not embed the stream, because package submission
// needs only these two methods.
type clientStream struct {
	stream *client.Stream
	log    *fileLog // gives rows their positions; nil without --log
}

// Send implements submission.Stream: it sends one batch into the flow.
func (c clientStream) Send(ctx context.Context, b *batch.Batch, o submission.SendOptions) (submission.Answer, error) {
	var options []client.SubmitOption
	if !o.Output {
		options = append(options, client.NoOutput())
	}
	if o.ReportOnly {
		options = append(options, client.ReportOnly())
	}
	if o.Timeout > 0 {
		options = append(options, client.Timeout(o.Timeout))
	}
	if !o.ReportOnly {
		options = append(options, client.From(o.Source, o.Lines))
	}
	if c.log == nil {
		return c.stream.Send(ctx, b, options...)
	}
	chunk, err := c.log.place(b, o.Lines)
	if err != nil {
		return nil, err
	}
	p, err := c.stream.Send(ctx, b, options...)
	if err != nil {
		return nil, err
	}
	return logAnswer{p, c.log, chunk}, nil
}

// Close implements submission.Stream: it closes the client's stream.
func (c clientStream) Close() error { return c.stream.Close() }

// newWaiting makes a waiting that tells people on log when no coordinator answers at an address.
func newWaiting(log io.Writer, address string, retryFor time.Duration) *waiting {
	log = terminal.Unwrap(log) // other goroutines write to it, too
	p := &waiting{say: func(reason string) {
		fmt.Fprintf(log, "waiting for a coordinator at %s, for up to %s: %s\n", address, retryFor, reason)
	}}
	p.logger = p.newLogger(terminal.NewWriter(log))
	return p
}

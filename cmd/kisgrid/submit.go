package main

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/submission"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/client/oteltrace"
)

// submitCommand makes the command kisgrid submit, which sends rows from a file or standard input through a flow.
func submitCommand() *cobra.Command {
	var s server
	var sub submission.Submitter
	var tracing command.Tracing
	cmd := &cobra.Command{
		Use:   "submit FLOW -f rows.ndjson",
		Short: "Run rows through a flow",
		Long: `submit reads rows, one JSON object on each line, sends them through a flow in batches, in their order, and prints a summary of their
outcomes on standard error. With --results it prints the output of the flow's last function on standard output. With -o json the
summary is one line of JSON, on standard output, or on standard error where --results uses standard output.

The exit code is 1 when a row is dead or failed, or has no answer.`,
		Example: "  kisgrid submit CalStuAvgScore12 -f rows.ndjson\n  producer | kisgrid submit CalStuAvgScore12 --results > averages.ndjson",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sub.Flow = args[0]
			t := &s.transport // the flags for TLS
			log := hclog.New(&hclog.LoggerOptions{Name: "kisgrid", Level: hclog.Warn, Output: cmd.ErrOrStderr()})
			provider, endTraces, err := tracing.Open(cmd.Context(), "kisgrid", log)
			if err != nil {
				return err
			}
			defer endTraces()
			c, err := client.Dial(s.address, oteltrace.WithTracing(provider), client.WithTLSFiles(t.TLSCA, t.TLSCert, t.TLSKey), client.WithTLSServerName(t.TLSServerName))
			if err != nil {
				return err
			}
			defer c.Close()
			open := func(ctx context.Context) (submission.Stream, error) {
				stream, err := c.Stream(ctx, sub.Flow)
				return clientStream{stream}, err
			}
			err = sub.Run(cmd.Context(), open, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			if errors.Is(err, submission.ErrNotDone) {
				return errReported
			}
			return err
		},
	}
	sub.BindFlags(cmd.Flags())
	tracing.BindFlags(cmd.Flags())
	s.bind(cmd)
	return cmd
}

// clientStream makes a stream of package client usable by package submission. It does not embed the stream, because package submission
// needs only these two methods.
type clientStream struct{ stream *client.Stream }

// Send implements submission.Stream: it sends one batch into the flow, with or without the flow's output in the answer.
func (c clientStream) Send(ctx context.Context, b *batch.Batch, output bool) (submission.Answer, error) {
	if !output {
		return c.stream.Send(ctx, b, client.NoOutput())
	}
	return c.stream.Send(ctx, b)
}

// Close implements submission.Stream: it closes the client's stream.
func (c clientStream) Close() error { return c.stream.Close() }

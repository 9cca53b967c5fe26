package worker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// How run cuts its input into batches, and how much of what went wrong it lists.
const (
	runBatchRows  = 1000
	runBatchBytes = 1 << 20
	runUnderWay   = 16 // batches
	maxListed     = 10
)

func runCommand(register func(*kis.Registry)) *cobra.Command {
	r := localRun{logging: command.Logging{Level: "warn"}}
	cmd := &cobra.Command{
		Use:   "run CONF FLOW [-f rows.ndjson]",
		Short: "Run a flow in this process, without a cluster",
		Long: `run runs rows, one JSON object a line, through a flow of the documents in the folder CONF, in this process: no etcd, no
Redis, no coordinator. Every connector is a store in memory, empty at first. Outcomes are those of a cluster.

What the flow's last function passes on goes to standard output, one row a line; rows that are not done, and a summary, to
standard error. It exits with 1 when a row is dead or failed.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r.in, r.out, r.log = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return r.run(ctx, args[0], args[1], register)
		},
	}
	cmd.Flags().StringVarP(&r.path, "filename", "f", "-", "`file` of rows, one JSON object a line; - for standard input")
	r.logging.BindFlags(cmd.Flags())
	return cmd
}

// localRun is one run command. One goroutine owns it.
type localRun struct {
	path     string
	logging  command.Logging
	in       io.Reader
	out, log io.Writer

	line    int // of the input, so far
	rows    int
	counts  batch.Counts
	notDone int
	waiting []localBatch
}

// localBatch is a batch under way, with the line of each of its rows.
type localBatch struct {
	pending *flowexec.Pending
	lines   []int
}

func (r *localRun) run(ctx context.Context, conf, flow string, register func(*kis.Registry)) error {
	log, err := r.logging.Logger("run", r.log)
	if err != nil {
		return err
	}
	if r.path != "-" {
		f, err := os.Open(r.path)
		if err != nil {
			return fmt.Errorf("open rows: %w", err)
		}
		defer f.Close()
		r.in = f
	}
	local, err := flowexec.NewLocal(conf, register, flowexec.WithLogger(log))
	if err != nil {
		return err
	}
	began := time.Now()
	out := bufio.NewWriter(r.out)
	err = r.stream(ctx, local, flow, out)
	err = errors.Join(err, out.Flush(), local.Close())
	r.tell(flow, time.Since(began))
	if err == nil && r.counts[batch.Dead]+r.counts[batch.Failed] > 0 {
		return errTold
	}
	return err
}

// stream sends the rows and writes what comes back, in order.
func (r *localRun) stream(ctx context.Context, local *flowexec.Local, flow string, out *bufio.Writer) error {
	stream, err := local.Stream(ctx, flow)
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(r.in, 1<<16)
	for more := true; more; {
		var columns batch.Columns
		var lines []int
		if columns, lines, more, err = r.read(in); err != nil {
			return err
		}
		if len(lines) == 0 {
			break
		}
		pending, err := stream.Send(ctx, batch.Pack(columns))
		if err != nil {
			return err
		}
		r.waiting = append(r.waiting, localBatch{pending, lines})
		if len(r.waiting) == runUnderWay {
			if err := r.take(ctx, out); err != nil {
				return err
			}
		}
	}
	for len(r.waiting) > 0 {
		if err := r.take(ctx, out); err != nil {
			return err
		}
	}
	return stream.Close()
}

// read reads the rows of one batch, and says whether there may be more.
func (r *localRun) read(in *bufio.Reader) (c batch.Columns, lines []int, more bool, err error) {
	for c.Len() < runBatchRows && len(c.Data) < runBatchBytes {
		row, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return c, lines, false, fmt.Errorf("read rows after line %d: %w", r.line, err)
		}
		r.line++
		if row = bytes.TrimSpace(row); len(row) > 0 {
			c.Append(row)
			lines = append(lines, r.line)
		}
		if err != nil {
			return c, lines, false, nil
		}
	}
	return c, lines, true, nil
}

// take waits for the oldest batch and writes what it gave.
func (r *localRun) take(ctx context.Context, out *bufio.Writer) error {
	b := r.waiting[0]
	r.waiting = r.waiting[1:]
	result, err := b.pending.Wait(ctx)
	if err != nil {
		return err
	}
	for i := range result.Output.Rows.Len() {
		out.Write(result.Output.Rows.Row(i)) // Flush tells about errors
		out.WriteByte('\n')
	}
	r.rows += result.Rows
	for outcome, n := range result.Counts() {
		r.counts[outcome] += n
	}
	for _, o := range result.NotDone {
		if r.notDone++; r.notDone > maxListed {
			continue
		}
		where := ""
		if o.Function != "" {
			where = " in " + o.Function
		}
		fmt.Fprintf(r.log, "line %d: %s%s: %s: %s\n", b.lines[o.Row], o.Outcome, where, o.Code, o.Reason)
	}
	return nil
}

// tell is the summary.
func (r *localRun) tell(flow string, took time.Duration) {
	if r.notDone > maxListed {
		fmt.Fprintf(r.log, "… and %d more rows that are not done\n", r.notDone-maxListed)
	}
	fmt.Fprintf(r.log, "%s: %d rows, %.1f s:", flow, r.rows, took.Seconds())
	for o := batch.Done; o <= batch.Failed; o++ {
		fmt.Fprintf(r.log, " %d %s", r.counts[o], o)
	}
	fmt.Fprintln(r.log)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// maxListed is how many rows that are not done are listed one by one.
const maxListed = 10

type submission struct {
	flow      string
	batchRows int
	results   bool
	progress  *progressbar.ProgressBar
	out, log  io.Writer
}

func submitCommand() *cobra.Command {
	var s server
	var o output
	var path string
	sub := submission{}
	cmd := &cobra.Command{
		Use:   "submit FLOW -f rows.ndjson",
		Short: "Run rows through a flow",
		Long: `submit sends rows, one JSON object a line, through a flow in batches, in order, and tells how they ended: a summary on
standard error, what the flow's last function passed on, with --results, on standard output.

It exits with 1 when a row is dead or failed, or was not answered.`,
		Example: "  kisgrid submit CalStuAvgScore12 -f rows.ndjson\n  producer | kisgrid submit CalStuAvgScore12 --results > averages.ndjson",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, size, err := openRows(path, cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer in.Close()
			sub.flow, sub.out, sub.log = args[0], cmd.OutOrStdout(), cmd.ErrOrStderr()
			if term.IsTerminal(int(os.Stderr.Fd())) {
				sub.progress = progressbar.DefaultBytes(size, "submitting")
			}
			t := &s.transport
			c, err := client.Dial(s.address, client.WithTLSFiles(t.TLSCA, t.TLSCert, t.TLSKey), client.WithTLSServerName(t.TLSServerName))
			if err != nil {
				return err
			}
			defer c.Close()
			began := time.Now()
			sum, err := sub.run(cmd.Context(), c, in)
			if sub.progress != nil {
				_ = sub.progress.Finish() // it is decoration
				fmt.Fprintln(sub.log)
			}
			summaryTo := sub.log
			if o.format == "json" && !sub.results {
				summaryTo = sub.out
			}
			if told := sum.tell(summaryTo, time.Since(began), o.format == "json"); err == nil {
				err = told
			}
			if err == nil && (sum.Counts["dead"] > 0 || sum.Counts["failed"] > 0) {
				err = errTold
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "-", "`file` of rows, one JSON object a line; - for standard input")
	cmd.Flags().IntVar(&sub.batchRows, "batch-rows", 1000, "`rows` in a batch")
	cmd.Flags().BoolVar(&sub.results, "results", false, "print what the flow passes on, one row a line")
	o.bind(cmd, "json, for the summary")
	s.bind(cmd)
	return cmd
}

func openRows(path string, stdin io.Reader) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(stdin), -1, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open rows: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("open rows: %w", errors.Join(err, f.Close()))
	}
	return f, info.Size(), nil
}

// sent is a batch under way.
type sent struct {
	pending *client.Pending
	lines   []int // of its rows
	bytes   int
}

// run sends the rows and gathers how they ended, in order.
func (s *submission) run(ctx context.Context, c *client.Client, in io.Reader) (*summary, error) {
	sum := &summary{Flow: s.flow, Counts: map[string]int{}}
	stream, err := c.Stream(ctx, s.flow)
	if err != nil {
		return sum, err
	}
	g, ctx := errgroup.WithContext(ctx)
	underWay := make(chan sent, 64)
	g.Go(func() error {
		defer close(underWay)
		return s.send(ctx, stream, in, underWay)
	})
	g.Go(func() error {
		results := bufio.NewWriter(s.out)
		for b := range underWay {
			r, err := b.pending.Wait(ctx)
			if err != nil {
				return errors.Join(err, results.Flush())
			}
			sum.add(r, b.lines, s.log)
			for i := range r.Output.Rows.Len() {
				results.Write(r.Output.Rows.Row(i)) // Flush tells about errors
				results.WriteByte('\n')
			}
			if s.progress != nil {
				_ = s.progress.Add(b.bytes)
			}
		}
		return results.Flush()
	})
	err = g.Wait()
	if closed := stream.Close(); err == nil {
		err = closed
	}
	return sum, err
}

// send packs lines into batches.
func (s *submission) send(ctx context.Context, stream *client.Stream, in io.Reader, underWay chan<- sent) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	var options []client.SubmitOption
	if !s.results {
		options = append(options, client.NoOutput())
	}
	const batchBytes = 2 << 20
	var columns batch.Columns
	var numbers []int
	flush := func() error {
		if len(numbers) == 0 {
			return nil
		}
		b := sent{lines: numbers, bytes: len(columns.Data) + len(numbers)}
		var err error
		if b.pending, err = stream.Send(ctx, client.Pack(columns), options...); err != nil {
			return err
		}
		columns, numbers = batch.Columns{}, nil
		select {
		case underWay <- b:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for number := 1; lines.Scan(); number++ {
		row := bytes.TrimSpace(lines.Bytes())
		if len(row) == 0 {
			continue
		}
		columns.Append(row)
		numbers = append(numbers, number)
		if len(numbers) >= s.batchRows || len(columns.Data) >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return errors.Join(fmt.Errorf("read rows: %w", err), flush())
	}
	return flush()
}

// summary is how a submission's rows ended.
type summary struct {
	Flow     string         `json:"flow"`
	Rows     int            `json:"rows"`
	Batches  int            `json:"batches"`
	Counts   map[string]int `json:"outcomes"`
	Revision []int64        `json:"revisions"`
	Seconds  float64        `json:"seconds"`

	listed int
}

// add counts a batch, and lists the first rows that are not done.
func (s *summary) add(r *client.Result, lines []int, log io.Writer) {
	s.Batches++
	s.Rows += r.Rows
	counts := r.Counts()
	for o := batch.Done; o <= batch.Failed; o++ {
		s.Counts[o.String()] += int(counts[o])
	}
	if n := len(s.Revision); n == 0 || s.Revision[n-1] != r.Revision {
		s.Revision = append(s.Revision, r.Revision)
	}
	for _, o := range r.NotDone {
		if s.listed++; s.listed > maxListed {
			continue
		}
		where := ""
		if o.Function != "" {
			where = " in " + o.Function
		}
		fmt.Fprintf(log, "line %d: %s%s: %s: %s\n", lines[o.Row], o.Outcome, where, o.Code, o.Reason)
	}
}

func (s *summary) tell(log io.Writer, took time.Duration, asJSON bool) error {
	s.Seconds = took.Seconds()
	if asJSON {
		return json.NewEncoder(log).Encode(s)
	}
	if s.listed > maxListed {
		fmt.Fprintf(log, "… and %d more rows that are not done\n", s.listed-maxListed)
	}
	fmt.Fprintf(log, "%s: %d rows in %d batches, %.1f s:", s.Flow, s.Rows, s.Batches, s.Seconds)
	for o := batch.Done; o <= batch.Failed; o++ {
		fmt.Fprintf(log, " %d %s", s.Counts[o.String()], o)
	}
	_, err := fmt.Fprintln(log)
	return err
}

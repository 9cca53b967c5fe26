package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// benchCommand makes the command kisgrid bench, which measures how fast a flow runs rows.
func benchCommand() *cobra.Command {
	var s server
	var o output
	b := bench{}
	cmd := &cobra.Command{
		Use:   "bench FLOW -f rows.ndjson",
		Short: "Run rows through a flow again and again, and measure",
		Long: `bench reads the rows of a file once, then sends them through a flow again and again for --duration, as fast as the flow takes them, or --rate
rows per second. It prints how many rows ended how, and the percentiles of the time from sending a batch to its answer. With --rate, the time
begins when the batch was due, so that a flow which can't keep up shows it.

The rows run in earnest: functions are called, and Saves are written. Dead rows are not kept as dead letters, unless --letters is given. The exit
code is 1 when a row is dead or failed.`,
		Example: "  kisgrid bench CalStuAvgScore12 -f rows.ndjson --duration 1s\n  kisgrid bench CalStuAvgScore12 -f rows.ndjson --rate 5000 --batch-rows 100 -o json",
		Args:    exactly("FLOW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.flow = args[0]
			if err := b.check(); err != nil {
				return err
			}
			if err := s.resolve(); err != nil {
				return err
			}
			rows, err := b.read(cmd.InOrStdin(), func() (rowfile.Types, error) { return rowTypes(cmd.Context(), &s, b.flow) })
			if err != nil {
				return err
			}
			wait := newWaiting(cmd.ErrOrStderr(), s.address, openWait)
			c, err := s.client(openWait, client.WithLogger(wait.logger))
			if err != nil {
				return err
			}
			defer c.Close()
			opened := wait.begin()
			stream, err := c.Stream(cmd.Context(), b.flow)
			opened()
			if err != nil {
				return command.Unreachable(err)
			}
			err = b.run(cmd.Context(), stream, rows)
			err = cmp.Or(err, stream.Close())
			if printed := b.result().print(cmd.OutOrStdout(), &o); err == nil {
				err = printed
			}
			if err == nil && b.counts[batch.Dead]+b.counts[batch.Failed] > 0 {
				return errReported
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&b.path, "filename", "f", "", "`file` of rows, in any format of kisgrid submit; - for standard input")
	fs.StringVar(&b.format, "format", "auto", "`format` of the file: auto, ndjson, array or csv")
	fs.DurationVar(&b.duration, "duration", 10*time.Second, "how long to send batches")
	fs.Float64Var(&b.rate, "rate", 0, "`rows` per second (default: as fast as they are taken)")
	fs.IntVar(&b.batchRows, "batch-rows", 1000, "`rows` in a batch")
	fs.IntVar(&b.underWay, "under-way", 64, "the most `batches` without an answer at a time")
	fs.BoolVar(&b.letters, "letters", false, "keep dead rows as dead letters")
	o.bind(cmd, "json", "yaml", "jsonpath=…")
	s.bind(cmd)
	return cmd
}

const (
	openWait      = 5 * time.Second  // how long bench looks for a coordinator
	benchGrace    = 30 * time.Second // how long bench waits for the last answers
	maxBenchBytes = 256 << 20        // the limit for all rows of the file, which are kept in memory
)

// bench is one measurement. Its methods are called by one goroutine; note is called by those that wait for answers.
type bench struct {
	flow, path, format  string
	duration            time.Duration
	rate                float64 // rows per second; 0 means as fast as possible
	batchRows, underWay int
	letters             bool

	began, ended time.Time

	mu     sync.Mutex
	took   []time.Duration // guarded by mu: of each answered batch
	counts batch.Counts    // guarded by mu
	err    error           // guarded by mu: the first error of a batch
}

// check returns an error if a flag has a wrong value.
func (b *bench) check() error {
	switch {
	case b.path == "":
		return command.Usage("-f is missing: give a file of rows, or - for standard input")
	case b.duration <= 0:
		return command.Usage("--duration %s: give a time above 0", b.duration)
	case b.rate < 0 || math.IsNaN(b.rate) || math.IsInf(b.rate, 0):
		return command.Usage("--rate %g: give rows per second above 0, or leave it out", b.rate)
	case b.batchRows < 1:
		return command.Usage("--batch-rows %d: give 1 or more", b.batchRows)
	case b.underWay < 1:
		return command.Usage("--under-way %d: give 1 or more", b.underWay)
	}
	return nil
}

// read reads all rows of the file. A row that can't be read is an error: a measurement of broken rows would mislead.
func (b *bench) read(in io.Reader, types func() (rowfile.Types, error)) (rows [][]byte, err error) {
	format, err := rowfile.ParseFormat(b.format)
	if err != nil {
		return nil, command.Usage("--format: %w", err)
	}
	if b.path != "-" {
		f, err := os.Open(b.path)
		if err != nil {
			return nil, fmt.Errorf("open rows: %w", err)
		}
		defer f.Close()
		in = f
		if format == rowfile.Detect {
			format = rowfile.FormatOf(b.path)
		}
	}
	size := 0
	for r := rowfile.NewReader(in, rowfile.Options{Format: format, Types: types}); ; {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read rows: %w", err)
		}
		if size += len(row); size > maxBenchBytes {
			return nil, fmt.Errorf("the rows of %s have more than %d bytes, and are all kept in memory: give a smaller file", b.path, maxBenchBytes)
		}
		rows = append(rows, slices.Clone(row))
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no rows", b.path)
	}
	return rows, nil
}

// run sends batches until the duration or ctx is over, or one has an error, and waits for their answers. The error is that of ctx, or the first
// one of a batch.
func (b *bench) run(ctx context.Context, stream *client.Stream, rows [][]byte) error {
	options := []client.SubmitOption{client.NoOutput()}
	if !b.letters {
		options = append(options, client.ReportOnly())
	}
	sending, stop := context.WithTimeout(ctx, b.duration)
	defer stop()
	waiting, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var answers sync.WaitGroup
	places := make(chan struct{}, b.underWay)
	b.began = time.Now()
	for n, next := 0, 0; ; n++ {
		due := b.began
		if b.rate > 0 {
			due = b.began.Add(time.Duration(float64(n) * float64(b.batchRows) / b.rate * float64(time.Second)))
		}
		if due.Sub(b.began) >= b.duration || !b.wait(sending, due, places) {
			break
		}
		var c client.Columns
		for range b.batchRows {
			c.Append(rows[next%len(rows)])
			next++
		}
		if b.rate == 0 {
			due = time.Now()
		}
		pending, err := stream.Send(ctx, client.Pack(c), options...)
		if err != nil {
			<-places
			b.note(nil, 0, err)
			stop()
			break
		}
		answers.Go(func() {
			r, err := pending.Wait(waiting)
			b.note(r, time.Since(due), err)
			if err != nil {
				stop()
			}
			<-places
		})
	}
	late := time.AfterFunc(benchGrace, giveUp)
	answers.Wait()
	late.Stop()
	b.ended = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	return cmp.Or(ctx.Err(), b.err)
}

// wait waits until a batch is due and there is a place for it, which it takes. It returns false if no more are to be sent.
func (b *bench) wait(ctx context.Context, due time.Time, places chan<- struct{}) bool {
	if left := time.Until(due); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	if ctx.Err() != nil {
		return false
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// note adds the answer of a batch.
func (b *bench) note(r *batch.Result, took time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err = cmp.Or(b.err, err)
		return
	}
	b.took = append(b.took, took)
	for o, n := range r.Counts() {
		b.counts[o] += n
	}
}

// benchResult is the outcome of a measurement, as -o json prints it.
type benchResult struct {
	Flow      string            `json:"flow"`
	Rows      uint64            `json:"rows"`
	Batches   int               `json:"batches"`
	BatchRows int               `json:"batch_rows"`
	Seconds   float64           `json:"seconds"`
	PerSecond float64           `json:"rows_per_second"`
	Asked     float64           `json:"asked_rows_per_second,omitempty"`
	Outcomes  map[string]uint64 `json:"outcomes"`
	// Milliseconds are those from Send, or from when the batch was due, to its answer: p50, p90, p99, p99.9, max and mean.
	Milliseconds map[string]float64 `json:"milliseconds"`
}

// result computes the outcome, when run has returned.
func (b *bench) result() *benchResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &benchResult{Flow: b.flow, Rows: b.counts.Total(), Batches: len(b.took), BatchRows: b.batchRows, Seconds: b.ended.Sub(b.began).Seconds(),
		Asked: b.rate, Outcomes: map[string]uint64{}, Milliseconds: map[string]float64{}}
	if b.rate > 0 { // the last batch counts until the next one would be due
		r.Seconds = max(r.Seconds, float64(r.Rows)/b.rate)
	}
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Rows) / r.Seconds
	}
	for o := batch.Done; o <= batch.Failed; o++ {
		r.Outcomes[o.String()] = b.counts[o]
	}
	if len(b.took) == 0 {
		return r
	}
	slices.Sort(b.took)
	var sum time.Duration
	for _, t := range b.took {
		sum += t
	}
	in := func(t time.Duration) float64 { return float64(t.Microseconds()) / 1000 }
	for name, p := range percentiles {
		r.Milliseconds[name] = in(percentile(b.took, p))
	}
	r.Milliseconds["mean"] = in(sum / time.Duration(len(b.took)))
	return r
}

// percentiles are those that bench prints, by their names.
var percentiles = map[string]float64{"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}

// percentile returns the least of the sorted times that p percent of them do not exceed. There must be one time at least.
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// print prints the outcome in the format of the command.
func (r *benchResult) print(out io.Writer, o *output) error {
	if o.data() {
		return o.print(out, &list{value: r})
	}
	asked := ""
	if r.Asked > 0 {
		asked = fmt.Sprintf(" of %.0f asked for", r.Asked)
	}
	fmt.Fprintf(out, "%s: %d rows in %d batches of %d, %.1f s: %.0f rows/s%s\n", r.Flow, r.Rows, r.Batches, r.BatchRows, r.Seconds, r.PerSecond, asked)
	var counts, times []string
	for o := batch.Done; o <= batch.Failed; o++ {
		counts = append(counts, fmt.Sprintf("%d %s", r.Outcomes[o.String()], o))
	}
	fmt.Fprintln(out, strings.Join(counts, " "))
	for _, name := range []string{"p50", "p90", "p99", "p99.9", "max", "mean"} {
		times = append(times, fmt.Sprintf("%s %.1f", name, r.Milliseconds[name]))
	}
	_, err := fmt.Fprintf(out, "ms from Send to the answer of a batch: %s\n", strings.Join(times, "  "))
	return err
}

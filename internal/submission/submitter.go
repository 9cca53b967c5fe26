package submission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/pflag"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/internal/terminal"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	batchBytes = 2 << 20               // a batch of this size, in bytes, is sent even if it has fewer rows than --batch-rows
	rowBytes   = rowfile.DefaultMaxRow // the limit for a row, in bytes; a batch is at most batchBytes and one row, which is below the limit of coordinators
	underWay   = 64                    // the limit for batches that wait for their answers
	firstAlone = time.Second           // for so long the first batch goes alone, so that input of the wrong kind spoils one batch only
)

// Stream sends batches to a flow. It is a stream of a client, or of a flow in this process.
type Stream interface {
	// Send sends a batch. Send may block until there is room for the batch, or ctx is over; then nothing was sent.
	Send(ctx context.Context, b *batch.Batch, o SendOptions) (Answer, error)
	// Close blocks until every batch is answered.
	Close() error
}

// SendOptions say how a batch is to be run.
type SendOptions struct {
	// Output asks for the flow's output in the answer.
	Output bool
	// ReportOnly says that dead rows are not to be kept as dead letters.
	ReportOnly bool
	// Timeout fails the rows that have no outcome after this time. 0 means none.
	Timeout time.Duration
	// Source is the file that the rows come from; empty for standard input. Lines has the line of each row, for the rows' dead letters.
	Source string
	Lines  []int
}

// Answer is the answer to a batch that was sent.
type Answer interface {
	// Wait blocks until the answer is there, or ctx is over. An answer that is there is returned even if ctx is over. An error with
	// CodeBatchTooLarge may come beside a result, which then lacks only the output.
	Wait(ctx context.Context) (*batch.Result, error)
}

// Submitter runs the rows of one file through a flow. Its fields are set by flags and by the caller, and it is used once.
type Submitter struct {
	// Flow is the name of the flow.
	Flow string
	// Results says to print the flow's output. If it is false, no output is asked for.
	Results bool
	// Types returns the types of the rows that the flow reads, for CSV. nil means that they are not known. It is called once at most.
	Types func(context.Context) (rowfile.Types, error)
	// ShardKey returns the name of the flow's shard key, for --outcomes, or "". nil means that the flow has none. It is called once at most.
	ShardKey func(context.Context) (string, error)

	path, format      string
	batchRows, maxBad int
	fromLine          int
	flush, grace      time.Duration
	outcomes, rejects string
	summaryFormat     string
	send              SendOptions

	in       io.Reader
	out, log io.Writer
	bar      *progressbar.ProgressBar // nil if the log is no terminal
}

// BindFlags adds the flags of the command. The default of --results is s.Results.
func (s *Submitter) BindFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&s.path, "filename", "f", "-", "`file` of rows: one JSON object in each line, a JSON array, or CSV with a header; also compressed with gzip; - for standard input")
	fs.StringVar(&s.format, "format", "auto", "`format` of the file: auto, ndjson, array or csv; auto looks at the file's name and its first character")
	fs.IntVar(&s.batchRows, "batch-rows", 1000, "`rows` in a batch")
	fs.DurationVar(&s.flush, "flush", time.Second, "how long a row waits for others of its batch")
	fs.IntVar(&s.fromLine, "from-line", 1, "begin with this `line` of the file (in a JSON array: with this row), as an interrupted command says")
	fs.IntVar(&s.maxBad, "max-bad", 100, "stop after this many `lines` that can't be read; -1 for no limit")
	fs.BoolVar(&s.Results, "results", s.Results, "print the flow's output, one row in each line")
	fs.StringVar(&s.outcomes, "outcomes", "", "`file` for the outcome of every row, as JSON in lines, or as CSV if its name ends in .csv")
	fs.StringVar(&s.rejects, "rejects", "", "`file` for the rows that are dead or failed, as they stand in the input, to be mended and submitted again")
	fs.BoolVar(&s.send.ReportOnly, "report-only", false, "keep no dead letters: dead rows are only reported")
	fs.DurationVar(&s.send.Timeout, "deadline", 0, "`time` after which a row of a batch fails that has no outcome (default: none)")
	fs.DurationVar(&s.grace, "grace", 10*time.Second, "how long to wait, after Ctrl-C or an error, for the answers of rows under way")
	fs.StringVarP(&s.summaryFormat, "output", "o", "", "`format` of the summary: json (default: for people)")
}

// CheckLog returns an error with the exit code 2 if a flag says something else than what a log allows, whose command knows where to begin.
func (s *Submitter) CheckLog() error {
	if s.fromLine > 1 {
		return usage("--from-line can't be used with --log, which knows where to begin")
	}
	return nil
}

// StartAt makes the file's line the first one that is read; 0 means the first of the file. Call it before Run.
func (s *Submitter) StartAt(line int) { s.fromLine = max(1, line) }

// check returns an error with the exit code 2 if a flag has a wrong value.
func (s *Submitter) check() (rowfile.Format, error) {
	format, err := rowfile.ParseFormat(s.format)
	switch {
	case s.format == "": // a Submitter that was made without flags
		format = rowfile.Detect
	case err != nil:
		return 0, usage("--format: %v", err)
	}
	if format == rowfile.Detect {
		format = rowfile.FormatOf(s.path)
	}
	switch {
	case s.summaryFormat != "" && s.summaryFormat != "json":
		return 0, usage("--output %q: give json, or leave it out", s.summaryFormat)
	case s.batchRows < 1:
		return 0, usage("--batch-rows %d: give 1 or more", s.batchRows)
	case s.fromLine < 0:
		return 0, usage("--from-line %d: give 1 or more", s.fromLine)
	case s.flush < 0 || s.grace < 0 || s.send.Timeout < 0:
		return 0, usage("--flush, --grace and --deadline must not be negative")
	case s.outcomes != "" && s.outcomes == s.rejects:
		return 0, usage("--outcomes and --rejects name the same file: give two")
	}
	return format, nil
}

// Run opens a stream with open, sends the rows and waits until all are answered. It prints the flow's output to out, and the first rows that are
// not done, and a summary, to log. A summary in JSON goes to out instead, unless the output goes there.
//
// When ctx ends, Run stops reading, waits for rows under way as --grace says, and prints which lines are answered, unknown and not sent; its error
// is ErrInterrupted then, unless everything was sent and answered. Run returns ErrNotDone if a row is dead or failed.
func (s *Submitter) Run(ctx context.Context, open func(context.Context) (Stream, error), in io.Reader, out, log io.Writer) (err error) {
	format, err := s.check()
	if err != nil {
		return err
	}
	s.in, s.out, s.log = in, out, log
	size := int64(-1)
	switch {
	case s.path != "-":
		f, err := os.Open(s.path)
		if err != nil {
			return fmt.Errorf("open rows: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		s.in = f
	case terminal.Is(in):
		fmt.Fprintln(log, "reading rows from the terminal, one JSON object in each line: Ctrl-D ends them; -f names a file")
	}
	reports, err := openReports(s.outcomes, s.rejects)
	if err != nil {
		return err
	}
	defer func() {
		if closed := reports.close(); closed != nil {
			err = errors.Join(err, closed)
		}
	}()
	if s.outcomes != "" && s.ShardKey != nil {
		if reports.key, err = s.ShardKey(ctx); err != nil {
			return err
		}
	}
	// On one terminal, rows and a progress bar would overwrite each other.
	if terminal.Is(log) && (!s.Results || !terminal.Is(out)) {
		s.bar = progressbar.DefaultBytes(size, s.Flow)
	}
	began := time.Now()
	p := newPipeline(s, reports)
	err = p.submit(ctx, open, format)
	if s.bar != nil {
		_ = s.bar.Clear() // an error does not matter: the bar is decoration
	}
	if p.sum.empty() && err != nil && !errors.Is(err, ErrInterrupted) {
		if len(p.ledger.ranges) > 0 {
			p.ledger.tell(log)
		}
		return err
	}
	to := log
	if s.summaryFormat == "json" && !s.Results {
		to = out
	}
	if told := p.sum.tell(to, time.Since(began), s.summaryFormat == "json"); err == nil {
		err = told
	}
	if err != nil {
		p.ledger.tell(log)
	}
	if err == nil && p.sum.Counts["dead"]+p.sum.Counts["failed"] > 0 {
		err = ErrNotDone
	}
	return err
}

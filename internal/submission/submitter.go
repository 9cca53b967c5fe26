package submission

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

const (
	batchBytes = 2 << 20 // a batch of this size, in bytes, is sent even if it has fewer rows than --batch-rows
	lineBytes  = 4 << 20 // the limit for a line, in bytes; a batch is at most batchBytes and one line, which is below the limit of coordinators
	underWay   = 64      // the limit for batches that wait for their answers
)

// ErrNotDone is the error of Run if rows are dead or failed. Run has printed how many rows have each outcome, and the first rows that are
// not done.
var ErrNotDone = errors.New("not all rows are done")

// Stream sends batches to a flow. It is a stream of a client, or of a flow in this process.
type Stream interface {
	// Send sends a batch. output asks for the flow's output in the answer. Send may block until there is room for the batch.
	Send(ctx context.Context, b *batch.Batch, output bool) (Answer, error)
	// Close blocks until every batch is answered.
	Close() error
}

// Answer is the answer to a batch that was sent.
type Answer interface {
	// Wait blocks until the answer is there, or ctx is over. An error with CodeBatchTooLarge may come beside a result, which then lacks
	// only the output.
	Wait(ctx context.Context) (*batch.Result, error)
}

// Submitter runs the rows of one file through a flow. Its fields are set by flags and by the caller, and it is used once.
type Submitter struct {
	// Flow is the name of the flow.
	Flow string
	// Results says to print the flow's output. If it is false, no output is asked for.
	Results bool

	path      string
	batchRows int
	format    string
	in        io.Reader
	out, log  io.Writer
	bar       *progressbar.ProgressBar // nil if the log is no terminal
	unread    error                    // why not all rows were read; belongs to send until that has ended
	sentTo    int                      // the last line that was sent; belongs to send until that has ended
	told      int                      // the last line of which the outcome is known; belongs to gather until that has ended
}

// BindFlags adds the flags --filename, --batch-rows, --results and --output. The default of --results is s.Results.
func (s *Submitter) BindFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&s.path, "filename", "f", "-", "`file` of rows, one JSON object in each line; - for standard input")
	fs.IntVar(&s.batchRows, "batch-rows", 1000, "`rows` in a batch")
	fs.BoolVar(&s.Results, "results", s.Results, "print the flow's output, one row in each line")
	fs.StringVarP(&s.format, "output", "o", "", "`format` of the summary: json (default: for people)")
}

// Run opens a stream with open, sends the rows and waits until all are answered. It prints the flow's output to out, and the first rows that are
// not done, and a summary, to log. A summary in JSON goes to out instead, unless the output goes there. Run returns ErrNotDone if a row is
// dead or failed.
func (s *Submitter) Run(ctx context.Context, open func(context.Context) (Stream, error), in io.Reader, out, log io.Writer) error {
	if s.format != "" && s.format != "json" {
		return fmt.Errorf("--output %q: give json, or leave it out", s.format)
	}
	if s.batchRows < 1 {
		return fmt.Errorf("--batch-rows %d: give 1 or more", s.batchRows)
	}
	s.in, s.out, s.log = in, out, log
	size := int64(-1)
	if s.path != "-" {
		f, err := os.Open(s.path)
		if err != nil {
			return fmt.Errorf("open rows: %w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		s.in = f
	}
	// On one terminal, rows and a progress bar would overwrite each other.
	if isTerminal(log) && (!s.Results || !isTerminal(out)) {
		s.bar = progressbar.DefaultBytes(size, s.Flow)
	}
	began := time.Now()
	sum, err := s.submit(ctx, open)
	if s.bar != nil {
		_ = s.bar.Clear() // an error does not matter: the bar is decoration
	}
	if err != nil && sum.Batches == 0 {
		return err
	}
	to := log
	if s.format == "json" && !s.Results {
		to = out
	}
	if told := sum.tell(to, time.Since(began), s.format == "json"); err == nil {
		err = told
	}
	if err == nil && sum.Counts["dead"]+sum.Counts["failed"] > 0 {
		err = ErrNotDone
	}
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// chunk is the rows of one batch, as read makes it for send.
type chunk struct {
	columns batch.Columns
	lines   []int // the numbers of the rows' lines
	err     error // why the file can't be read on behind these rows; nil means that more comes, or that the file has ended
}

// sentBatch is a batch under way, as send makes it for gather.
type sentBatch struct {
	answer Answer
	lines  []int // the numbers of the rows' lines
	bytes  int   // the size of these lines, for the progress bar
}

// submit runs three goroutines, each of which passes its work to the next: read → send → gather. It returns when all rows are answered, or at
// the first error, with the summary of the rows that were answered.
func (s *Submitter) submit(ctx context.Context, open func(context.Context) (Stream, error)) (*summary, error) {
	sum := &summary{Flow: s.Flow, Counts: map[string]int{}, Revisions: []int64{}}
	stream, err := open(ctx)
	if err != nil {
		return sum, err
	}
	g, ctx := errgroup.WithContext(ctx)
	chunks, sending := make(chan chunk), make(chan sentBatch, underWay)
	// submit does not wait for read: a read of a terminal or a pipe can't be interrupted. The goroutine ends with that read.
	go s.read(ctx, chunks)
	g.Go(func() error {
		defer close(sending)
		return s.send(ctx, stream, chunks, sending)
	})
	g.Go(func() error { return s.gather(ctx, sending, sum) })
	if err := g.Wait(); err != nil {
		return sum, s.inDoubt(err) // without Close, which would wait for answers that are not needed any more
	}
	return sum, errors.Join(s.unread, stream.Close())
}

// inDoubt adds to an error which lines were sent and have no answer, if there are any: they may have taken effect. The user must know that,
// because sending the lines again makes other batches of them, and may take effect twice.
func (s *Submitter) inDoubt(err error) error {
	if s.sentTo <= s.told {
		return err
	}
	return fmt.Errorf("%w\nlines %d to %d were sent and have no answer: they may have taken effect, and sending them again may take effect twice; look at the stored data before you send them again",
		err, s.told+1, s.sentTo)
}

// read packs lines into chunks, and closes the channel after the last one. If the file can't be read to its end, the error of the last
// chunk says why. When ctx is over, read ends at the next line.
func (s *Submitter) read(ctx context.Context, chunks chan<- chunk) {
	defer close(chunks)
	lines := bufio.NewScanner(s.in)
	lines.Buffer(make([]byte, 64<<10), lineBytes)
	var l chunk
	pass := func() bool {
		select {
		case chunks <- l:
			l = chunk{}
			return true
		case <-ctx.Done():
			return false
		}
	}
	number := 0
	for lines.Scan() {
		number++
		row := bytes.TrimSpace(lines.Bytes())
		if len(row) == 0 {
			continue
		}
		l.columns.Append(row)
		l.lines = append(l.lines, number)
		if (len(l.lines) >= s.batchRows || len(l.columns.Data) >= batchBytes) && !pass() {
			return
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		l.err = fmt.Errorf("read rows: line %d has over %d bytes: write one JSON object a line", number+1, lineBytes)
	case err != nil:
		l.err = fmt.Errorf("read rows after line %d: %w", number, err)
	}
	pass()
}

// send makes a batch of each chunk and sends it. It ends after the last chunk, at the first error, or when ctx is over.
func (s *Submitter) send(ctx context.Context, stream Stream, chunks <-chan chunk, sending chan<- sentBatch) error {
	for {
		var l chunk
		var more bool
		select {
		case l, more = <-chunks:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			return nil
		}
		if len(l.lines) > 0 {
			b := sentBatch{lines: l.lines, bytes: len(l.columns.Data) + len(l.lines)}
			var err error
			if b.answer, err = stream.Send(ctx, batch.Pack(l.columns), s.Results); err != nil {
				if errors.Is(err, batch.ErrUnanswered) {
					s.sentTo = l.lines[len(l.lines)-1]
				}
				return err
			}
			s.sentTo = l.lines[len(l.lines)-1]
			select {
			case sending <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s.unread = l.err // only the last chunk has an error; submit returns it when all rows before it are answered
	}
}

// gather waits for the answers, in the order of the batches, adds them to the summary and prints the output.
func (s *Submitter) gather(ctx context.Context, sending <-chan sentBatch, sum *summary) error {
	results := bufio.NewWriter(s.out)
	var omitted error // why the output of some batch is missing; nil means that none is
	for b := range sending {
		r, err := b.answer.Wait(ctx)
		switch {
		case err == nil:
		case r != nil && batch.CodeOf(err) == batch.CodeBatchTooLarge:
			omitted = cmp.Or(omitted, err) // the output was too large, but the rows have outcomes
		default:
			if !errors.Is(err, batch.ErrUnanswered) {
				s.told = b.lines[len(b.lines)-1] // the error says that no row of the batch ran
			}
			return errors.Join(err, results.Flush())
		}
		if len(r.NotDone) > 0 && s.bar != nil && sum.listed < maxListed {
			_ = s.bar.Clear() // an error does not matter: the bar is decoration
		}
		s.told = b.lines[len(b.lines)-1]
		sum.add(r, b.lines, s.log)
		for i := range r.Output.Rows.Len() {
			_, _ = results.Write(r.Output.Rows.Row(i)) // Flush returns the errors of both writes
			_ = results.WriteByte('\n')
		}
		if s.bar != nil {
			_ = s.bar.Add(b.bytes)
		}
		// A user who types rows one by one wants to see each result at once.
		if len(sending) == 0 {
			if err := results.Flush(); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
	}
	return errors.Join(omitted, results.Flush())
}

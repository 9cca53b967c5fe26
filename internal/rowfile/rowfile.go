package rowfile

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
	batchBytes = 2 << 20 // a batch is sent at this size
	lineBytes  = 4 << 20 // a line has at most so many: the two together stay below the limit for a batch
	underWay   = 64      // batches that wait for their answers
)

// ErrNotDone says that rows are dead or failed. Which ones has been told.
var ErrNotDone = errors.New("not all rows are done")

// Stream is what rows go through: a stream of a client, or one in this process.
type Stream interface {
	// Send sends a batch, with or without the flow's output in its answer. It may block.
	Send(ctx context.Context, b *batch.Batch, output bool) (Answer, error)
	// Close blocks until all that was sent is answered.
	Close() error
}

// Answer is a batch's answer to come.
type Answer interface {
	Wait(ctx context.Context) (*batch.Result, error)
}

// Submitter is what the command line says about one file of rows.
type Submitter struct {
	Flow string
	// Results prints what the flow passes on; false asks for no output at all.
	Results bool

	path      string
	batchRows int
	format    string
	in        io.Reader
	out, log  io.Writer
	bar       *progressbar.ProgressBar // nil: nobody looks
	unread    error                    // why not all rows were read; send's until that has ended
	sentTo    int                      // the last line that was sent; send's until that has ended
	told      int                      // the last line whose answer came; gather's until that has ended
}

// BindFlags binds --filename, --batch-rows, --results, by default s.Results, and --output.
func (s *Submitter) BindFlags(fs *pflag.FlagSet) {
	fs.StringVarP(&s.path, "filename", "f", "-", "`file` of rows, one JSON object a line; - for standard input")
	fs.IntVar(&s.batchRows, "batch-rows", 1000, "`rows` in a batch")
	fs.BoolVar(&s.Results, "results", s.Results, "print what the flow passes on, one row a line")
	fs.StringVarP(&s.format, "output", "o", "", "`format` of the summary: json (default: for people)")
}

// Run opens the stream, sends the rows and tells how they ended: what the flow passes on goes to out, the first rows that
// are not done and a summary to log, as JSON to out where no results go there. It returns ErrNotDone when a row is dead or
// failed.
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
	// Rows and a bar on one terminal would write over each other.
	if isTerminal(log) && (!s.Results || !isTerminal(out)) {
		s.bar = progressbar.DefaultBytes(size, s.Flow)
	}
	began := time.Now()
	sum, err := s.submit(ctx, open)
	if s.bar != nil {
		_ = s.bar.Clear() // it is decoration
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

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// chunk is rows for one batch.
type chunk struct {
	columns batch.Columns
	lines   []int // where the rows stand
	err     error // why no more can be read, nil for the end
}

// sentBatch is a batch under way.
type sentBatch struct {
	answer Answer
	lines  []int // of its rows
	bytes  int
}

// submit sends the rows and gathers how they ended, in order.
func (s *Submitter) submit(ctx context.Context, open func(context.Context) (Stream, error)) (*summary, error) {
	sum := &summary{Flow: s.Flow, Counts: map[string]int{}, Revisions: []int64{}}
	stream, err := open(ctx)
	if err != nil {
		return sum, err
	}
	g, ctx := errgroup.WithContext(ctx)
	chunks, sending := make(chan chunk), make(chan sentBatch, underWay)
	// Nobody waits for the reader: nothing can end a read of a terminal or a pipe that nothing comes from. It ends with that.
	go s.read(ctx, chunks)
	g.Go(func() error {
		defer close(sending)
		return s.send(ctx, stream, chunks, sending)
	})
	g.Go(func() error { return s.gather(ctx, sending, sum) })
	if err := g.Wait(); err != nil {
		return sum, s.inDoubt(err) // closing the stream would wait for what nobody asks for any more
	}
	return sum, errors.Join(s.unread, stream.Close())
}

// inDoubt adds to an error which lines may have taken effect: who sends them again sends them in other batches.
func (s *Submitter) inDoubt(err error) error {
	if s.sentTo <= s.told {
		return err
	}
	return fmt.Errorf("%w\nlines %d to %d were sent and have no answer: they may have taken effect, and this command would run them anew; look at what is there before you send them again",
		err, s.told+1, s.sentTo)
}

// read packs lines into chunks, the last of which says why it is the last. It ends when ctx is over, at the next line.
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

// send makes a batch of each chunk.
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
		s.unread = l.err // the last chunk's: told when all that was read is answered
	}
}

// gather waits for the answers.
func (s *Submitter) gather(ctx context.Context, sending <-chan sentBatch, sum *summary) error {
	results := bufio.NewWriter(s.out)
	var omitted error // why rows of the output are not among the results; nil: they all are
	for b := range sending {
		r, err := b.answer.Wait(ctx)
		switch {
		case err == nil:
		case r != nil && batch.CodeOf(err) == batch.CodeBatchTooLarge:
			omitted = cmp.Or(omitted, err) // the rows have their outcomes
		default:
			if !errors.Is(err, batch.ErrUnanswered) {
				s.told = b.lines[len(b.lines)-1] // that nothing of it ran
			}
			return errors.Join(err, results.Flush())
		}
		if len(r.NotDone) > 0 && s.bar != nil && sum.listed < maxListed {
			_ = s.bar.Clear() // it is decoration
		}
		s.told = b.lines[len(b.lines)-1]
		sum.add(r, b.lines, s.log)
		for i := range r.Output.Rows.Len() {
			_, _ = results.Write(r.Output.Rows.Row(i)) // Flush tells about errors
			_ = results.WriteByte('\n')
		}
		if s.bar != nil {
			_ = s.bar.Add(b.bytes)
		}
		// Whoever feeds rows one by one wants to see what becomes of them.
		if len(sending) == 0 {
			if err := results.Flush(); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
	}
	return errors.Join(omitted, results.Flush())
}

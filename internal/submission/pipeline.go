package submission

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// pipeline is one run of a Submitter: its goroutines, and their results.
type pipeline struct {
	*Submitter
	reports *reports
	feed    *feed
	reader  *rowfile.Reader
	counted *countingReader

	stop context.CancelCauseFunc // ends reading and sending
	bad  atomic.Int64            // the number of rows that could not be read

	first chan struct{} // closed when the first batch is answered

	sum    *summary // belongs to gather until that has ended
	ledger *ledger  // belongs to gather until that has ended
	err    error    // the first error of a batch; belongs to gather until that has ended
}

// sentChunk is a chunk under way, as send makes it for gather. answer is nil if it has no rows that can be sent.
type sentChunk struct {
	chunk
	answer Answer
	refuse error // why Send failed
}

// errBad stops a pipeline that has read too many bad rows.
var errBad = errors.New("too many rows can't be read")

// newPipeline makes a pipeline that has not begun.
func newPipeline(s *Submitter, r *reports) *pipeline {
	return &pipeline{
		Submitter: s, reports: r, feed: newFeed(s.batchRows, s.flush), first: make(chan struct{}),
		sum: &summary{Flow: s.Flow, Counts: map[string]int{}, Revisions: []int64{}}, ledger: &ledger{unit: "line"},
	}
}

// submit runs the three goroutines. It returns when every row that was sent is answered, or when the time of grace is over after an
// error or the end of ctx.
func (p *pipeline) submit(ctx context.Context, open func(context.Context) (Stream, error), format rowfile.Format) error {
	// The stream outlives ctx, so that answers under way can still come.
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	opened := context.AfterFunc(ctx, func() { cut(context.Cause(ctx)) })
	stream, err := open(life)
	if !opened() && ctx.Err() != nil {
		return ErrInterrupted
	}
	if err != nil {
		return err
	}
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.stop = stop
	finished := make(chan struct{})
	graceful := context.AfterFunc(reading, func() {
		timer := time.NewTimer(p.grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cut(errors.New("the time of --grace is over"))
		case <-finished:
		}
	})

	p.counted = &countingReader{in: p.in}
	o := rowfile.Options{Format: format, MaxRow: rowBytes, From: p.fromLine}
	if p.Types != nil {
		o.Types = func() (rowfile.Types, error) { return p.Types(reading) }
	}
	p.reader = rowfile.NewReader(p.counted, o)
	// submit does not wait for read: a read of a terminal or a pipe can't be interrupted. The goroutine ends with that read.
	go p.read(reading)
	var g errgroup.Group
	var sendErr error
	sending := make(chan sentChunk, underWay)
	g.Go(func() error {
		defer close(sending)
		sendErr = p.send(reading, stream, sending)
		return nil
	})
	g.Go(func() error { return p.gather(life, sending) })
	printed := g.Wait()
	close(finished)
	graceful()
	if err := p.result(ctx, sendErr, printed); err != nil {
		return err // without Close, which would wait for answers that are not needed any more
	}
	return stream.Close()
}

// result returns the error of a run whose goroutines have ended: sendErr is the error of send, and printed that of gather.
func (p *pipeline) result(ctx context.Context, sendErr, printed error) error {
	p.sum.Unknown, p.sum.Next = p.ledger.ofState(unknown), p.ledger.next
	switch {
	case errors.Is(sendErr, errBad) || p.tooManyBad():
		return errors.Join(fmt.Errorf("%d %ss can't be read, and reading stopped there (--max-bad %d): mend them, or raise --max-bad",
			p.bad.Load(), p.ledger.unit, p.maxBad), p.err, printed)
	case ctx.Err() != nil && (sendErr != nil || p.err != nil):
		return errors.Join(ErrInterrupted, printed)
	case p.err != nil:
		return errors.Join(p.err, printed)
	}
	return errors.Join(sendErr, printed)
}

// read puts rows into the feed until there are no more, or ctx is over.
func (p *pipeline) read(ctx context.Context) {
	keepText := p.reports.rejects != nil
	var in inputRow
	for {
		row, err := p.reader.Next()
		if ctx.Err() != nil {
			p.feed.end(context.Cause(ctx))
			return
		}
		in = inputRow{row: row, line: p.reader.Number(), offset: p.counted.read.Load(), unit: p.reader.Unit(), header: p.reader.Header()}
		bad, isBad := errors.AsType[*rowfile.BadRow](err)
		switch {
		case err == nil:
			if keepText && in.header != nil {
				in.text = bytes.Clone(p.reader.Text())
			}
		case !isBad:
			if errors.Is(err, io.EOF) {
				err = nil
			}
			p.feed.end(err)
			return
		case in.header == nil && len(bad.Text) > 0:
			in.row, in.broken = bad.Text, true
		default:
			in.bad = badRow{line: in.line, code: bad.Code, reason: bad.Reason, text: bytes.Clone(bad.Text)}
		}
		ok := p.feed.add(ctx, &in)
		if isBad && p.countBad(1) {
			p.feed.end(errBad)
			return
		}
		if !ok {
			p.feed.end(context.Cause(ctx))
			return
		}
	}
}

// countBad counts bad rows, and reports whether there are too many now.
func (p *pipeline) countBad(n int64) bool {
	p.bad.Add(n)
	return p.tooManyBad()
}

// tooManyBad reports whether reading is to stop because of bad rows.
func (p *pipeline) tooManyBad() bool { return p.maxBad >= 0 && p.bad.Load() >= int64(max(p.maxBad, 1)) }

// send makes a batch of each chunk and sends it. It ends after the last chunk, at the first error, or when ctx is over. The first batch goes
// alone for a moment: if its rows are of the wrong kind, that is known before many more are sent.
func (p *pipeline) send(ctx context.Context, stream Stream, sending chan<- sentChunk) error {
	sent := 0
	for {
		if sent == 1 {
			alone := time.NewTimer(firstAlone)
			select {
			case <-p.first:
			case <-alone.C:
			case <-ctx.Done():
			}
			alone.Stop()
		}
		c, more, err := p.feed.take(ctx)
		if !more {
			if err != nil {
				p.ledger.next = p.feed.firstLine()
			}
			return err
		}
		s := sentChunk{chunk: c}
		if len(c.lines) > 0 {
			o := p.Submitter.send
			o.Output, o.Lines = p.Results, c.lines
			if p.path != "-" {
				o.Source = p.path
			}
			s.answer, s.refuse = stream.Send(ctx, batch.Pack(c.columns), o)
			sent++
		}
		if s.refuse != nil && !errors.Is(s.refuse, batch.ErrUnanswered) {
			p.ledger.next, _ = c.span()
			return s.refuse
		}
		sending <- s // gather takes it in any case
		if s.refuse != nil {
			return s.refuse
		}
	}
}

// gather waits for the answers, in the order of the batches, adds them to the summary and prints the output. It goes on after an error of a
// batch, because later batches are under way. It returns an error if the output can't be printed.
func (p *pipeline) gather(ctx context.Context, sending <-chan sentChunk) error {
	results := bufio.NewWriter(p.out)
	var printed error // of the output; also why the output of some batch is missing
	told := false     // p.first is closed
	for c := range sending {
		p.ledger.unit = c.unit
		r, err := p.wait(ctx, &c)
		if !told && c.answer != nil {
			close(p.first)
			told = true
		}
		if r == nil {
			p.lost(&c, err)
			continue
		}
		printed = cmp.Or(printed, err)
		p.answered(&c, r)
		for i := range r.Output.Rows.Len() {
			_, _ = results.Write(r.Output.Rows.Row(i)) // Flush returns the errors of both writes
			_ = results.WriteByte('\n')
		}
		if p.bar != nil {
			_ = p.bar.Set64(c.offset)
		}
		// A user who types rows one by one wants to see each result at once.
		if len(sending) == 0 {
			if err := results.Flush(); err != nil {
				printed = cmp.Or(printed, fmt.Errorf("write results: %w", err))
				p.stop(err)
			}
		}
	}
	return cmp.Or(printed, results.Flush())
}

// wait waits for the answer of a chunk. The result is nil if there is none. A chunk without rows that could be sent has an empty result. An
// error beside a result says that only the output is missing.
func (p *pipeline) wait(ctx context.Context, c *sentChunk) (*batch.Result, error) {
	switch {
	case c.refuse != nil:
		return nil, c.refuse
	case c.answer == nil:
		return &batch.Result{}, nil
	}
	r, err := c.answer.Wait(ctx)
	if err != nil && (r == nil || batch.CodeOf(err) != batch.CodeBatchTooLarge) {
		return nil, err
	}
	return r, err
}

// answered notes the result of a chunk.
func (p *pipeline) answered(c *sentChunk, r *batch.Result) {
	if len(r.NotDone)+len(c.bad) > 0 && p.bar != nil && p.sum.listed < maxListed {
		_ = p.bar.Clear() // an error does not matter: the bar is decoration
	}
	first, last := c.span()
	p.ledger.note(first, last, answered)
	p.sum.add(r, &c.chunk, p.log)
	p.reports.note(c, r, "", nil)
	undecodable := int64(0)
	for _, o := range r.NotDone {
		if o.Code == batch.CodeRowUndecodable {
			undecodable++
		}
	}
	if undecodable -= int64(len(c.broken)); undecodable > 0 && p.countBad(undecodable) { // read has counted the broken ones
		p.stop(errBad)
	}
}

// lost notes a chunk that has no result.
func (p *pipeline) lost(c *sentChunk, err error) {
	if p.err == nil {
		p.err = err
		p.stop(err)
	}
	state, outcome := refused, "refused"
	if errors.Is(err, batch.ErrUnanswered) {
		state, outcome = unknown, "unknown"
	}
	first, last := c.span()
	p.ledger.note(first, last, state)
	p.reports.note(c, nil, outcome, err)
}

// countingReader counts the bytes that were read.
type countingReader struct {
	in   io.Reader
	read atomic.Int64
}

// Read implements io.Reader.
func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.read.Add(int64(n))
	return n, err
}

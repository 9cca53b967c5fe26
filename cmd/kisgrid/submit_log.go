package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/submission"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// fileLog is a file that kisgrid submit --log reads as a log: a row's line is its position. Its methods are for the goroutine that sends, but
// for settle.
type fileLog struct {
	client *client.Client
	term   *client.Term

	mu    sync.Mutex
	next  uint64      // the line behind those that were sent; 0 until the first batch; guarded by mu
	gap   bool        // lines in between were not sent, so that the floor stays below them; guarded by mu
	open  []*logChunk // the batches that were sent, oldest first, without those below floor; guarded by mu
	floor uint64      // guarded by mu
}

// logChunk is a batch of a fileLog.
type logChunk struct {
	first, last uint64 // its lines
	settled     bool   // each row has an outcome that stays
}

// beginLog makes the command the reader of the log of this name. It tries again while no coordinator can be reached, for retryFor.
func beginLog(ctx context.Context, c *client.Client, flow, name string, retryFor time.Duration) (*fileLog, error) {
	id := client.LogIDOf("kisgrid submit", name, flow)
	for began := time.Now(); ; {
		term, err := c.BeginTerm(ctx, flow, id, 0, client.Resume())
		if err == nil {
			return &fileLog{client: c, term: term, floor: term.Floor}, nil
		}
		if !batch.CodeOf(err).Retryable() || time.Since(began) > retryFor {
			return nil, fmt.Errorf("begin to read the log %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// place gives the rows of a batch their lines for positions.
func (l *fileLog) place(b *batch.Batch, lines []int) (*logChunk, error) {
	positions := make([]uint64, len(lines))
	for i, line := range lines {
		positions[i] = uint64(line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	chunk := &logChunk{first: positions[0], last: positions[len(positions)-1]}
	if chunk.last-chunk.first != uint64(len(positions)-1) || l.next != 0 && chunk.first != l.next {
		l.gap = true
	}
	l.next = chunk.last + 1
	if !l.gap {
		l.open = append(l.open, chunk)
	}
	return chunk, l.term.Place(b, l.floor, positions)
}

// settle notes that each row of a batch has an outcome that stays, and raises the floor over the batches that are settled without a line
// missing before them: such a line may be mended and submitted later.
func (l *fileLog) settle(chunk *logChunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunk.settled = true
	for len(l.open) > 0 && l.open[0].settled {
		l.floor, l.open = l.open[0].last+1, l.open[1:]
	}
}

// end keeps the floor, so that the next command begins behind these lines, and lets the log take the flow's active revision, if every row is
// settled. Otherwise it does nothing: the next command sends all lines again that are not below the floor.
func (l *fileLog) end(ctx context.Context) error {
	l.mu.Lock()
	over := !l.gap && l.next != 0 && l.floor == l.next
	l.mu.Unlock()
	if !over {
		return nil
	}
	if _, err := l.client.BeginTerm(ctx, l.term.Flow, l.term.Log, l.floor, client.Drained()); err != nil {
		return fmt.Errorf("keep that all lines are done: %w: the next command with this log runs them again, without effect", err)
	}
	return nil
}

// logAnswer is an answer that tells its fileLog when the rows are settled.
type logAnswer struct {
	submission.Answer
	log   *fileLog
	chunk *logChunk
}

// Wait implements submission.Answer.
func (a logAnswer) Wait(ctx context.Context) (*batch.Result, error) {
	r, err := a.Answer.Wait(ctx)
	if r != nil && !slices.ContainsFunc(r.NotDone, func(o batch.RowOutcome) bool { return o.Outcome == batch.Failed }) {
		a.log.settle(a.chunk)
	}
	return r, err
}

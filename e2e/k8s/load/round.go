package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/client"
)

const (
	// streams is how many streams a round uses.
	streams = 4
	// lines is how many lines each stream has: a line is the rows of one shard key.
	lines = 500
	// tick is the time from one batch of a stream to the next.
	tick = 20 * time.Millisecond
	// patience is how long a round waits for answers after its last batch.
	patience = 2 * time.Minute
)

// Report tells how the rows of a round ended. A row without a fault is counted in Rows only.
type Report struct {
	Rows   int `json:"rows"`   // rows that were sent
	Open   int `json:"open"`   // rows that have no answer
	Errors int `json:"errors"` // errors that the SDK returned for a batch
	Failed int `json:"failed"` // rows that came back failed, and were sent again
	Dead   int `json:"dead"`   // rows that came back with another outcome than done and failed

	Lost       int `json:"lost"`       // rows that have left no trace in Redis
	Doubled    int `json:"doubled"`    // traces beyond one for each row
	Disordered int `json:"disordered"` // rows that left their trace after a later row of their line, though they were not sent again

	// Times from when a batch was due to its answer, in milliseconds.
	Median  int64 `json:"median"`
	P99     int64 `json:"p99"`
	Longest int64 `json:"longest"`

	Problems []string `json:"problems,omitempty"` // the first eight texts that say what went wrong
}

// round is one round of load: some rows on their way through flow Load.
type round struct {
	grid *grid
	id   string
	stop context.CancelFunc // ends produce
	done sync.WaitGroup     // counts the goroutines of produce and await

	mu     sync.Mutex
	so     Report                  // the report so far; guarded by mu
	times  []time.Duration         // how long each batch took; guarded by mu
	sent   map[string]int          // by line: how many rows were sent; guarded by mu
	again  map[string]map[int]bool // by line and sequence: rows that were sent again, whose order is free; guarded by mu
	answer context.Context         // bounds the wait for answers
	give   context.CancelFunc      // ends answer
}

// start begins a round that sends rate rows a second, over several streams.
func (g *grid) start(rate int) (*round, error) {
	r := &round{grid: g, id: rand.Text()[:8], sent: map[string]int{}, again: map[string]map[int]bool{}}
	producing, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.answer, r.give = context.WithCancel(context.Background())
	for i := range streams {
		s, err := g.client.Stream(r.answer, "Load")
		if err != nil {
			stop()
			r.give()
			r.done.Wait()
			return nil, err
		}
		r.done.Go(func() { r.produce(producing, s, i, rate/streams) })
	}
	return r, nil
}

// produce sends the rows that are due at each tick on one stream, until ctx is done. number is the stream's number, and rate its
// rows per second. Rows that could not be sent in time are sent late, and their time counts from when they were due.
func (r *round) produce(ctx context.Context, s *client.Stream, number, rate int) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begin, line := time.Now(), 0
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		due := time.Duration(float64(sent) / float64(rate) * float64(time.Second))
		n := int(time.Since(begin).Seconds()*float64(rate)) - sent
		if n <= 0 {
			continue
		}
		n = min(n, 500)
		rows := make([]row, n)
		r.mu.Lock()
		for i := range rows {
			name := fmt.Sprintf("%s:%d:%d", r.id, number, line)
			line = (line + 1) % lines
			r.sent[name]++
			rows[i] = row{name, r.sent[name]}
		}
		r.so.Rows += n
		r.so.Open += n
		r.mu.Unlock()
		sent += n
		b := client.Rows(rows...)
		pending, err := s.Send(r.answer, b, client.NoOutput())
		r.done.Go(func() { r.await(s, b, rows, begin.Add(due), pending, err) })
	}
}

// await waits for the answer to a batch, and sends the batch again until none of its rows has the outcome failed.
func (r *round) await(s *client.Stream, b *client.Batch, rows []row, due time.Time, pending *client.Pending, err error) {
	for {
		var result *client.Result
		if err == nil {
			result, err = pending.Wait(r.answer)
		}
		if r.answer.Err() != nil {
			return
		}
		if r.note(rows, due, result, err) {
			return
		}
		time.Sleep(50 * time.Millisecond)
		pending, err = s.Send(r.answer, b, client.NoOutput())
	}
}

// note counts the answer to a batch. It returns true if the batch has ended, and false if it must be sent again: after an error, or
// if a row failed.
func (r *round) note(rows []row, due time.Time, result *client.Result, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	resend := func(in row) {
		if r.again[in.Line] == nil {
			r.again[in.Line] = map[int]bool{}
		}
		r.again[in.Line][in.Sequence] = true
	}
	if err != nil {
		r.so.Errors++
		r.problem("%v", err)
		for _, in := range rows {
			resend(in)
		}
		return false
	}
	failed := false
	for _, o := range result.NotDone {
		if o.Outcome == client.Failed {
			r.so.Failed++
			failed = true
			resend(rows[o.Row])
		} else {
			r.so.Dead++
		}
		r.problem("%s %s: %s", o.Outcome, o.Code, o.Reason)
	}
	if failed {
		return false
	}
	r.so.Open -= len(rows)
	r.times = append(r.times, time.Since(due))
	return true
}

// problem adds a text to the report, unless the report has it already or has eight texts. The caller holds mu.
func (r *round) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(r.so.Problems) < 8 && !slices.Contains(r.so.Problems, text) {
		r.so.Problems = append(r.so.Problems, text)
	}
}

// report returns the report so far.
func (r *round) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	so := r.so
	if times := slices.Sorted(slices.Values(r.times)); len(times) > 0 {
		so.Median = times[len(times)/2].Milliseconds()
		so.P99 = times[len(times)*99/100].Milliseconds()
		so.Longest = times[len(times)-1].Milliseconds()
	}
	return so
}

// finish ends the round: it sends no more rows, waits for open answers for patience at most, and compares them with the traces.
func (r *round) finish(ctx context.Context) (Report, error) {
	r.stop()
	waiting := time.AfterFunc(patience, r.give)
	r.done.Wait()
	waiting.Stop()
	r.give()
	if err := r.verify(ctx); err != nil {
		return Report{}, err
	}
	return r.report(), nil
}

// verify compares the rows that were sent with the traces in Redis, and deletes the traces.
func (r *round) verify(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.sent))
	for name := range r.sent {
		names = append(names, name)
	}
	for some := range slices.Chunk(names, 200) {
		lists := make([]*redis.StringSliceCmd, len(some))
		if _, err := r.grid.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range some {
				lists[i] = p.LRange(ctx, prefix+name, 0, -1)
				p.Del(ctx, prefix+name)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("read the traces: %w", err)
		}
		for i, name := range some {
			r.compare(name, lists[i].Val())
		}
	}
	return nil
}

// compare counts the faults in the traces of one line: each row must have left one trace, and the traces must be in order. The
// caller holds mu.
func (r *round) compare(name string, trace []string) {
	seen, highest := make([]bool, r.sent[name]+1), 0
	for _, text := range trace {
		sequence, err := strconv.Atoi(text)
		switch {
		case err != nil || sequence < 1 || sequence >= len(seen):
			r.so.Doubled++
			r.problem("line %s has the trace %q, which nobody sent", name, text)
		case seen[sequence]:
			r.so.Doubled++
			r.problem("row %d of line %s took effect twice", sequence, name)
		default:
			seen[sequence] = true
			if sequence < highest && !r.again[name][sequence] {
				r.so.Disordered++
				r.problem("row %d of line %s took effect after row %d", sequence, name, highest)
			}
			highest = max(highest, sequence)
		}
	}
	for sequence, there := range seen[1:] {
		if !there {
			r.so.Lost++
			r.problem("row %d of line %s has left no trace", sequence+1, name)
		}
	}
}

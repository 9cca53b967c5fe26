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
	streams  = 4
	lines    = 500 // of each stream
	tick     = 20 * time.Millisecond
	patience = 2 * time.Minute // for answers, once no rows are sent any more
)

// Report is what became of a round's rows.
type Report struct {
	Rows   int `json:"rows"`   // that were sent
	Open   int `json:"open"`   // that have no answer
	Errors int `json:"errors"` // that the SDK returned, for a batch
	Failed int `json:"failed"` // rows that came back failed, to be sent again
	Dead   int `json:"dead"`   // rows that came back with another outcome than done and failed

	Lost       int `json:"lost"`       // rows that have left no trace
	Doubled    int `json:"doubled"`    // traces too many
	Disordered int `json:"disordered"` // rows with a trace before one of their line that was sent earlier, and had not come back

	// Milliseconds from when a batch was due to its answer.
	Median  int64 `json:"median"`
	P99     int64 `json:"p99"`
	Longest int64 `json:"longest"`

	Problems []string `json:"problems,omitempty"` // the first of them
}

// round is some rows on their way through flow Load.
type round struct {
	grid *grid
	id   string
	stop context.CancelFunc // ends the producing
	done sync.WaitGroup     // producers, and what waits for answers

	mu     sync.Mutex
	so     Report                  // guarded by mu
	times  []time.Duration         // guarded by mu
	sent   map[string]int          // guarded by mu: rows of each line
	again  map[string]map[int]bool // guarded by mu: rows that were sent again by this program, which order does not bind
	answer context.Context         // bounds the waiting for answers
	give   context.CancelFunc
}

// start begins to send so many rows a second.
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

// produce sends what is due at each tick; what could not be sent in time is sent late, and its lateness counts.
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

// await submits a batch until each of its rows has an outcome that is not failed.
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

// note writes down what a batch was answered; false: it must be sent again.
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

func (r *round) problem(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(r.so.Problems) < 8 && !slices.Contains(r.so.Problems, text) {
		r.so.Problems = append(r.so.Problems, text)
	}
}

// report tells how things stand.
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

// finish sends no more, waits for what is unanswered, and looks at the traces.
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

// verify compares what was sent with the traces, and removes these.
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

// compare looks at one line: each sequence once, and in order.
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

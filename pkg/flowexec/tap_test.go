package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// watcher is a tap that keeps what it is shown.
type watcher struct {
	flowexec.Tap
	passed atomic.Int64
	mu     sync.Mutex
	rows   []*flowexec.TappedRow // guarded by mu
}

// newWatcher makes a tap that copies at most so many of the rows that enter a function together.
func newWatcher(copies int) *watcher {
	w := &watcher{Tap: flowexec.Tap{RowBytes: 1000, Spent: func(time.Duration) {}}}
	w.Admit = func(rows int) int {
		w.passed.Add(int64(rows))
		return min(rows, copies)
	}
	w.Show = func(row *flowexec.TappedRow) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.rows = append(w.rows, row)
	}
	return w
}

// told tells what the watcher was shown, a line for each row.
func (w *watcher) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := func(t flowexec.TappedText) string {
		switch {
		case t.Withheld:
			return "withheld"
		case len(t.Data) < t.Size:
			return fmt.Sprintf("%s… of %d", t.Data, t.Size)
		}
		return string(t.Data)
	}
	var lines []string
	for _, r := range w.rows {
		line := fmt.Sprintf("%s %d: %s %s", r.Function, int32(r.Row), text(r.Before), r.Became)
		switch {
		case r.Became == flowexec.Ended:
			line += fmt.Sprintf(" %s %s %d", r.Outcome.Outcome, r.Outcome.Code, r.Outcome.Attempts)
		case r.Became == flowexec.Jumped:
			line += " to " + r.To
		case r.Unchanged:
			line += " unchanged"
		}
		for _, after := range r.After {
			line += " → " + text(after)
		}
		if r.More > 0 {
			line += fmt.Sprintf(" and %d more", r.More)
		}
		if r.OfBatch {
			line += " of the batch"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// TestTap shows rows before and after each kind of function, with what became of them.
func TestTap(t *testing.T) {
	verify := func(f func(ctx context.Context, i in) error) func(*bed, *kis.Registry) {
		return func(_ *bed, r *kis.Registry) { r.Func("f", kis.Verify(f)) }
	}
	for _, c := range []struct {
		name      string
		flow      string
		functions []string
		register  func(*bed, *kis.Registry)
		rows      []string
		want      string
	}{
		{
			name: "a Verify passes a row on unchanged, and drops another", functions: []string{"f Verify"}, rows: []string{row("a", 1), row("b", 2)},
			register: verify(func(_ context.Context, i in) error {
				if i.N == 2 {
					return kis.Drop("not wanted")
				}
				return nil
			}),
			want: `f 0: {"k":"a","n":1} passed unchanged
				f 1: {"k":"b","n":2} ended filtered DROPPED 0`,
		},
		{
			name: "a Calculate makes another row, which the next function gets", functions: []string{"c Calculate", "v Verify"}, rows: []string{row("a", 1)},
			register: func(_ *bed, r *kis.Registry) {
				r.Func("c", kis.Calculate(double))
				r.Func("v", kis.Verify(func(context.Context, out) error { return nil }))
			},
			want: `c 0: {"k":"a","n":1} passed → {"k":"a","m":2}
				v 0: {"k":"a","m":2} passed unchanged`,
		},
		{
			name: "an Expand makes several rows, or none", functions: []string{"e Expand", "v Verify"}, rows: []string{row("a", 2), row("b", 0), row("c", 20)},
			register: func(_ *bed, r *kis.Registry) {
				r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
					for n := range i.N {
						emit(in{i.K, n})
					}
					return nil
				}))
				r.Func("v", kis.Verify(func(_ context.Context, i in) error {
					if i.K == "c" {
						return kis.Drop("too many")
					}
					return nil
				}))
			},
			want: `e 0: {"k":"a","n":2} passed → {"k":"a","n":0} → {"k":"a","n":1}
				e 1: {"k":"b","n":0} ended filtered NOT_COMMITTED 0
				e 2: {"k":"c","n":20} passed → {"k":"c","n":0} → {"k":"c","n":1} → {"k":"c","n":2} → {"k":"c","n":3} → {"k":"c","n":4} → {"k":"c","n":5} → {"k":"c","n":6} → {"k":"c","n":7} → {"k":"c","n":8} → {"k":"c","n":9} → {"k":"c","n":10} → {"k":"c","n":11} → {"k":"c","n":12} → {"k":"c","n":13} → {"k":"c","n":14} → {"k":"c","n":15} and 4 more
				v 0: {"k":"a","n":0} passed unchanged
				v 0: {"k":"a","n":1} passed unchanged
				…20`,
		},
		{
			name: "a row that fails, waits, comes again, and is dead", functions: []string{"f Verify; retry_times: 1; retry_duration: 1s"}, rows: []string{row("a", 1)},
			register: verify(func(context.Context, in) error { return errors.New("no") }),
			want: `f 0: {"k":"a","n":1} waits
				f 0: {"k":"a","n":1} ended dead FUNCTION_ERROR 2`,
		},
		{
			name: "a row that can't be read is shown as it came", functions: []string{"f Verify"}, rows: []string{`{"k":`, row("a", 1)},
			register: verify(func(context.Context, in) error { return nil }),
			want: `f 0: {"k": ended dead ROW_UNDECODABLE 1
				f 1: {"k":"a","n":1} passed unchanged`,
		},
		{
			name: "a row that jumps back goes as it came", functions: []string{"c Calculate", "d Calculate"}, rows: []string{row("a", 1)},
			register: func(_ *bed, r *kis.Registry) {
				r.Func("c", kis.Calculate(double))
				r.Func("d", kis.Calculate(func(ctx context.Context, o out) (out, error) {
					if kis.From(ctx).RowID().Visit == 0 {
						return out{}, kis.Jump("c")
					}
					return out{o.K, 7}, nil
				}))
			},
			want: `c 0: {"k":"a","n":1} passed → {"k":"a","m":2}
				d 0: {"k":"a","m":2} jumped to c
				c 0: {"k":"a","n":1} passed → {"k":"a","m":2}
				d 0: {"k":"a","m":2} passed → {"k":"a","m":7}`,
		},
		{
			name: "a type's own code is not run, also not within any", functions: []string{"i Calculate", "a Calculate", "m Calculate", "v Verify"}, rows: []string{row("a", 1)},
			register: func(_ *bed, r *kis.Registry) {
				r.Func("i", kis.Calculate(func(_ context.Context, i in) (initial, error) { return initial{K: i.K}, nil }))
				r.Func("a", kis.Calculate(func(_ context.Context, i initial) (any, error) { return i, nil }))
				r.Func("m", kis.Calculate(func(context.Context, any) (any, error) {
					return map[string]any{"list": []any{1, "two", nil}}, nil
				}))
				r.Func("v", kis.Verify(func(context.Context, any) error { return nil }))
			},
			want: `i 0: {"k":"a","n":1} passed → withheld
				a 0: withheld passed → withheld
				m 0: withheld passed → {"list":[1,"two",null]}
				v 0: {"list":[1,"two",null]} passed unchanged`,
		},
		{
			name: "a function that does not return", functions: []string{"f Verify; timeout: 1s"}, rows: []string{row("a", 1), row("b", 2)},
			register: verify(func(_ context.Context, i in) error {
				if i.N == 1 {
					time.Sleep(10 * time.Second)
				}
				return nil
			}),
			want: `f 0: {"k":"a","n":1} ended dead FUNCTION_TIMEOUT 1
				f 1: {"k":"b","n":2} passed unchanged`,
		},
		{
			name: "a long row is cut", functions: []string{"f Verify"}, rows: []string{row(strings.Repeat("x", 2000), 1)},
			register: verify(func(context.Context, in) error { return nil }),
			want:     `f 0: {"k":"` + strings.Repeat("x", 994) + `… of 2014 passed unchanged`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := newBed(t, "shard_key: k\n", c.register, c.functions...)
				w := newWatcher(1000)
				b.lanes.Watch([]*flowexec.Tap{&w.Tap})
				p := &flowexec.Part{Plan: b.plan, BatchRows: len(c.rows), Output: true, Attempt: 1, Done: b.done}
				for i, text := range c.rows {
					p.Columns.Append([]byte(text))
					p.Columns.Keys = append(p.Columns.Keys, uint64(i))
				}
				b.lanes.Enqueue(p)
				time.Sleep(time.Minute)
				synctest.Wait()
				if times, _ := b.rows(p); len(times) != len(c.rows) {
					t.Fatalf("after a minute %d of %d rows have ended", len(times), len(c.rows))
				}
				want := strings.ReplaceAll(c.want, "\n\t\t\t\t", "\n")
				got := w.told()
				if before, more, cut := strings.Cut(want, "\n…"); cut {
					lines := strings.Split(got, "\n")
					if n := len(strings.Split(before, "\n")); fmt.Sprint(len(lines)-n) != more {
						t.Errorf("there are %d lines more, not %s", len(lines)-n, more)
					} else {
						got = strings.Join(lines[:n], "\n")
					}
					want = before
				}
				if got != want {
					t.Errorf("shown was\n%s\nnot\n%s", got, want)
				}
			})
		})
	}
}

// TestTapChooses: a tap is for the rows of its function and its key, and copies a sample, spread over the rows that enter together.
func TestTapChooses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(_ *bed, r *kis.Registry) {
			r.Func("c", kis.Calculate(double))
			r.Func("v", kis.Verify(func(context.Context, out) error { return nil }))
		}, "c Calculate", "v Verify")
		sample, ofFunction, ofKey := newWatcher(10), newWatcher(1000), newWatcher(1000)
		ofFunction.Function = "v"
		wanted := keyOf("b")
		ofKey.Key = &wanted
		b.lanes.Watch([]*flowexec.Tap{&sample.Tap, &ofFunction.Tap, &ofKey.Tap})
		rows := make([]string, 50)
		for i := range rows {
			rows[i] = fmt.Sprintf("%c %d", 'a'+i%2, i)
		}
		b.send(rows...)
		synctest.Wait()
		if sample.passed.Load() != 100 || len(sample.rows) < 20 {
			t.Errorf("of %d rows %d were shown", sample.passed.Load(), len(sample.rows))
		}
		var places []uint32
		for _, r := range sample.rows {
			if r.Function == "c" {
				places = append(places, r.Row)
			}
		}
		slices.Sort(places)
		if compact := slices.Compact(slices.Clone(places)); len(compact) != len(places) {
			t.Errorf("rows were chosen twice: %v", places)
		}
		for _, r := range ofFunction.rows {
			if r.Function != "v" {
				t.Errorf("a row of %s was shown", r.Function)
			}
		}
		if ofFunction.passed.Load() != 50 || len(ofFunction.rows) != 50 {
			t.Errorf("of %d rows of v %d were shown", ofFunction.passed.Load(), len(ofFunction.rows))
		}
		for _, r := range ofKey.rows {
			if r.Row%2 == 0 {
				t.Errorf("row %d, of another key, was shown", r.Row)
			}
		}
		if ofKey.passed.Load() != 50 || len(ofKey.rows) != 50 {
			t.Errorf("of %d rows of the key %d were shown", ofKey.passed.Load(), len(ofKey.rows))
		}
		b.lanes.Watch(nil)
		b.send("a 1")
		synctest.Wait()
		if sample.passed.Load() != 100 {
			t.Error("a tap that was taken off was told of a row")
		}
	})
}

// TestTapOfWholeBatch: where nobody knows which rows come from which, all that were made are shown once.
func TestTapOfWholeBatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "", func(_ *bed, r *kis.Registry) {
			r.Func("b", kis.Batch(func(_ context.Context, rows []in) ([]out, error) { return []out{{"sum", len(rows)}}, nil }))
		}, "b Calculate")
		w := newWatcher(1000)
		b.lanes.Watch([]*flowexec.Tap{&w.Tap})
		b.send("a 1", "b 2")
		synctest.Wait()
		if got, want := w.told(), `b 0: {"k":"a","n":1} passed → {"k":"sum","m":2} of the batch
b 1: {"k":"b","n":2} passed of the batch`; got != want {
			t.Errorf("shown was\n%s\nnot\n%s", got, want)
		}
	})
}

// TestTapThatPanics: the run goes on.
func TestTapThatPanics(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", failing, "r Verify")
		w := newWatcher(1000)
		w.Show = func(*flowexec.TappedRow) { panic("a defect") }
		b.lanes.Watch([]*flowexec.Tap{&w.Tap})
		p := b.send("a 0", "b 10")
		b.expectEnded(p, "[0 1] 0→a0 1→b10")
	})
}

// taps are taps for a test that does not look at what they show: they only must not change anything.
func taps() []*flowexec.Tap {
	all, some, key := newWatcher(1000), newWatcher(2), keyOf("a")
	some.Key = &key
	return []*flowexec.Tap{&all.Tap, &some.Tap}
}

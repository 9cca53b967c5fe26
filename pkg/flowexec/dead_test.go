package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// decimal is what a row becomes.
type decimal struct {
	K string  `json:"k"`
	X float64 `json:"x"`
}

// dying registers functions that end rows whose n is 13.
func dying(b *bed, r *kis.Registry) {
	unlucky := func(n float64) error {
		if n == 13 {
			return errors.New("unlucky")
		}
		return nil
	}
	r.Func("check", kis.Verify(func(_ context.Context, i in) error { b.note("check%s%d", i.K, i.N); return unlucky(float64(i.N)) }))
	r.Func("later", kis.Verify(func(_ context.Context, d decimal) error { b.note("later%s%g", d.K, d.X); return unlucky(d.X) }))
	r.Func("retried", kis.Verify(func(_ context.Context, d decimal) error { return unlucky(d.X) }))
	r.Func("widen", kis.Calculate(func(_ context.Context, i in) (decimal, error) { return decimal{i.K, float64(i.N)}, nil }))
	r.Func("nan", kis.Calculate(func(_ context.Context, i in) (decimal, error) { return decimal{i.K, math.NaN()}, nil }))
	r.Func("fail", kis.Verify(func(context.Context, decimal) error { return errors.New("never") }))
	r.Func("thrice", kis.Expand(func(_ context.Context, i in, emit func(decimal)) error {
		for n := range 3 {
			emit(decimal{i.K, float64(i.N + n)})
		}
		return nil
	}))
	r.Func("spoil", kis.Expand(func(_ context.Context, i in, emit func(*decimal)) error {
		emit(map[bool]*decimal{false: {i.K, math.NaN()}}[i.N == 13])
		return nil
	}))
	r.Func("exit", kis.Verify(func(_ context.Context, d decimal) error {
		if d.X == 13 {
			runtime.Goexit()
		}
		return nil
	}))
	r.Func("hang", kis.Verify(func(_ context.Context, d decimal) error {
		if d.X == 13 {
			time.Sleep(time.Hour)
		}
		return nil
	}))
	r.Func("all", kis.Batch(func(_ context.Context, rows []in) ([]decimal, error) {
		var sum float64
		for _, row := range rows {
			sum += float64(row.N)
		}
		return []decimal{{"all", sum}}, nil
	}))
}

// TestDeadRows tells dead rows as they entered their function, whatever had become of them, or why it can't.
func TestDeadRows(t *testing.T) {
	const sharded = "shard_key: k\n"
	for name, c := range map[string]struct {
		flow      string
		functions []string
		rows      []string
		want      []string
		notKept   string
	}{
		"as it came": {sharded, []string{"check Verify", "widen Calculate"}, []string{"a 1", "b 13"},
			[]string{`1 check {"k":"b","n":13}`}, "[1:]"},
		"as it was made": {sharded, []string{"widen Calculate", "later Verify"}, []string{"a 13", "b 1"},
			[]string{`0 later {"k":"a","x":13}`}, "[0:]"},
		"after a retry": {sharded, []string{"widen Calculate", "retried Verify; retry_times: 2; retry_duration: 100"}, []string{"a 13", "b 1", "a 2"},
			[]string{`0 retried {"k":"a","x":13}`}, "[0:]"},
		"some of an expansion": {sharded, []string{"thrice Expand", "later Verify"}, []string{"a 1", "b 12"},
			[]string{`1 later path {"k":"b","x":13}`}, "[1:]"},
		"what was made of it is nil, or can't be written": {sharded, []string{"spoil Expand"}, []string{"a 13", "b 1"},
			[]string{`0 spoil {"k":"a","n":13}`, `1 spoil {"k":"b","n":1}`}, "[0: 1:]"},
		"no JSON": {sharded, []string{"nan Calculate", "fail Verify"}, []string{"a 1"}, nil, "[0:unwritable]"},
		"the goroutine ended": {sharded, []string{"widen Calculate", "exit Verify"}, []string{"a 13", "b 1"},
			[]string{`0 exit {"k":"a","x":13}`}, "[0:]"},
		"the function still has it": {sharded, []string{"widen Calculate", "hang Verify; timeout: 1s"}, []string{"a 13", "b 1"}, nil, "[0:held]"},
		"the batch behind one row": {"", []string{"all Calculate", "later Verify"}, []string{"a 6", "b 7"},
			[]string{`0 later path {"k":"all","x":13}`}, "[0: 1:kept_once]"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := newBed(t, c.flow, dying, c.functions...)
				p := b.part(c.rows, func(p *flowexec.Part) { p.KeepDead, p.Output = 1<<20, true })
				b.lanes.Enqueue(p)
				time.Sleep(10 * time.Second)
				dead, notKept := b.dead()
				if !slices.Equal(dead, c.want) {
					t.Errorf("dead are %q, not %q", dead, c.want)
				}
				if notKept != c.notKept {
					t.Errorf("not kept are %s, not %s", notKept, c.notKept)
				}
				if name == "the function still has it" {
					time.Sleep(time.Hour)
				}
			})
		})
	}
}

// TestDeadRowsNotAskedFor costs nothing, and one that is too large says so.
func TestDeadRowsNotAskedFor(t *testing.T) {
	for limit, want := range map[int]string{0: "[0:]", 5: "[0:too_large]"} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, "shard_key: k\n", dying, "check Verify")
			b.lanes.Enqueue(b.part([]string{"a 13"}, func(p *flowexec.Part) { p.KeepDead = limit }))
			if dead, notKept := b.dead(); len(dead) != 0 || notKept != want {
				t.Errorf("with %d bytes the dead are %q, %s", limit, dead, notKept)
			}
		})
	}
}

// TestStart begins at a function in the middle of the flow, with a row as that reads it, also where rows park on the way.
func TestStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", dying, "check Verify", "widen Calculate", "later Verify", "retried Verify; retry_times: 1", "later Verify")
		for use, want := range []string{"latera1 latera1", "latera1"} {
			place, ok := b.plan.Place("later", use)
			if !ok {
				t.Fatalf("later does not stand in the flow %d times", use+1)
			}
			p := &flowexec.Part{Plan: b.plan, BatchRows: 1, Attempt: 1, Done: b.done, Start: place}
			p.Columns.Append([]byte(`{"k":"a","x":1}`))
			p.Columns.Keys = []uint64{keyOf("a")}
			b.lanes.Enqueue(p)
			b.expect(want)
		}
		for name, use := range map[string]int{"later": 2, "none": 0, "check": -1} {
			if place, ok := b.plan.Place(name, use); ok {
				t.Errorf("%s stands at %d for the %d-th time", name, place, use)
			}
		}
		// A row that dies behind the start, and parks before it does, is told as it was there.
		place, _ := b.plan.Place("retried", 0)
		p := &flowexec.Part{Plan: b.plan, BatchRows: 1, Attempt: 1, Done: b.done, Start: place, KeepDead: 100}
		p.Columns.Append([]byte(`{"k":"a","x":13}`))
		p.Columns.Keys = []uint64{keyOf("a")}
		b.lanes.Enqueue(p)
		time.Sleep(time.Minute)
		if dead, _ := b.dead(); !slices.Equal(dead, []string{`0 retried {"k":"a","x":13}`}) {
			t.Errorf("dead are %q", dead)
		}
	})
}

// part is rows "key number" as one part.
func (b *bed) part(rows []string, change func(*flowexec.Part)) *flowexec.Part {
	p := &flowexec.Part{Plan: b.plan, BatchRows: len(rows), Attempt: 1, Done: b.done}
	for _, text := range rows {
		var key string
		var n int
		if _, err := fmt.Sscan(text, &key, &n); err != nil {
			b.t.Fatal(err)
		}
		p.Columns.Append([]byte(row(key, n)))
		if b.plan.ShardKey() != "" {
			p.Columns.Keys = append(p.Columns.Keys, keyOf(key))
		}
	}
	change(p)
	return p
}

// dead are the dead rows told so far, and for each row that ended dead why it can't be kept.
func (b *bed) dead() (dead []string, notKept string) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var why []string
	for _, run := range b.runs {
		for _, d := range run.Dead {
			path := ""
			if d.Path != 0 {
				path = "path "
			}
			if d.Code == 0 || d.Reason == "" {
				b.t.Errorf("the dead row says neither code nor reason: %+v", d)
			}
			dead = append(dead, fmt.Sprintf("%d %s %s%s", d.Row, d.Function, path, d.Data))
		}
		for _, o := range run.NotDone {
			if o.Outcome == batch.Dead {
				why = append(why, fmt.Sprintf("%d:%s", o.Row, o.NotKept.Name()))
			}
		}
	}
	return dead, "[" + strings.Join(why, " ") + "]"
}

package flowexec_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// compile makes a plan of a flow F with one Verify v.
func compile(t testing.TB, fn func(context.Context, in) error) *flowexec.Plan {
	t.Helper()
	registry := kis.NewRegistry()
	registry.Func("v", kis.Verify(fn))
	plan, err := flowexec.Compile(bundle(t, chain("shard_key: k\n", "v Verify")), registry)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// collector gathers the runs of parts.
type collector struct {
	mu   sync.Mutex
	runs []flowexec.RunResult // guarded by mu
}

func (c *collector) done(r flowexec.RunResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs = append(c.runs, r)
}

// part has one row for each key.
func (c *collector) part(plan *flowexec.Plan, keys ...uint64) *flowexec.Part {
	p := &flowexec.Part{Plan: plan, BatchRows: len(keys), Done: c.done}
	for i, key := range keys {
		p.Columns.Append([]byte(row(fmt.Sprint(key), i)))
	}
	p.Columns.Keys = keys
	return p
}

// rows is how often each row of the part came back, and which as Returned.
func (c *collector) rows(p *flowexec.Part) (times map[uint32]int, returned []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	times = make(map[uint32]int)
	for _, r := range c.runs {
		if r.Part != p {
			continue
		}
		rows := r.Rows
		if rows == nil {
			for i := range p.Len() {
				rows = append(rows, uint32(i))
			}
		}
		for _, i := range rows {
			times[i]++
		}
		returned = append(returned, r.Returned...)
	}
	slices.Sort(returned)
	return times, returned
}

// slot makes a key of a slot; lanes divide the slots into equal ranges.
func slot(n uint64) uint64 { return n | 7<<20 }

func TestRelease(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		plan := compile(t, func(context.Context, in) error { <-free; return nil })
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 2})
		c := new(collector)
		running := c.part(plan, slot(1), slot(40000))
		queued := c.part(plan, slot(1), slot(2), slot(40000), slot(40001), slot(2))
		other := c.part(plan, slot(2), slot(2))
		for _, p := range []*flowexec.Part{running, queued, other} {
			lanes.Enqueue(p)
		}
		synctest.Wait()
		lanes.Release([]batch.Range{{First: 2, Count: 5}, {First: 40001, Count: 1}}, func(p *flowexec.Part) bool { return p != other })
		if _, returned := c.rows(queued); !slices.Equal(returned, []uint32{1, 3, 4}) {
			t.Errorf("rows %v were returned, not those of the slots: 1, 3, 4", returned)
		}
		lanes.Release(nil, func(p *flowexec.Part) bool { return p == other })
		if _, returned := c.rows(other); !slices.Equal(returned, []uint32{0, 1}) {
			t.Errorf("of a part released whole %v were returned", returned)
		}
		close(free)
		if err := lanes.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*flowexec.Part{running, queued, other} {
			times, _ := c.rows(p)
			for i := range uint32(p.Len()) {
				if times[i] != 1 {
					t.Errorf("row %d came back %d times", i, times[i])
				}
			}
		}
		late := c.part(plan, slot(1))
		lanes.Enqueue(late)
		if _, returned := c.rows(late); len(returned) != 1 {
			t.Errorf("a part after Drain was not returned")
		}
		lanes.Stop()
		lanes.Stop()
	})
}

func TestDrainWaitsForContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		plan := compile(t, func(ctx context.Context, _ in) error { <-ctx.Done(); return ctx.Err() })
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1})
		c := new(collector)
		p := c.part(plan, slot(1))
		lanes.Enqueue(p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := lanes.Drain(ctx); err == nil {
			t.Error("Drain says that a run is over which is not")
		}
		lanes.Stop()
		if times, returned := c.rows(p); times[0] != 1 || len(returned) != 0 || c.runs[0].NotDone[0].Code != batch.CodeShutdown {
			t.Errorf("a running row came back as %+v", c.runs)
		}
	})
}

// Rows of a slot run in the order of Enqueue, whatever lane they are on, while other slots run beside them.
func TestOrderPerSlot(t *testing.T) {
	var mu sync.Mutex
	order := make(map[string][]int)
	plan := compile(t, func(_ context.Context, i in) error {
		mu.Lock()
		defer mu.Unlock()
		order[i.K] = append(order[i.K], i.N)
		return nil
	})
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 4})
	defer lanes.Stop()
	c := new(collector)
	next := make(map[uint64]int)
	for range 200 {
		p := &flowexec.Part{Plan: plan, Done: c.done}
		for range 1 + rand.IntN(20) {
			key := slot(rand.Uint64N(16) << 12)
			p.Columns.Append([]byte(row(fmt.Sprint(key), next[key])))
			p.Columns.Keys = append(p.Columns.Keys, key)
			next[key]++
		}
		p.BatchRows = p.Columns.Len()
		lanes.Enqueue(p)
	}
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, n := range next {
		got := order[fmt.Sprint(key)]
		if len(got) != n || !slices.IsSorted(got) {
			t.Errorf("slot %d ran in the order %v", key, got)
		}
	}
}

// A part without keys goes whole to the lane with the least to do, so two whole batches run at the same time.
func TestWholePartsSpread(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		both := make(chan struct{}, 2)
		registry := kis.NewRegistry()
		registry.Func("v", kis.Verify(func(context.Context, in) error {
			both <- struct{}{}
			for len(both) < 2 {
				time.Sleep(time.Millisecond)
			}
			return nil
		}))
		plan, err := flowexec.Compile(bundle(t, chain("", "v Verify")), registry)
		if err != nil {
			t.Fatal(err)
		}
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 2})
		c := new(collector)
		for range 2 {
			p := c.part(plan, 1)
			p.Columns.Keys = nil
			lanes.Enqueue(p)
		}
		if err := lanes.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		lanes.Stop()
		if len(c.runs) != 2 || c.runs[0].Rows != nil {
			t.Errorf("got the runs %+v", c.runs)
		}
	})
}

// Enqueue, Release and Stop at the same time lose no row.
func TestStopLosesNothing(t *testing.T) {
	plan := compile(t, func(context.Context, in) error { return nil })
	for range 20 {
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 3})
		c := new(collector)
		var parts []*flowexec.Part
		for range 50 {
			parts = append(parts, c.part(plan, rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, p := range parts {
				lanes.Enqueue(p)
			}
		})
		wg.Go(func() { lanes.Release([]batch.Range{{First: 0, Count: 30000}}, nil) })
		wg.Go(lanes.Stop)
		wg.Wait()
		for _, p := range parts {
			times, _ := c.rows(p)
			if len(times) != 4 || slices.Max(slices.Collect(maps.Values(times))) != 1 {
				t.Fatalf("the rows of a part came back so often: %v", times)
			}
		}
	}
}

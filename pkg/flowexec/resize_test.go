package flowexec_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// compileAs is compile with other lines in the flow, and retries.
func compileAs(t testing.TB, options string, fn func(context.Context, in) error) *flowexec.Plan {
	t.Helper()
	registry := kis.NewRegistry()
	registry.Func("v", kis.Verify(fn))
	plan, err := flowexec.Compile(bundle(t, chain(options, "v Verify; retry_times: 1; retry_duration: 20ms")), registry)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// More copies of a busy flow are taken up at once: as soon as there are more, as many rows run at the same time, with what
// runs and what is queued as it is.
func TestMoreCopiesOfBusyFlow(t *testing.T) {
	for name, options := range map[string]string{"sharded": "shard_key: k\n", "whole": ""} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var running, most atomic.Int64
				plan := compileAs(t, options, func(context.Context, in) error {
					n := running.Add(1)
					defer running.Add(-1)
					for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
					}
					time.Sleep(300 * time.Millisecond)
					return nil
				})
				lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1})
				defer lanes.Stop()
				c := new(collector)
				for i := range uint64(400) { // two minutes for one copy
					p := c.part(plan, slot(i*160))
					if options == "" {
						p.Columns.Keys = nil
					}
					lanes.Enqueue(p)
				}
				time.Sleep(time.Second)
				if n := most.Load(); n != 1 {
					t.Fatalf("%d rows ran at the same time with one copy", n)
				}
				lanes.Resize(8)
				time.Sleep(time.Second)
				if n := most.Load(); n != 8 {
					t.Errorf("a second after there were 8 copies, %d rows ran at the same time at most", n)
				}
				lanes.Resize(2)
				time.Sleep(time.Second)
				most.Store(0)
				time.Sleep(time.Second)
				if n := most.Load(); n != 2 {
					t.Errorf("a second after there were 2 copies, %d rows ran at the same time", n)
				}
			})
		})
	}
}

// Whatever number of copies a flow gets, and when, each key's rows run one after the other and in order, also those that are
// retried, and each row ends once.
func TestResizeKeepsOrder(t *testing.T) {
	const keys, parts = 40, 300
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				next, failed, inside := map[string]int{}, map[string]int{}, map[string]bool{}
				plan := compileAs(t, "shard_key: k\n", func(_ context.Context, i in) error {
					mu.Lock()
					if inside[i.K] {
						t.Errorf("two rows of key %s run at the same time", i.K)
					}
					if i.N != next[i.K] {
						t.Errorf("row %d of key %s runs, and row %d has not run", i.N, i.K, next[i.K])
					}
					inside[i.K] = true
					again := i.N%7 == 3 && failed[i.K] != i.N
					if again {
						failed[i.K] = i.N
					} else {
						next[i.K]++
					}
					pause := time.Duration(i.N*7%5) * time.Millisecond
					mu.Unlock()
					time.Sleep(pause)
					mu.Lock()
					inside[i.K] = false
					mu.Unlock()
					if again {
						return fmt.Errorf("once more")
					}
					return nil
				})
				lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1 + rnd.IntN(4)})
				c := new(collector)
				count := make([]int, keys)
				var all []*flowexec.Part
				for i := range parts {
					p := &flowexec.Part{Plan: plan, Done: c.done}
					for range 1 + rnd.IntN(30) {
						k := rnd.IntN(keys)
						p.Columns.Append([]byte(row(fmt.Sprint(k), count[k])))
						p.Columns.Keys = append(p.Columns.Keys, slot(uint64(k)*1600))
						count[k]++
					}
					p.BatchRows = p.Columns.Len()
					all = append(all, p)
					lanes.Enqueue(p)
					if i%3 == 0 {
						time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
						lanes.Resize(1 + rnd.IntN(12))
					}
				}
				if err := lanes.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
				lanes.Stop()
				for _, p := range all {
					times, returned := c.rows(p)
					if len(times) != p.Len() || len(returned) > 0 {
						t.Fatalf("of %d rows %d ended, %d were returned", p.Len(), len(times), len(returned))
					}
					for row, n := range times {
						if n != 1 {
							t.Errorf("row %d ended %d times", row, n)
						}
					}
				}
			})
		})
	}
}

// Enqueue, Release, Resize and Stop at the same time lose no row.
func TestResizeLosesNothing(t *testing.T) {
	for range 20 {
		sharded := compile(t, func(context.Context, in) error { return nil })
		whole := compileAs(t, "", func(context.Context, in) error { return nil })
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 2})
		c := new(collector)
		var parts []*flowexec.Part
		for i := range 100 {
			p := c.part(sharded, rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64())
			if i%2 == 0 {
				p.Plan, p.Columns.Keys = whole, nil
			}
			parts = append(parts, p)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, p := range parts {
				lanes.Enqueue(p)
			}
		})
		wg.Go(func() {
			for n := range 10 {
				lanes.Resize(1 + n*7%10)
			}
		})
		wg.Go(func() { lanes.Release([]batch.Range{{First: 0, Count: 30000}}, nil) })
		wg.Go(func() {
			runtime.Gosched()
			lanes.Stop()
		})
		wg.Wait()
		for _, p := range parts {
			times, _ := c.rows(p)
			for row := range uint32(p.Len()) {
				if times[row] != 1 {
					t.Fatalf("row %d came back %d times", row, times[row])
				}
			}
		}
	}
}

// Copies that have no rows cost nothing.
func TestIdleCopiesCostNothing(t *testing.T) {
	measure := func() (bytes uint64, goroutines int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
	}
	plan := compile(t, func(context.Context, in) error { return nil })
	bytes, goroutines := measure()
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 65_536})
	defer lanes.Stop()
	after, running := measure()
	if after > bytes+1<<20 || running > goroutines+2 {
		t.Errorf("65,536 copies without rows cost %d bytes and %d goroutines", after-bytes, running-goroutines)
	}
	c := new(collector)
	p := c.part(plan, slot(1), slot(2), slot(1), slot(60_000))
	lanes.Enqueue(p)
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, running := measure(); running > goroutines+5 {
		t.Errorf("three copies with rows cost %d goroutines", running-goroutines)
	}
	if times, _ := c.rows(p); len(times) != 4 {
		t.Errorf("%d of 4 rows ended", len(times))
	}
}

// Parts without keys don't wait behind one that takes long while another lane is free.
func TestWholePartsPassSlowOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		plan := compileAs(t, "", func(_ context.Context, i in) error {
			if i.K == "0" {
				<-slow
			}
			return nil
		})
		lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 2})
		defer lanes.Stop()
		c := new(collector)
		var parts []*flowexec.Part
		for i := range uint64(20) {
			p := c.part(plan, slices.Repeat([]uint64{i}, 1+int(i)%3)...)
			p.Columns.Keys = nil
			parts = append(parts, p)
			lanes.Enqueue(p)
		}
		synctest.Wait()
		for i, p := range parts {
			if times, _ := c.rows(p); len(times) == 0 && i > 0 {
				t.Errorf("part %d waits behind one that takes long", i)
			}
		}
		close(slow)
	})
}

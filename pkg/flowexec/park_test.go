package flowexec_test

import (
	"context"
	"errors"
	"fmt"
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

func TestOtherKeysGoOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", loader, "l Load", "v Verify")
		b.save("b")
		first := b.send("a 1", "b 1", "a 2", "b 2")
		b.expect("lb1 lb2 vb1 vb2")
		b.expectEnded(first, "[1 3] 1→b1 3→b2")
		second := b.send("b 3", "a 3", "c 1")
		third := b.send("a 4", "b 4")
		b.expect("lb3 vb3 lb4 vb4")
		time.Sleep(10 * time.Second)
		b.save("a")
		b.expect("la1 la2 va1 va2 la3 va3 la4 va4")
		b.expectEnded(first, "[0 1 2 3] 0→a1 1→b1 2→a2 3→b2")
		b.expectEnded(second, "[0 1] 0→b3 1→a3")
		b.save("c")
		b.expect("lc1 vc1")
		b.expectEnded(second, "[0 1 2] 0→b3 1→a3 2→c1")
		b.expectEnded(third, "[0 1] 0→a4 1→b4")
		late := b.send("a 5")
		b.expectEnded(late, "[0] 0→a5")
	})
}

func TestRetryParks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) { loader(b, r); failing(b, r) },
			"r Verify; retry_times: 3; retry_duration: 1s", "v Verify")
		p := b.send("a 2", "b 0", "a 10", "c 9", "b 10", "c 20")
		q := b.send("a 0", "c 0", "d 0")
		b.expect("ra2.1 rb0.1 rc9.1 rb10.1 vb0 vb10 rd0.1 vd0")
		time.Sleep(1200 * time.Millisecond) // 0.8 s to 1.2 s
		synctest.Wait()
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		time.Sleep(1200 * time.Millisecond)
		got := b.noted()
		for key, want := range map[string]string{
			"a": "ra2.2 ra2.3 ra10.1 va2 va10 ra0.1 va0", "c": "rc9.2 rc9.3 rc9.4 rc20.1 vc20 rc0.1 vc0",
		} {
			of := slices.DeleteFunc(strings.Fields(got), func(s string) bool { return s[1:2] != key })
			if strings.Join(of, " ") != want {
				t.Errorf("key %s ran as %v, not %s", key, of, want)
			}
		}
		b.expectEnded(p, "[0 1 2 3 4 5] 3 FUNCTION_ERROR r 0→a2 1→b0 2→a10 4→b10 5→c20")
		b.expectEnded(q, "[0 1 2] 0→a0 1→c0 2→d0")
		for _, r := range b.runs {
			for _, o := range r.NotDone {
				if o.Attempts != 4 {
					t.Errorf("%d attempts are reported of 4", o.Attempts)
				}
			}
		}
	})
}

// Rows that park at different functions go on each where it was, and what its key has behind it stays there.
func TestParkAtDifferentFunctions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) { loader(b, r); failing(b, r) },
			"v Verify", "r Verify; retry_times: 1; retry_duration: 10s", "l Load", "v Verify")
		b.save("b")
		p := b.send("a 0", "b 1", "c 1", "a 1", "b 0")
		q := b.send("a 0", "b 0", "c 0")
		// a's first row waits for its Load; its second had parked before, and waits behind it then.
		b.expect("va0 vb1 vc1 va1 vb0 ra0.1 rb1.1 rc1.1 ra1.1")
		time.Sleep(12 * time.Second)
		got := strings.Fields(b.noted())
		slices.Sort(got)
		if strings.Join(got, " ") != "lb0 lb0 lb1 rb0.1 rb0.1 rb1.2 rc1.2 vb0 vb0 vb0 vb1" {
			t.Errorf("after the retries: %v", got)
		}
		b.save("a")
		b.expect("ra1.2 la0 la1 va0 va1 va0 ra0.1 la0 va0")
		b.save("c")
		b.expect("lc1 vc1 vc0 rc0.1 lc0 vc0")
		b.expectEnded(p, "[0 1 2 3 4] 0→a0 1→b1 2→c1 3→a1 4→b0")
		b.expectEnded(q, "[0 1 2] 0→a0 1→b0 2→c0")
	})
}

// An input row whose outputs park ends with the last of them; what the others did is not done again.
func TestParkInExpansion(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) {
			loader(b, r)
			r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
				for n := range i.N {
					emit(in{i.K + fmt.Sprint(n), i.N})
				}
				return nil
			}))
			r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Incr("sum", i.K, 1); return nil }))
			r.Func("d", kis.Verify(ctxErr(func(i in) error {
				if i.K == "a0" {
					return errors.New("zero")
				}
				return nil
			})))
		}, "e Expand", "s Save", "l Load", "d Verify", "v Verify")
		for _, key := range []string{"a0", "a1", "a3", "b0", "b1"} {
			b.save(key)
		}
		p := b.send("a 4", "b 2", "a 1")
		b.expect("la04 la14 lb02 lb12 va14 vb02 vb12")
		b.expectEnded(p, "[1] 1→b02 1→b12")
		b.save("a2")
		b.expect("la24 la34 va24 va34 la01")
		b.expectEnded(p, "[0 1 2] 0 FUNCTION_ERROR d 2 FUNCTION_ERROR d 0→a14 0→a24 0→a34 1→b02 1→b12")
		values, err := b.store.Connection.Load(t.Context(), []string{"sum"})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(values[0].Fields); got != "[{a0 2} {a1 1} {a2 1} {a3 1} {b0 1} {b1 1}]" {
			t.Errorf("the Saves took effect as %s", got)
		}
	})
}

func TestParkedRowsGoBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", loader, "l Load", "v Verify")
		p := b.send("a 1", "b 1", "a 2", "c 1")
		q := b.send("b 2", "c 2", "a 3")
		b.expectEnded(p, "[]")
		b.lanes.Release([]batch.Range{{First: 'a', Count: 1}}, func(of *flowexec.Part) bool { return of == p })
		b.expectEnded(p, "[0 2] 0 returned  2 returned ")
		b.expectEnded(q, "[]")
		b.save("a")
		b.expect("la3 va3")
		b.lanes.Release([]batch.Range{{First: 'b', Count: 1}}, nil)
		b.expectEnded(p, "[0 1 2] 0 returned  1 returned  2 returned ")
		b.expectEnded(q, "[0 2] 0 returned  2→a3")
		b.save("b") // nobody waits any more
		again := b.send("b 3")
		b.expectEnded(again, "[0] 0→b3")
		b.lanes.Stop()
		b.expectEnded(p, "[0 1 2 3] 0 returned  1 returned  2 returned  3 returned ")
		b.expectEnded(q, "[0 1 2] 0 returned  1 returned  2→a3")
	})
}

// What parks in a run for which Release came too early goes back when the run ends.
func TestReleaseWhileItParks(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			free := make(chan struct{})
			b := newBed(t, flowLines, func(b *bed, r *kis.Registry) {
				loader(b, r)
				r.Func("w", kis.Verify(ctxErr(func(in) error { <-free; return nil })))
			}, "w Verify", "l Load")
			p := b.send("a 1")
			b.expectEnded(p, "[]")
			b.lanes.Release(nil, nil)
			b.expectEnded(p, "[]")
			close(free)
			b.expectEnded(p, "[0] 0 returned ")
		})
	}
}

func TestDrainWaitsForParked(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, flowLines, loader, "l Load", "v Verify")
			p, q := b.send("a 1", "a 2"), b.send("a 3")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := b.lanes.Drain(ctx); err == nil {
				t.Error("Drain did not wait for parked rows")
			}
			go func() {
				time.Sleep(time.Second)
				b.save("a")
			}()
			if err := b.lanes.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			b.expectEnded(p, "[0 1] 0→a1 1→a2")
			b.expectEnded(q, "[0] 0→a3")
		})
	}
}

func TestParkedTimeouts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\ntimeout: 15s\n", func(b *bed, r *kis.Registry) { loader(b, r); failing(b, r) },
			"l Load; wait: 10s", "r Verify; retry_times: 9; retry_duration: 4s")
		p := b.send("a 0", "b 0", "a 0")
		time.Sleep(9 * time.Second)
		b.save("b")
		q := b.send("b 3") // its own time
		b.expectEnded(p, "[1] 1→b0")
		time.Sleep(time.Second)
		// The second row of a waited just as long for its key.
		b.expectEnded(p, "[0 1 2] 0 LOAD_TIMEOUT l 2 LOAD_TIMEOUT l 1→b0")
		if o := b.runs[1].NotDone[0]; !strings.Contains(o.Reason, `connector store had no key "s_a" within 10s`) {
			t.Errorf("the reason is %s", o.Reason)
		}
		late := b.send("c 2")
		time.Sleep(9 * time.Second)
		b.save("c") // 9 s of 15 s are spent; two retries take 6.4 s at least
		time.Sleep(20 * time.Second)
		b.expectEnded(q, "[0] 0→b3")
		b.expectEnded(late, "[0] 0 ROW_TIMEOUT r")
	})
}

func TestParkedDeadline(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, flowLines, loader, "l Load")
			p := &flowexec.Part{Plan: b.plan, BatchRows: 2, Attempt: 1, Done: b.done, Deadline: time.Now().Add(5 * time.Second)}
			for range 2 {
				p.Columns.Append([]byte(row("a", 1)))
				if flowLines != "" {
					p.Columns.Keys = append(p.Columns.Keys, keyOf("a"))
				}
			}
			b.lanes.Enqueue(p)
			time.Sleep(4900 * time.Millisecond)
			b.expectEnded(p, "[]")
			time.Sleep(200 * time.Millisecond)
			b.expectEnded(p, "[0 1] 0 DEADLINE l 1 DEADLINE l")
		})
	}
}

// Without a shard key the whole run parks, and its lane takes the next batch.
func TestWholeRunParks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "", func(b *bed, r *kis.Registry) {
			loader(b, r)
			failing(b, r)
			r.Func("all", batchOf(func(ctx context.Context, rows []in) ([]in, error) {
				c := kis.From(ctx).Cache()
				n, _ := c.Get("runs")
				count, _ := n.(int)
				c.Set("runs", count+1, 0)
				b.note("all%d#%d", len(rows), count)
				return rows, nil
			}))
		}, "l Load", "r Verify; retry_times: 3; retry_duration: 1s", "all Calculate")
		b.save("b")
		p := b.send("a 1", "b 0", "c 0")
		q := b.send("b 0", "b 0")
		b.expect("lb0 lb0 rb0.1 rb0.1 all2#0")
		b.expectEnded(q, "[0 1] 0→b0 1→b0")
		b.save("a")
		b.expect("") // c is not there
		b.save("c")
		b.expect("la1 lb0 lc0 ra1.1")
		more := b.send("b 7")
		b.expect("lb7 rb7.1")
		time.Sleep(1200 * time.Millisecond)
		got := strings.Fields(b.noted())
		slices.Sort(got)
		if want := "all3#1 ra1.2 rb0.1 rb7.2 rc0.1"; strings.Join(got, " ") != want {
			t.Errorf("after the retries: %v, not %s", got, want)
		}
		b.expectEnded(p, "[0 1 2] 0→a1 1→b0 2→c0")
		b.expectEnded(more, "[]")
		b.lanes.Release(nil, nil)
		b.expectEnded(more, "[0] 0 returned ")
	})
}

// A Batch function of a sharded flow that fails is tried again for its run, then for each key; only those keys wait.
func TestWholeFunctionParks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) {
			loader(b, r)
			r.Func("g", batchOf(func(ctx context.Context, rows []in) ([]in, error) {
				text, bad := "", false
				for _, i := range rows {
					text += fmt.Sprintf("%s%d", i.K, i.N)
					bad = bad || i.N == 13
				}
				b.note("%s.%d", text, kis.From(ctx).Attempt)
				if bad {
					return nil, errors.New("13")
				}
				return rows, nil
			}))
		}, "g Calculate; retry_times: 1; retry_duration: 1s", "v Verify")
		p := b.send("a 1", "b 13", "a 2", "c 3")
		q := b.send("d 1", "a 3")
		b.expect("a1b13a2c3.1 d1.1 vd1")
		time.Sleep(1200 * time.Millisecond)
		b.expect("a1b13a2c3.2 a1a2.1 b13.1 c3.1 va1 va2 vc3 a3.1 va3")
		r := b.send("b 1")
		b.expect("")
		time.Sleep(1200 * time.Millisecond)
		b.expect("b13.2 b1.1 vb1")
		b.expectEnded(p, "[0 1 2 3] 1 FUNCTION_ERROR g 0→a1 2→a2 3→c3")
		b.expectEnded(q, "[0 1] 0→d1 1→a3")
		b.expectEnded(r, "[0] 0→b1")
	})
}

// A FaaS Load that returns an error runs again, key by key and with backoff, until its wait is over.
func TestFaaSLoadParks(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			var b *bed
			b = newBed(t, flowLines, func(_ *bed, r *kis.Registry) {
				r.FaaS("f", func(ctx context.Context, flow kis.Flow, rows []*in) error {
					for _, i := range rows {
						values, err := b.store.Connection.Load(ctx, []string{i.K})
						if err != nil || values[0].Missing() {
							return errors.Join(err, fmt.Errorf("no %s", i.K))
						}
					}
					return flow.Next(kis.ActionDataReuse)
				})
			}, "f Load; wait: 5s")
			b.save("b")
			p := b.send("b 1", "a 1", "b 2")
			q := b.send("b 3")
			r := b.send("c 1")
			if flowLines != "" {
				b.expectEnded(p, "[0 2] 0→b1 2→b2")
			}
			b.expectEnded(q, "[0] 0→b3")
			time.Sleep(4 * time.Second)
			b.save("a")
			time.Sleep(1200 * time.Millisecond)
			b.expectEnded(p, "[0 1 2] 0→b1 1→a1 2→b2")
			b.expectEnded(r, "[0] 0 FUNCTION_ERROR f")
		})
	}
}

// A row that jumps back after it was parked goes back to what it was.
func TestParkKeepsLineage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) {
			loader(b, r)
			r.Func("c", kis.Calculate(func(_ context.Context, i in) (in, error) {
				b.note("c%s%d", i.K, i.N)
				return in{i.K, i.N + 1}, nil
			}))
			trips := 0
			r.Func("j", kis.Verify(ctxErr(func(i in) error {
				if trips++; trips < 3 {
					return kis.Jump("c")
				}
				return nil
			})))
			r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Set("x", "n", i.N); return nil }))
		}, "v Verify", "c Calculate", "s Save", "l Load", "j Verify")
		p := b.send("a 1")
		b.expect("va1 ca1")
		b.save("a")
		b.expect("la2 ca1 la2 ca1 la2")
		b.expectEnded(p, "[0] 0→a2")
		for visit := range 3 {
			expect(t, b.store.effects(visit), fmt.Sprintf("1 x.n=2 row 0 output 0 visit %d command 0 of s", visit))
		}
	})
}

// The flow that saves goes on while every lane of the flow that waits is full of parked rows.
func TestSavingIsNotHeldUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n = 2000
		waiting := newBed(t, "shard_key: k\n", loader, "l Load; wait: 5s")
		registry := kis.NewRegistry()
		registry.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error { to.Set(i.K, "n", i.N); return nil }))
		plan, err := flowexec.Compile(bundle(t, chain("shard_key: k\n", "s Save")), registry)
		if err != nil {
			t.Fatal(err)
		}
		saving := flowexec.StartLanes(flowexec.LanesConfig{Flow: "S", Copies: 1, Connectors: pool{waiting.store}})
		defer saving.Stop()
		c := new(collector)
		var parts []*flowexec.Part
		for from := 0; from < n; from += 100 {
			var rows []string
			save := &flowexec.Part{Plan: plan, BatchRows: 100, Attempt: 1, Done: c.done}
			for i := from; i < from+100; i++ {
				rows = append(rows, fmt.Sprintf("k%d 1", i))
				save.Columns.Append([]byte(row(fmt.Sprintf("k%d", n-1-i), 1)))
				save.Columns.Keys = append(save.Columns.Keys, uint64(i))
			}
			waiting.send(rows...)
			parts = append(parts, save)
		}
		synctest.Wait()
		if len(waiting.runs) != 0 {
			t.Fatalf("%d runs ended without what they load", len(waiting.runs))
		}
		for _, p := range parts {
			saving.Enqueue(p)
		}
		if err := waiting.lanes.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended := 0
		for _, r := range waiting.runs {
			ended += len(r.Rows)
			if len(r.NotDone) > 0 {
				t.Fatalf("not done: %+v", r.NotDone[0])
			}
		}
		if ended != n {
			t.Errorf("%d rows ended of %d", ended, n)
		}
	})
}

// What a parked row costs in memory beside its own bytes, with its key in the connector and the batches of a thousand that
// it came in.
func TestParkedMemory(t *testing.T) {
	const rows, size = 100_000, 1000
	for _, test := range []struct {
		name      string
		functions []string
		own       int // bytes of a row where it parks
	}{
		{"as it came", []string{"l Load"}, 0},
		{"typed", []string{"c Calculate", "l Load"}, 24},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) {
				loader(b, r)
				r.Func("c", kis.Calculate(func(_ context.Context, i in) (in, error) { return i, nil }))
			}, append(test.functions[:len(test.functions)-1:len(test.functions)-1], "l Load; wait: 1h")...)
			b.lanes.Stop()
			metrics, parked := countParked(t)
			b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}, Metrics: metrics})
			before := heap()
			bytes := 0
			for from := 0; from < rows; from += size {
				p := &flowexec.Part{Plan: b.plan, BatchRows: size, Attempt: 1, Done: b.done}
				for i := from; i < from+size; i++ {
					p.Columns.Append([]byte(row(fmt.Sprint("key", i), i)))
					p.Columns.Keys = append(p.Columns.Keys, uint64(i)*0x9e3779b97f4a7c15)
				}
				bytes += len(p.Columns.Data)
				b.lanes.Enqueue(p)
			}
			for parked() < rows {
				runtime.Gosched()
			}
			perRow := (heap()-before-bytes)/rows - test.own
			t.Logf("a parked row costs %d bytes beside its own %d", perRow, bytes/rows+test.own)
			if perRow > 300 {
				t.Errorf("that is more than 300 bytes")
			}
			b.lanes.Stop()
		})
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

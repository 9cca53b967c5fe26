package sessions

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// lane is on which of n lanes a key's rows run.
func lane(key, n int) int {
	c := &batch.Columns{}
	c.Append(fmt.Appendf(nil, `{"key":%d}`, key))
	field := batch.NewKeyField("key")
	field.Fill(c)
	return int(c.Keys[0]&0xffff) * n >> 16
}

// TestHotKey sends one key far more rows than its lane can run. Keys of other lanes, on other streams, hardly notice: without
// a limit for what one key may hold they would wait for a whole window of its rows, which takes minutes.
func TestHotKey(t *testing.T) {
	t.Parallel()
	const lanes, hot = 4, 0 // of the sequence 0, which nobody counts
	g := grid(t, 1, func(in row) time.Duration {
		if in.Key == hot {
			return 2 * time.Millisecond
		}
		return 0
	})
	if err := g.Apply("kistype: flow\nflow_name: Touch\nstatus: 1\nshard_key: key\ncopies: 4\nflows: [{fname: Touch}]\n"); err != nil {
		t.Fatal(err)
	}
	var cold []int
	for key := 100; len(cold) < 32; key++ {
		if lane(key, lanes) != lane(hot, lanes) {
			cold = append(cold, key)
		}
	}
	c := g.Client()
	calm := startLoad(t, c, cold, 20*time.Millisecond)
	calm.moves(100)
	_, before := calm.end()

	// Several streams, since each has a window of its own, and the key more rows than the worker has credit for.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pushing sync.WaitGroup
	for range 6 {
		s, err := c.Stream(ctx, "Touch")
		if err != nil {
			t.Fatal(err)
		}
		pushing.Go(func() {
			for err == nil {
				_, err = s.Send(ctx, client.Rows(make([]row, 1000)...))
			}
			_ = s.Close() // what is unanswered is left so
		})
	}
	w := g.Worker(0)
	until(t, "more of the hot key's rows wait than the worker has credit for", func() bool {
		return g.Coordinator(0).Metric("kisgrid_rows_in_flight") > 40_000
	})
	for i := range cold {
		cold[i] += 100_000 // another sequence
		for lane(cold[i], lanes) == lane(hot, lanes) {
			cold[i] += 100_000
		}
	}
	load := startLoad(t, c, cold, 20*time.Millisecond)
	load.moves(100)
	longest, p99 := load.end()
	held := w.Metric("kisgrid_worker_rows_held")
	waiting := g.Coordinator(0).Metric("kisgrid_rows_in_flight")
	cancel()
	pushing.Wait()
	t.Logf("p99 of cold keys: %s, and %s beside %g rows of a hot one, of which the worker held %g; the longest took %s", before, p99, waiting, held, longest)
	if held > waiting/2 {
		t.Errorf("the worker held %g of the hot key's %g rows", held, waiting)
	}
	if p99 > 2*before+10*time.Second { // a slow machine is forgiven this; a window of the hot key's rows takes 80 s
		t.Errorf("cold keys took %s beside a hot one, and %s before", p99, before)
	}
}

// TestSlowWorker lets one worker answer late: only its own keys do.
func TestSlowWorker(t *testing.T) {
	t.Parallel()
	const late = 2 * time.Second
	g := grid(t, 3, nil)
	slow := g.Worker(0)
	var own, others []int
	for key := 0; len(own) < 16 || len(others) < 16; key++ {
		if g.Owner("Touch", fmt.Sprint(key)) == slow {
			own = append(own, key)
		} else {
			others = append(others, key)
		}
	}
	c := g.Client()
	a, b := startLoad(t, c, own, 20*time.Millisecond), startLoad(t, c, others, 20*time.Millisecond)
	a.moves(20)
	b.moves(20)
	restore := slow.Slow(late/2, g.Coordinator(0))
	b.moves(100)
	restore()
	longest, _ := a.end()
	_, p99 := b.end()
	t.Logf("one worker is slower by %s: its keys took up to %s, p99 of the others is %s", late, longest, p99)
	if longest < late/2 {
		t.Error("nothing was slow")
	}
	if p99 > late/2 {
		t.Errorf("keys of other workers took %s", p99)
	}
}

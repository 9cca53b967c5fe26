package sessions

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// lane returns the index of the lane in which the rows of a key run, in a worker with n lanes.
func lane(key, n int) int {
	c := &batch.Columns{}
	c.Append(fmt.Appendf(nil, `{"key":%d}`, key))
	field := batch.NewKeyField("key")
	field.Fill(c)
	return int(c.Keys[0]&0xffff) * n >> 16
}

// TestHotKey sends far more rows of one key than its lane can run. Keys of other lanes, on other streams, must hardly be slower.
// Without a limit for the rows of one key they would wait for a whole window of its rows, which takes minutes.
func TestHotKey(t *testing.T) {
	t.Parallel()
	const lanes, hot = 4, 0 // rows of the hot key have the sequence 0, which the witness does not check
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

	// Several streams send the key, since each has its own window: so the key has more rows than the worker has credit for.
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
			_ = s.Close() // batches without an answer are left alone
		})
	}
	w := g.Worker(0)
	until(t, "more of the hot key's rows wait than the worker has credit for", func() bool {
		return g.Coordinator(0).Metric("kisgrid_rows_in_flight") > 40_000
	})
	for i := range cold {
		cold[i] += 100_000 // other keys, whose sequences begin at 1 again
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
	if p99 > 2*before+10*time.Second { // the limit is wide for slow machines; a window of the hot key's rows takes 80 s
		t.Errorf("cold keys took %s beside a hot one, and %s before", p99, before)
	}
}

// TestWaitingKey has 20,000 rows of one key wait for a Save, in the only lane. Rows of other keys, whose Loads find their keys, must
// not be slower.
func TestWaitingKey(t *testing.T) {
	const waiting, rounds = 20_000, 3
	g := grid(t, 1, nil)
	if err := g.Apply(`kistype: flow
flow_name: Touch
status: 1
shard_key: key
copies: 1
flows: [{fname: Await}, {fname: Touch}]
---
kistype: func
fname: Await
fmode: Load
option: {cname: Store, wait: 1m}
---
kistype: conn
cname: Store
type: redis
addrs: ` + g.Redis() + `
key: await_
`); err != nil {
		t.Fatal(err)
	}
	store := redis.NewClient(&redis.Options{Addr: g.Redis()})
	defer store.Close()
	set := func(key int) {
		t.Helper()
		if err := store.HSet(t.Context(), fmt.Sprint("await_", key), "there", "1").Err(); err != nil {
			t.Fatal(err)
		}
	}
	var keys []int
	for key := 1; key <= 32; key++ {
		keys = append(keys, key)
		set(key)
	}
	c := g.Client()
	measure := func() time.Duration {
		t.Helper()
		l := startLoad(t, c, keys, 5*time.Millisecond)
		l.moves(100)
		_, p99 := l.end()
		return p99
	}
	s, err := c.Stream(t.Context(), "Touch")
	if err != nil {
		t.Fatal(err)
	}
	var calm, beside []time.Duration // measured in turns, because the machine may be busy with other things
	for range rounds {
		calm = append(calm, measure())
		p, err := s.Send(t.Context(), client.Rows(make([]row, waiting)...), client.NoOutput())
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the key is waited for", func() bool { // a worker takes only a share of its credit in rows of one key
			return g.Coordinator(0).Metric("kisgrid_rows_in_flight") >= waiting && g.Worker(0).Metric("kisgrid_lane_parked_rows") > 0
		})
		beside = append(beside, measure())
		set(0)
		if r, err := p.Wait(t.Context()); err != nil || len(r.NotDone) > 0 {
			t.Fatalf("the rows that waited: %v, %+v", err, r)
		}
		if err := store.Del(t.Context(), "await_0").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("p99 of other keys, by rounds: %v, and %v while %d rows wait", calm, beside, waiting)
	slices.Sort(calm)
	slices.Sort(beside)
	if calm, beside := calm[rounds/2], beside[rounds/2]; beside > 2*calm+time.Second { // the limit is wide for slow machines; the rows wait for up to 1m
		t.Errorf("other keys took %s while one waits, and %s before", beside, calm)
	}
}

// TestHotKeyOnItsStream sends ten times as many rows of one key as its lane can run, on a stream that also has keys of other lanes.
// While the window of the stream has room, these must hardly be slower; otherwise they would wait for the rows of the hot key, which
// take four seconds.
func TestHotKeyOnItsStream(t *testing.T) {
	t.Parallel()
	const lanes, hot, every = 4, 0, 20 * time.Millisecond
	g := grid(t, 1, func(in row) time.Duration {
		if in.Key == hot {
			return time.Millisecond
		}
		return 0
	})
	if err := g.Apply("kistype: flow\nflow_name: Touch\nstatus: 1\nshard_key: key\ncopies: 4\nflows: [{fname: Touch}]\n"); err != nil {
		t.Fatal(err)
	}
	var cold [2][]int // keys that are sent without the hot key, and keys that are sent beside it
	for key := 100; len(cold[1]) < 16; key++ {
		if lane(key, lanes) != lane(hot, lanes) {
			half := min(1, len(cold[0])/16)
			cold[half] = append(cold[half], key)
		}
	}
	s, err := g.Client().Stream(t.Context(), "Touch")
	if err != nil {
		t.Fatal(err)
	}
	calm := startLoadOn(t, s, cold[0], every)
	calm.moves(30)
	_, before := calm.end()

	load := startLoadOn(t, s, cold[1], every)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for range 20 {
		<-ticker.C
		if _, err := s.Send(t.Context(), client.Rows(make([]row, 200)...)); err != nil {
			t.Fatal(err)
		}
	}
	_, p99 := load.end()
	waiting := g.Coordinator(0).Metric("kisgrid_rows_in_flight")
	t.Logf("p99 of cold keys: %s, and %s beside a hot one, %g of whose 4000 rows are left", before, p99, waiting)
	if waiting < 1000 {
		t.Error("the hot key is not too hot for its lane")
	}
	if p99 > 2*before+time.Second { // the limit is wide for busy machines
		t.Errorf("cold keys took %s beside a hot one on their stream, and %s before", p99, before)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSlowWorker has one worker answer late. Only its own keys may be slow. Keys of other workers must not wait for it, neither on
// other streams nor on the same one, whose window it does not fill.
func TestSlowWorker(t *testing.T) {
	t.Parallel()
	const late = 4 * time.Second
	// The lease is so long that the worker is slow and is not given up: otherwise other workers would get its keys.
	g := grid(t, 3, nil, flowtest.Lease(40*time.Second))
	slow := g.Worker(0)
	var own, others [2][]int
	for key := 0; len(own[1]) < 8 || len(others[1]) < 8; key++ {
		keys := &others
		if g.Owner("Touch", fmt.Sprint(key)) == slow {
			keys = &own
		}
		half := min(1, len(keys[0])/8)
		keys[half] = append(keys[half], key)
	}
	c := g.Client()
	shared, err := c.Stream(t.Context(), "Touch")
	if err != nil {
		t.Fatal(err)
	}
	var loads [4]*load // with keys of the slow worker and of others; the first two share a stream
	for i := range loads {
		keys := [...][]int{own[0], others[0], own[1], others[1]}[i]
		if i < 2 {
			loads[i] = startLoadOn(t, shared, keys, 20*time.Millisecond)
		} else {
			loads[i] = startLoad(t, c, keys, 20*time.Millisecond)
		}
		loads[i].moves(20)
	}
	restore := slow.Slow(late/2, g.Coordinator(0))
	loads[1].moves(100)
	loads[3].moves(100)
	restore()
	for _, l := range loads { // all stop at the same time
		l.halt()
	}
	for i, l := range loads {
		longest, p99 := l.end()
		switch i {
		case 0, 2:
			t.Logf("stream %d: a worker is slower by %s, and its keys took up to %s", i/2+1, late, longest)
			if longest < late/2 {
				t.Error("nothing was slow")
			}
		default:
			t.Logf("stream %d: p99 of the others' keys is %s", i/2+1, p99)
			if p99 > late/2 {
				t.Errorf("keys of other workers took %s", p99)
			}
		}
	}
	if err := shared.Close(); err != nil {
		t.Error(err)
	}
	if g.Owner("Touch", fmt.Sprint(own[0][0])) != slow {
		t.Error("the worker was given up")
	}
}

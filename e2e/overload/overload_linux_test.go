// Package overload has clients send more rows than a cluster of processes can run, and checks memory and latency.
package overload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestMain(m *testing.M) { os.Exit(testprocess.Main(m, "../../cmd/coordinator", "./slow")) }

// most is the memory that a coordinator or a worker with the default budgets may take, in bytes.
const most = 256 << 20

// TestOverload has ten clients send as fast as they can, by streams and by calls, to a flow that takes a millisecond for each row.
// The clients are slowed down, coordinator and worker stay small, and another flow is hardly slower.
func TestOverload(t *testing.T) {
	const (
		clients = 10
		calm    = 2 * time.Second
		pushing = 7 * time.Second
	)
	address, coordinator, worker := startGrid(t, nil)
	var sent, blocked atomic.Int64             // rows that were sent; the longest time of a Send, in nanoseconds
	var refused, unhinted, broken atomic.Int64 // calls that the coordinator refused; those of them without a time to wait; calls whose connection broke
	count := func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, in, out, conn, opts...)
		switch status.Code(err) {
		case codes.ResourceExhausted:
			refused.Add(1)
			if e, ok := errors.AsType[*batch.Error](wire.FromStatus(err)); !ok || e.RetryAfter <= 0 {
				unhinted.Add(1)
			}
		case codes.Unavailable:
			broken.Add(1)
		}
		return err
	}
	dial := func() *client.Client {
		c, err := client.Dial(address, client.WithRetryFor(time.Minute), client.WithDialOptions(grpc.WithChainUnaryInterceptor(count)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	quick := dial()
	before := latencies(t, quick, calm)

	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	var since [clients]atomic.Int64 // when the current Send began, in Unix nanoseconds; 0 means that there is none
	for k := range clients {
		c := dial()
		load.Go(func() {
			s, err := c.Stream(ctx, "Slow")
			if err != nil {
				if ctx.Err() == nil { // otherwise it has waited for room until the end of the test
					t.Errorf("open a stream: %v", err)
				}
				return
			}
			for {
				began := time.Now()
				since[k].Store(began.UnixNano())
				_, err := s.Send(ctx, rows(1000))
				since[k].Store(0)
				raise(&blocked, int64(time.Since(began)))
				if err != nil {
					break // the test is over
				}
				sent.Add(1000)
			}
			_ = s.Close() // batches without an answer are left alone
		})
		var callers []*client.Client // each has 8 MiB of calls under way; all together have more than the budget
		for range 2 {
			callers = append(callers, dial())
		}
		for i := range 16 {
			c := callers[i%len(callers)]
			load.Go(func() {
				for pause(ctx, rand.N(time.Second)); ctx.Err() == nil; {
					if _, err := c.Submit(ctx, "Slow", rows(10_000)); err != nil && ctx.Err() == nil {
						t.Errorf("submit: %v", err)
					}
				}
			})
		}
	}
	during := latencies(t, quick, pushing)
	for k := range since {
		if began := since[k].Load(); began > 0 { // this Send still blocks
			raise(&blocked, time.Now().UnixNano()-began)
		}
	}
	t.Logf("%d rows were sent by streams; a Send blocked for up to %s; %d calls were refused for a while, %d broke and were repeated",
		sent.Load(), time.Duration(blocked.Load()).Round(time.Millisecond), refused.Load(), broken.Load())
	t.Logf("the quick flow's p50 and p99: %s and %s before, %s and %s beside the overload",
		quantile(before, 50), quantile(before, 99), quantile(during, 50), quantile(during, 99))

	if refused.Load() == 0 || unhinted.Load() > 0 {
		t.Errorf("%d calls were refused, %d without a time to wait", refused.Load(), unhinted.Load())
	}
	if blocked := time.Duration(blocked.Load()); blocked < time.Second {
		t.Errorf("no Send blocked for longer than %s", blocked)
	}
	if p99 := quantile(during, 99); p99 > 15*time.Second { // behind the rows of the slow flow it would wait for minutes
		t.Errorf("the quick flow waits for the slow one: p99 is %s", p99)
	}
	for _, p := range []*testprocess.Process{coordinator, worker} {
		if size := p.Peak(); size > most {
			t.Errorf("%s took %d MiB, and may take %d", p.Name(), size>>20, most>>20)
		} else {
			t.Logf("%s took up to %d MiB", p.Name(), size>>20)
		}
	}
}

// raise sets number to n if it is lower.
func raise(number *atomic.Int64, n int64) {
	for {
		old := number.Load()
		if old >= n || number.CompareAndSwap(old, n) {
			return
		}
	}
}

// flows are the flows of the grid: by name, the rest of their documents.
var flows = map[string]string{
	"Slow":       "shard_key: key\nflows: [{fname: Slow}]\n",
	"Quick":      "shard_key: key\nflows: [{fname: Quick}]\n",
	"Wide":       "shard_key: key\nflows: [{fname: Wide}]\n",
	"WideThen":   "shard_key: key\nflows: [{fname: Wide}, {fname: Quick}]\n",
	"Large":      "shard_key: key\nflows: [{fname: Large}, {fname: Quick}]\n",
	"WideWhole":  "flows: [{fname: Quick}, {fname: Wide}]\n",
	"Grow":       "shard_key: key\nflows: [{fname: Grow}]\n",
	"GrowWhole":  "flows: [{fname: Grow}]\n",
	"LargeWhole": "flows: [{fname: Quick}, {fname: Large}]\n",
}

// flags are more flags of a program, by the name of the program.
type flags map[string][]string

// startGrid starts etcd, a worker and a coordinator with more flags, and waits until all flows run.
func startGrid(t *testing.T, more flags) (address string, coordinator, w *testprocess.Process) {
	t.Helper()
	g := testgrid.New(t)
	g.Coordinator.Flags = more["coordinator"]
	g.Worker = testgrid.Program{Path: "slow", Flags: more["worker"]}
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	var documents []definition.Document
	for name, mode := range map[string]string{"Slow": "Calculate", "Quick": "Calculate", "Wide": "Expand", "Large": "Calculate", "Grow": "Calculate"} {
		documents = append(documents, testgrid.Document(definition.KindFunc, name, "fmode: "+mode+"\n"))
	}
	for name, body := range flows {
		documents = append(documents, testgrid.Document(definition.KindFlow, name, "status: 1\n"+body))
	}
	testgrid.OpenDefinitions(t, g.Etcd).Put(documents...)
	w = g.StartWorker("worker")
	c := g.AddCoordinator().Start().Ready()
	quick := g.Dial()
	for flow := range flows {
		testprocess.Until(t, "flow "+flow+" runs", func() error {
			_, err := quick.Submit(t.Context(), flow, rows(1))
			return err
		})
	}
	return c.Address, c.Process, w
}

// texts are 20,000 rows of about 100 bytes, each with another key.
var texts = sync.OnceValue(func() []string {
	all := make([]string, 20_000)
	for i := range all {
		all[i] = fmt.Sprintf(`{"key":%d,"text":"%s"}`, i, strings.Repeat("x", 70))
	}
	return all
})

// rows makes a batch of n of the rows in texts.
func rows(n int) *client.Batch {
	all := texts()
	first := rand.IntN(len(all) - n)
	return client.Rows(all[first : first+n]...)
}

// latencies sends a few rows to the flow of the function Quick every 10 ms, for the duration d. It returns how long each batch
// took.
func latencies(t *testing.T, c *client.Client, d time.Duration) []time.Duration {
	t.Helper()
	s, err := c.Stream(t.Context(), "Quick")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var began []time.Time // when each batch was sent; guarded by mu
	var all []time.Duration
	load := testgrid.Load{
		Stream: s, Every: 10 * time.Millisecond,
		Next: func(int) *client.Batch {
			mu.Lock()
			defer mu.Unlock()
			began = append(began, time.Now())
			return rows(5)
		},
		Answered: func(n int, _ *client.Result, err error) {
			if err != nil {
				t.Errorf("the quick flow: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, time.Since(began[n]))
		},
	}
	over := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	if err := load.Run(t.Context(), over); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return all
}

// quantile returns a percentile of some durations; percent says which.
func quantile(all []time.Duration, percent int) time.Duration {
	slices.Sort(all)
	return all[len(all)*percent/100].Round(time.Microsecond)
}

// pause waits for a duration, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

package overload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// made is a row of the flows Keyed and Whole. Rows says how many output rows the function makes of it; these have a Text.
type made struct {
	ID   int    `json:"id"`
	Rows int    `json:"rows"`
	Text string `json:"text,omitempty"`
}

// smallGrid is a coordinator with a small budget and a worker in this process.
type smallGrid struct {
	address     string
	worker      *worker.Worker
	coordinator *coordinator.Coordinator
	startWorker func() *worker.Worker // starts one more worker

	mu   sync.Mutex
	ran  map[int]int // by id of a row: how often its function was called; guarded by mu
	open []net.Conn  // connections from the coordinator to the worker; guarded by mu
}

// smallBudget is the budget of the coordinator, in bytes. Half of it is the most output that a worker may make before clients take
// it.
const smallBudget = 3 << 20

// startSmallGrid starts etcd as a process, and the worker and the coordinator in this process, and waits until the flows run.
func startSmallGrid(t *testing.T) *smallGrid {
	t.Helper()
	g := &smallGrid{ran: map[int]int{}}
	etcd := testprocess.Address(t)
	testgrid.StartEtcd(t, etcd, t.TempDir())
	definitions := testgrid.OpenDefinitions(t, etcd)
	documents := []definition.Document{
		testgrid.Document(definition.KindFunc, "Make", "fmode: Expand\n"),
		testgrid.Document(definition.KindFunc, "Pass", "fmode: Calculate\n"),
	}
	small := map[string]string{
		"Keyed": "shard_key: id\nflows: [{fname: Make}]\n", "Whole": "flows: [{fname: Make}]\n", "Other": "shard_key: id\nflows: [{fname: Pass}]\n",
	}
	for name, body := range small {
		documents = append(documents, testgrid.Document(definition.KindFlow, name, "status: 1\n"+body))
	}
	definitions.Put(documents...)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	run := func(run func(context.Context) error) {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("it ended: %v", err)
			}
		})
	}
	registry := kis.NewRegistry()
	registry.Func("Make", kis.Expand(g.make))
	registry.Func("Pass", kis.Calculate(func(_ context.Context, in made) (made, error) { return in, nil }))
	g.startWorker = func() *worker.Worker {
		listen := testprocess.Address(t)
		w, err := worker.New(worker.Config{Registry: registry, Listen: listen, Advertise: listen, Etcd: cluster.Config{Endpoints: []string{etcd}}})
		if err != nil {
			t.Fatal(err)
		}
		run(w.Run)
		return w
	}
	g.worker = g.startWorker()
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	c, err := coordinator.New(coordinator.Config{
		Store: definitions.Store, Listener: listener, Budget: smallBudget, Limits: batch.Limits{BatchRows: 1000, BatchBytes: 128 << 10, RowBytes: 64 << 10},
		DialWorker: func(ctx context.Context, w cluster.Worker) (net.Conn, error) {
			conn, err := (&transport.Config{}).DialTCP(ctx, w.Address)
			if err == nil {
				g.mu.Lock()
				g.open = append(g.open, conn)
				g.mu.Unlock()
			}
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(c.Run)
	g.coordinator = c
	quick, err := client.Dial(g.address, client.WithRetryFor(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Close()
	for flow := range small {
		testprocess.Until(t, "flow "+flow+" runs", func() error {
			_, err := quick.Submit(t.Context(), flow, client.Rows(`{"id":-1}`))
			return err
		})
	}
	return g
}

// text is the text of output rows: 32 rows come to 128 KiB.
var text = strings.Repeat("x", 4<<10)

// make is the function Make: it makes as many rows as its row says, and counts how often it runs for each row.
func (g *smallGrid) make(_ context.Context, in made, emit func(made)) error {
	g.mu.Lock()
	g.ran[in.ID]++
	g.mu.Unlock()
	for range in.Rows {
		emit(made{ID: in.ID, Text: text})
	}
	return nil
}

// cut breaks the connections between the coordinator and the worker.
func (g *smallGrid) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range g.open {
		_ = conn.Close()
	}
	g.open = nil
}

// waiting returns the number of lanes of a worker that wait to begin a run until enough output of earlier runs was taken.
func waiting(t *testing.T, w *worker.Worker) (n float64) {
	t.Helper()
	families, err := w.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "kisgrid_worker_lanes_waiting" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("the worker does not say how many lanes wait")
	return 0
}

// slowConn is a connection of a client that reads slowly: a pause before each read, and few bytes in each.
type slowConn struct {
	net.Conn
	pause *atomic.Int64 // nanoseconds before each read
}

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(time.Duration(c.pause.Load()))
	return c.Conn.Read(p[:min(len(p), 16<<10)])
}

// slowly is the option that makes the connections of a client slow.
func slowly(pause *atomic.Int64) client.Option {
	return client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := (&transport.Config{}).DialTCP(ctx, address)
		return slowConn{conn, pause}, err
	}))
}

// dial makes a client of the coordinator.
func (g *smallGrid) dial(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.Dial(g.address, append(opts, client.WithRetryFor(time.Minute))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// send sends batches of rows to a flow, with ids from first on: batches is their number, rows the number of rows in each, and each
// the number of output rows that the function makes of a row. The returned function end waits for all answers, and checks that each
// row ran once.
func (g *smallGrid) send(t *testing.T, c *client.Client, flow string, first, batches, rows, each int) (end func()) {
	t.Helper()
	s, err := c.Stream(t.Context(), flow)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		var mu sync.Mutex
		var all error // of batches; guarded by mu
		load := testgrid.Load{
			Stream: s,
			Next: func(n int) *client.Batch {
				if n == batches {
					return nil
				}
				all := make([]string, rows)
				for i := range all {
					all[i] = fmt.Sprintf(`{"id":%d,"rows":%d}`, first+n*rows+i, each)
				}
				return client.Rows(all...)
			},
			Answered: func(_ int, r *client.Result, err error) {
				switch {
				case err != nil:
				case len(r.NotDone) > 0:
					err = fmt.Errorf("%d rows are not done, the first %v", len(r.NotDone), r.NotDone[0])
				case r.Output.Rows.Len() != rows*each:
					err = fmt.Errorf("%d rows came of %d, want %d", r.Output.Rows.Len(), rows, rows*each)
				}
				mu.Lock()
				defer mu.Unlock()
				all = errors.Join(all, err)
			},
		}
		err := load.Run(t.Context(), nil)
		ended <- errors.Join(err, all, t.Context().Err())
	}()
	return func() {
		t.Helper()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Fatalf("flow %s, %d batches: %v", flow, batches, err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for id := first; id < first+batches*rows; id++ {
			if n := g.ran[id]; n != 1 {
				t.Errorf("flow %s, %d batches: row %d ran %d times", flow, batches, id, n)
			}
		}
	}
}

// waits returns nil if a lane of the worker waits, as waiting counts them, and else an error.
func waits(t *testing.T, w *worker.Worker) error {
	t.Helper()
	if waiting(t, w) == 0 {
		return errors.New("no lane waits")
	}
	return nil
}

// TestClientThatTakesSlowly has a client read its answers more slowly than the worker makes them; they are many times the budget of
// the coordinator. The client gets each answer once, and each row runs once, although the session between coordinator and worker
// breaks meanwhile. Another flow goes on.
func TestClientThatTakesSlowly(t *testing.T) {
	g := startSmallGrid(t)
	var pause atomic.Int64
	slow, quick := g.dial(t, slowly(&pause)), g.dial(t)
	id := 0
	for _, c := range []struct {
		flow                string
		batches, rows, each int
	}{
		{"Keyed", 60, 4, 8}, {"Whole", 60, 4, 8}, {"Whole", 2, 100, 10}, {"Keyed", 2, 100, 10},
	} {
		what := fmt.Sprintf("flow %s, %d batches", c.flow, c.batches)
		pause.Store(int64(10 * time.Millisecond))
		first := id
		id += c.batches * c.rows
		end := g.send(t, slow, c.flow, first, c.batches, c.rows, c.each)
		testprocess.Until(t, what+": the worker waits for the client", func() error {
			return waits(t, g.worker)
		})
		for range 5 {
			r, err := quick.Submit(t.Context(), "Other", client.Rows(`{"id":1}`, `{"id":2}`))
			if err != nil || len(r.NotDone) > 0 || r.Output.Rows.Len() != 2 {
				t.Fatalf("%s: beside it another flow: %v, %v", what, r, err)
			}
		}
		g.cut()
		testprocess.Until(t, what+": another flow goes on after the cut", func() error {
			_, err := quick.Submit(t.Context(), "Other", client.Rows(`{"id":1}`))
			return err
		})
		pause.Store(int64(time.Millisecond))
		end()
		if n := waiting(t, g.worker); n != 0 {
			t.Errorf("%s: at the end %v lanes wait", what, n)
		}
	}
}

// TestWorkerLeavesBesideSlowClient drains a worker that waits for a client, after another worker has joined and taken some of its
// keys. The drain must not wait for the client, and each row must run once.
func TestWorkerLeavesBesideSlowClient(t *testing.T) {
	g := startSmallGrid(t)
	var pause atomic.Int64
	pause.Store(int64(100 * time.Millisecond)) // with this pause the whole answer would take minutes
	slow := g.dial(t, slowly(&pause))
	var ends []func()
	for i, flow := range []string{"Keyed", "Whole"} {
		ends = append(ends, g.send(t, slow, flow, 1000*i, 60, 4, 8))
	}
	testprocess.Until(t, "the worker waits for the client", func() error { return waits(t, g.worker) })
	second := g.startWorker()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.coordinator.AwaitWorkers(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := g.worker.Drain(ctx); err != nil {
		t.Errorf("the worker waits for the client as it drains: %v", err)
	}
	testprocess.Until(t, "the other worker waits for the client", func() error { return waits(t, second) })
	pause.Store(0)
	for _, end := range ends {
		end()
	}
}

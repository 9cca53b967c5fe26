package overload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/process"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// made is a row of flow Keyed and Whole, and what is made of it: so many rows with a text.
type made struct {
	ID   int    `json:"id"`
	Rows int    `json:"rows"`
	Text string `json:"text,omitempty"`
}

// smallGrid is a coordinator with a small budget and a worker in this process.
type smallGrid struct {
	address string
	worker  *worker.Worker

	mu   sync.Mutex
	ran  map[int]int // how often a row's function was called; guarded by mu
	open []net.Conn  // from the coordinator to the worker; guarded by mu
}

// smallBudget is the coordinator's. Half of it is what a worker may make before clients take it.
const smallBudget = 3 << 20

func startSmallGrid(t *testing.T) *smallGrid {
	t.Helper()
	g := &smallGrid{ran: map[int]int{}}
	etcd, dir := process.Address(t), t.TempDir()
	process.StartEtcd(t, "http://"+etcd, dir, func() (io.Closer, error) {
		return devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{Address: etcd, DataDir: dir})
	})
	open := func() *cluster.Store {
		store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	store := open()
	documents := []definition.Document{
		{Kind: definition.KindFunc, Name: "Make", YAML: []byte("kistype: func\nfname: Make\nfmode: Expand\n")},
		{Kind: definition.KindFunc, Name: "Pass", YAML: []byte("kistype: func\nfname: Pass\nfmode: Calculate\n")},
	}
	small := map[string]string{
		"Keyed": "shard_key: id\nflows: [{fname: Make}]\n", "Whole": "flows: [{fname: Make}]\n", "Other": "shard_key: id\nflows: [{fname: Pass}]\n",
	}
	for name, body := range small {
		documents = append(documents, definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte("kistype: flow\nflow_name: " + name + "\nstatus: 1\n" + body)})
	}
	if _, err := store.PutDocuments(t.Context(), nil, documents, nil); err != nil {
		t.Fatal(err)
	}
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
	listen := process.Address(t)
	var err error
	if g.worker, err = worker.New(worker.Config{Registry: registry, Listen: listen, Advertise: listen, Etcd: cluster.Config{Endpoints: []string{etcd}}}); err != nil {
		t.Fatal(err)
	}
	run(g.worker.Run)
	listener, err := serve.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	c, err := coordinator.New(coordinator.Config{
		Store: store, Listener: listener, Budget: smallBudget, Limits: batch.Limits{BatchRows: 1000, BatchBytes: 128 << 10, RowBytes: 64 << 10},
		DialWorker: func(ctx context.Context, w cluster.Worker) (net.Conn, error) {
			conn, err := transport.DialTCP(ctx, w.Address)
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
	quick, err := client.Dial(g.address, client.WithRetryFor(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer quick.Close()
	for flow := range small {
		process.Until(t, "flow "+flow+" runs", func() error {
			_, err := quick.Submit(t.Context(), flow, client.Rows(`{"id":-1}`))
			return err
		})
	}
	return g
}

// text is what rows have, so that 32 of them come to 128 KiB.
var text = strings.Repeat("x", 4<<10)

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

// waiting is how many lanes of the worker wait.
func (g *smallGrid) waiting(t *testing.T) (n float64) {
	t.Helper()
	families, err := g.worker.Metrics().Gather()
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

// slowConn is a client's connection by which not much comes in at a time.
type slowConn struct {
	net.Conn
	pause *atomic.Int64 // nanoseconds before each read
}

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(time.Duration(c.pause.Load()))
	return c.Conn.Read(p[:min(len(p), 16<<10)])
}

// TestClientThatTakesSlowly has a client take its answers more slowly than the worker makes them, many times the coordinator's budget of
// them: it gets each once, of rows that ran once, although the session between coordinator and worker breaks meanwhile; and another
// flow goes on.
func TestClientThatTakesSlowly(t *testing.T) {
	g := startSmallGrid(t)
	var pause atomic.Int64
	dial := func(opts ...client.Option) *client.Client {
		c, err := client.Dial(g.address, append(opts, client.WithRetryFor(time.Minute))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	slow := dial(client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := transport.DialTCP(ctx, address)
		return slowConn{conn, &pause}, err
	})))
	quick := dial()
	id := 0
	for _, c := range []struct {
		flow                string
		batches, rows, each int
	}{
		{"Keyed", 60, 4, 8}, {"Whole", 60, 4, 8}, {"Whole", 2, 100, 10}, {"Keyed", 2, 100, 10},
	} {
		what := fmt.Sprintf("flow %s, %d batches", c.flow, c.batches)
		pause.Store(int64(10 * time.Millisecond))
		s, err := slow.Stream(t.Context(), c.flow)
		if err != nil {
			t.Fatal(err)
		}
		first := id
		answered := make(chan error, c.batches)
		for range c.batches {
			rows := make([]string, c.rows)
			for i := range rows {
				rows[i] = fmt.Sprintf(`{"id":%d,"rows":%d}`, id, c.each)
				id++
			}
			p, err := s.Send(t.Context(), client.Rows(rows...))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			go func() {
				r, err := p.Wait(t.Context())
				switch {
				case err != nil:
				case len(r.NotDone) > 0:
					err = fmt.Errorf("%d rows are not done, the first %v", len(r.NotDone), r.NotDone[0])
				case r.Output.Rows.Len() != c.rows*c.each:
					err = fmt.Errorf("%d rows came of %d, want %d", r.Output.Rows.Len(), c.rows, c.rows*c.each)
				}
				answered <- err
			}()
		}
		process.Until(t, what+": the worker waits for the client", func() error {
			if g.waiting(t) == 0 {
				return errors.New("no lane waits")
			}
			return nil
		})
		for range 5 {
			r, err := quick.Submit(t.Context(), "Other", client.Rows(`{"id":1}`, `{"id":2}`))
			if err != nil || len(r.NotDone) > 0 || r.Output.Rows.Len() != 2 {
				t.Fatalf("%s: beside it another flow: %v, %v", what, r, err)
			}
		}
		g.cut()
		process.Until(t, what+": another flow goes on after the cut", func() error {
			_, err := quick.Submit(t.Context(), "Other", client.Rows(`{"id":1}`))
			return err
		})
		pause.Store(int64(time.Millisecond))
		var all error
		for range c.batches {
			all = errors.Join(all, <-answered)
		}
		if err := errors.Join(all, s.Close()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		g.mu.Lock()
		for ; first < id; first++ {
			if n := g.ran[first]; n != 1 {
				t.Errorf("%s: row %d ran %d times", what, first, n)
			}
		}
		g.mu.Unlock()
		if n := g.waiting(t); n != 0 {
			t.Errorf("%s: at the end %v lanes wait", what, n)
		}
	}
}

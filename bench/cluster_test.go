package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// register registers the functions of the benchmarks' flows.
func register(r *kis.Registry) {
	students.Register(r)
	r.Func("Pass", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) { return row, nil }))
}

// clusterDocuments are the documents of the students' flow, and of flows with the given names that pass their rows on.
func clusterDocuments(passing []string) []definition.Document {
	docs := []definition.Document{
		testgrid.Document(definition.KindFlow, "Average", "status: 1\nshard_key: stu_id\nflows: [{fname: VerifyStu}, {fname: AvgStuScore12}, {fname: PrintStuAvgScore}]\n"),
	}
	for name, mode := range map[string]string{"Pass": "Calculate", "VerifyStu": "Verify", "AvgStuScore12": "Calculate", "PrintStuAvgScore": "Expand"} {
		docs = append(docs, testgrid.Document(definition.KindFunc, name, "fmode: "+mode+"\n"))
	}
	for _, name := range passing {
		docs = append(docs, testgrid.Document(definition.KindFlow, name, "status: 1\nshard_key: stu_id\nflows: [{fname: Pass}]\n"))
	}
	return docs
}

// fiftyBytes packs n rows of 50 bytes, of up to 900 students.
func fiftyBytes(n int) batch.Columns {
	var c batch.Columns
	for i := range n {
		c.Append(fmt.Appendf(nil, `{"stu_id":%03d,"score_1":%03d,"score_2":%03d,"x":1}`, 100+i%900, 100+i%100, 100+i%97))
	}
	return c
}

// passing are the names of n flows that pass their rows on.
func passing(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("Pass%d", i+1)
	}
	return names
}

// startCluster starts etcd, a coordinator and two workers, each in its own process, and returns a client. The cluster has the
// students' flow, called Average, and the given flows, which pass their rows on.
func startCluster(b *testing.B, passing ...string) (*client.Client, *processes) {
	b.Helper()
	p := &processes{b: b}
	etcd := p.run("etcd", "", "")
	store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	if _, err := store.PutDocuments(b.Context(), nil, clusterDocuments(passing), nil); err != nil {
		b.Fatal(err)
	}
	for i := range 2 {
		p.run("worker", etcd, fmt.Sprintf("worker-%d", i+1))
	}
	c, err := client.Dial(p.run("coordinator", etcd, ""))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	for _, flow := range append(passing, "Average") {
		for {
			_, err := c.Submit(ctx, flow, client.Rows(`{"stu_id":1,"score_1":1,"score_2":1}`))
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				b.Fatalf("flow %s does not run: %v", flow, err)
			}
			time.Sleep(20 * time.Millisecond) // the other processes give no signal when the flow runs
		}
	}
	return c, p
}

// underWay is the most batches that have no answer yet, in relays and in the cluster alike.
const underWay = 64

// throughput sends b.N batches, at most underWay of them unanswered, through one stream for each flow. It checks that every row is
// done, and passed on where output was asked for.
func throughput(b *testing.B, columns batch.Columns, underWay int, output bool, flows ...string) {
	c, processes := startCluster(b, slices.Compact(slices.DeleteFunc(slices.Clone(flows), func(flow string) bool { return flow == "Average" }))...)
	streams := make([]*client.Stream, len(flows))
	for i, flow := range flows {
		s, err := c.Stream(b.Context(), flow)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		streams[i] = s
	}
	var options []client.SubmitOption
	want := columns.Len()
	if !output {
		options, want = []client.SubmitOption{client.NoOutput()}, 0
	}
	processes.start(b)
	var sent atomic.Int64
	slots := make(chan struct{}, underWay)
	var all errgroup.Group
	for _, s := range streams {
		pending := make(chan *client.Pending, underWay)
		ctx, cancel := context.WithCancel(b.Context())
		all.Go(func() error {
			defer close(pending)
			for sent.Add(1) <= int64(b.N) {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return ctx.Err()
				}
				p, err := s.Send(ctx, client.Pack(columns), options...)
				if err != nil {
					return err
				}
				pending <- p // there is room: each has a slot
			}
			return nil
		})
		all.Go(func() error {
			defer cancel()
			for p := range pending {
				r, err := p.Wait(ctx)
				<-slots
				switch {
				case err != nil:
					return err
				case len(r.NotDone) > 0:
					return fmt.Errorf("a row is not done: %+v", r.NotDone[0])
				case r.Output.Rows.Len() != want:
					return fmt.Errorf("%d rows were passed on, not %d", r.Output.Rows.Len(), want)
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	processes.stop(b, b.N*columns.Len())
}

// BenchmarkCluster sends batches of 1,000 rows of 50 bytes over 127.0.0.1. Client, coordinator and two workers are separate
// processes. /relay is the limit for the same bytes, /relay-batches the limit where both ends read and write batches, and
// /relay-latency the limit for a single row. /streams-16 and /flows-64 are /passthrough with more streams and more flows. /rows-N has
// N rows in a batch, and /batches-N has at most N batches unanswered.
func BenchmarkCluster(b *testing.B) {
	columns := fiftyBytes(1000)
	b.Run("relay", func(b *testing.B) { benchmarkRelay(b, columns, underWay, false, nil) })
	b.Run("relay-batches", func(b *testing.B) { benchmarkRelay(b, columns, underWay, true, nil) })
	b.Run("passthrough", func(b *testing.B) { throughput(b, columns, underWay, true, "Pass") })
	b.Run("students", func(b *testing.B) { throughput(b, columns, underWay, false, "Average") })
	b.Run("streams-16", func(b *testing.B) { throughput(b, columns, underWay, true, slices.Repeat([]string{"Pass"}, 16)...) })
	for _, rows := range []int{1, 10, 100, 10000, 60000} {
		b.Run(fmt.Sprintf("rows-%d", rows), func(b *testing.B) { throughput(b, fiftyBytes(rows), underWay, true, "Pass") })
	}
	for _, batches := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("batches-%d", batches), func(b *testing.B) { throughput(b, columns, batches, true, "Pass") })
	}
	b.Run("flows-64", func(b *testing.B) { throughput(b, columns, underWay, true, passing(64)...) })
	one := fiftyBytes(1)
	b.Run("relay-latency", func(b *testing.B) {
		took := make([]time.Duration, 0, b.N)
		last := time.Now()
		benchmarkRelay(b, one, 1, false, func(int) {
			now := time.Now()
			took = append(took, now.Sub(last))
			last = now
		})
		reportMedian(b, took)
	})
	b.Run("latency", func(b *testing.B) {
		c, processes := startCluster(b, "Pass")
		s, err := c.Stream(b.Context(), "Pass")
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		took := make([]time.Duration, b.N)
		processes.start(b)
		for i := range took {
			began := time.Now()
			p, err := s.Send(b.Context(), client.Pack(one))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := p.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(began)
		}
		processes.stop(b, b.N)
		reportMedian(b, took)
	})
}

// reportMedian reports the median of how long batches took.
func reportMedian(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
}

// profiled runs a role. If the environment variable KISGRID_BENCH_PROFILES names a folder, it writes the role's CPU profile into that
// folder, under name.
func profiled(name string, run func() error) error {
	dir := os.Getenv("KISGRID_BENCH_PROFILES")
	if dir == "" {
		return run()
	}
	f, err := os.Create(dir + "/" + name + ".prof")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return run()
}

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// register registers what the benchmarks' flows name.
func register(r *kis.Registry) {
	students.Register(r)
	r.Func("Pass", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) { return row, nil }))
}

func document(kind definition.Kind, name, yaml string) definition.Document {
	return definition.Document{Kind: kind, Name: name, YAML: []byte("kistype: " + string(kind) + "\n" + yaml)}
}

func clusterDocuments() []definition.Document {
	docs := []definition.Document{
		document(definition.KindFlow, "Pass", "flow_name: Pass\nstatus: 1\nshard_key: stu_id\nflows: [{fname: Pass}]\n"),
		document(definition.KindFlow, "Average", "flow_name: Average\nstatus: 1\nshard_key: stu_id\nflows: [{fname: VerifyStu}, {fname: AvgStuScore12}, {fname: PrintStuAvgScore}]\n"),
	}
	for name, mode := range map[string]string{"Pass": "Calculate", "VerifyStu": "Verify", "AvgStuScore12": "Calculate", "PrintStuAvgScore": "Expand"} {
		docs = append(docs, document(definition.KindFunc, name, "fname: "+name+"\nfmode: "+mode+"\n"))
	}
	return docs
}

// fiftyBytes packs so many rows of 50 bytes, of so many students.
func fiftyBytes(n int) batch.Columns {
	var c batch.Columns
	for i := range n {
		c.Append(fmt.Appendf(nil, `{"stu_id":%03d,"score_1":%03d,"score_2":%03d,"x":1}`, 100+i%900, 100+i%100, 100+i%97))
	}
	return c
}

// startCluster starts etcd here, and a coordinator and two workers in processes of their own, and dials the coordinator.
func startCluster(b *testing.B) (*client.Client, *processes) {
	b.Helper()
	p := &processes{b: b}
	etcd, err := devcluster.StartEtcd(b.Context(), devcluster.EtcdConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = etcd.Close() })
	store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd.Address()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	if _, err := store.PutDocuments(b.Context(), nil, clusterDocuments(), nil); err != nil {
		b.Fatal(err)
	}
	for i := range 2 {
		p.run("worker", etcd.Address(), fmt.Sprintf("worker-%d", i+1))
	}
	c, err := client.Dial(p.run("coordinator", etcd.Address(), ""))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	for _, flow := range []string{"Pass", "Average"} {
		for {
			_, err := c.Submit(ctx, flow, client.Rows(`{"stu_id":1,"score_1":1,"score_2":1}`))
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				b.Fatalf("flow %s does not run: %v", flow, err)
			}
			time.Sleep(20 * time.Millisecond) // other processes give no signal
		}
	}
	return c, p
}

// stream sends b.N batches through one stream, as fast as its window allows, and checks that every row is done.
func stream(b *testing.B, flow string, columns batch.Columns, options ...client.SubmitOption) {
	c, processes := startCluster(b)
	s, err := c.Stream(b.Context(), flow)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	pending := make(chan *client.Pending, 1024)
	failed := make(chan error, 1)
	go func() {
		for p := range pending {
			r, err := p.Wait(b.Context())
			if err == nil && len(r.NotDone) > 0 {
				err = fmt.Errorf("a row is not done: %+v", r.NotDone[0])
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	processes.start()
	for range b.N {
		p, err := s.Send(b.Context(), client.Pack(columns), options...)
		if err != nil {
			b.Fatal(err)
		}
		select {
		case pending <- p:
		case err := <-failed:
			b.Fatal(err)
		}
	}
	close(pending)
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	processes.stop(b.N * columns.Len())
}

// BenchmarkCluster sends batches of 1,000 rows of 50 bytes over loopback; client, coordinator and two workers are processes
// apart. /relay is the limit for what goes there and back, /relay-latency for one row alone.
func BenchmarkCluster(b *testing.B) {
	columns := fiftyBytes(1000)
	b.Run("relay", func(b *testing.B) { benchmarkRelay(b, columns, 64, nil) })
	b.Run("passthrough", func(b *testing.B) { stream(b, "Pass", columns) })
	b.Run("students", func(b *testing.B) { stream(b, "Average", columns, client.NoOutput()) })
	one := fiftyBytes(1)
	b.Run("relay-latency", func(b *testing.B) {
		took := make([]time.Duration, 0, b.N)
		last := time.Now()
		benchmarkRelay(b, one, 1, func(int) {
			now := time.Now()
			took = append(took, now.Sub(last))
			last = now
		})
		reportMedian(b, took)
	})
	b.Run("latency", func(b *testing.B) {
		c, processes := startCluster(b)
		s, err := c.Stream(b.Context(), "Pass")
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		took := make([]time.Duration, b.N)
		processes.start()
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
		processes.stop(b.N)
		reportMedian(b, took)
	})
}

func reportMedian(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
}

// profiled writes a CPU profile of a role into the folder that KISGRID_BENCH_PROFILES names, if it names one.
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

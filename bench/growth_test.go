package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Flags of TestGrowth, which make growth sets.
var (
	growth       = flag.String("growth", "", "run these `series` of TestGrowth, separated by commas, or all")
	growthPeriod = flag.Duration("growth.for", 3*time.Second, "how long TestGrowth measures each point of a series")
)

// TestGrowth measures how the cost of a row changes as one quantity grows and all others stay: the processes are real, and every series
// begins with the smallest value. A line has the CPU time per row of each kind of process, in nanoseconds, the peak memory of the largest
// coordinator and worker, and how long batches took. The last column is the CPU time per row divided by that of the point before.
func TestGrowth(t *testing.T) {
	if *growth == "" {
		t.Skip("make growth runs it: it takes minutes, and its figures need a quiet machine")
	}
	asked := strings.Split(*growth, ",")
	for _, s := range growthSeries() {
		if !slices.Contains(asked, "all") && !slices.Contains(asked, s.name) {
			continue
		}
		fmt.Printf("\n%s\n| %s | rows/s | CPU ns a row | client | coordinator | worker | Redis | scripts a 1,000 rows | peak coordinator, worker MiB | p50, p99 ms | beside the point before |\n|%s\n",
			s.about, s.name, strings.Repeat("---|", 11))
		before := 0.0
		for _, value := range s.values {
			t.Run(s.name+"-"+strconv.Itoa(value), func(t *testing.T) {
				m := s.measure(t, value)
				m.print(strconv.Itoa(value), before)
				before = m.total()
			})
		}
	}
}

// measured is the cost of the rows of one point of a series.
type measured struct {
	rows       int64
	took       time.Duration
	cpu        map[string]time.Duration // by role
	peak       map[string]int64         // by role, of its largest process, in bytes
	latency    []time.Duration          // of each batch, ascending
	redisCalls int64                    // scripts that Redis has run
}

// total returns the CPU time of all processes per row, in nanoseconds. etcd is left out: it does nothing for rows.
func (m *measured) total() float64 {
	return m.of("client") + m.of("coordinator") + m.of("worker") + m.of("redis")
}

// of returns the CPU time of a role's processes per row, in nanoseconds.
func (m *measured) of(role string) float64 {
	return float64(m.cpu[role].Nanoseconds()) / float64(max(1, m.rows))
}

// print prints the point of a series as a line of a table. before is total of the point before, or 0.
func (m *measured) print(name string, before float64) {
	ratio := "–"
	if before > 0 {
		ratio = fmt.Sprintf("%.2f", m.total()/before)
	}
	at := func(share float64) float64 {
		if len(m.latency) == 0 {
			return 0
		}
		return float64(m.latency[int(share*float64(len(m.latency)-1))].Microseconds()) / 1000
	}
	fmt.Printf("| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.1f | %d, %d | %.1f, %.1f | %s |\n", name, float64(m.rows)/m.took.Seconds(), m.total(),
		m.of("client"), m.of("coordinator"), m.of("worker"), m.of("redis"), 1000*float64(m.redisCalls)/float64(max(1, m.rows)), m.peak["coordinator"]>>20, m.peak["worker"]>>20, at(0.5), at(0.99), ratio)
}

// bed is a cluster of real processes for one point of a series.
type bed struct {
	*processes
	t      *testing.T
	client *client.Client
	store  *cluster.Store
	redis  string // the address of its Redis; empty without one
}

// bedConfig says which processes and documents a bed has.
type bedConfig struct {
	coordinators, workers int
	documents             []definition.Document
	redis                 bool // a Redis, in which the functions' connector and dead rows are
	letters               int  // how many dead rows of a flow are kept; 0 means that none is
}

// newBed starts the processes and waits until every flow runs.
func newBed(t *testing.T, c bedConfig) *bed {
	t.Helper()
	b := &bed{processes: &processes{b: t}, t: t}
	if c.redis {
		b.redis = b.startRedis()
		b.env = append(b.env, "KISGRID_BENCH_REDIS="+b.redis)
		if c.letters > 0 {
			b.env = append(b.env, lettersVariable+"="+b.redis, mostVariable+"="+strconv.Itoa(c.letters))
		}
	}
	etcd := b.run("etcd", "", "")
	var err error
	if b.store, err = cluster.Open(cluster.Config{Endpoints: []string{etcd}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.store.Close() })
	for some := range slices.Chunk(append(growthDocuments(b.redis), c.documents...), 100) { // a transaction of etcd has 128 operations
		if _, err := b.store.PutDocuments(t.Context(), nil, some, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range max(1, c.workers) {
		b.run("worker", etcd, fmt.Sprintf("worker-%d", i+1))
	}
	var addresses []string
	for range max(1, c.coordinators) {
		addresses = append(addresses, b.run("coordinator", etcd, ""))
	}
	if b.client, err = client.Dial(strings.Join(addresses, ",")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.client.Close() })
	for _, d := range c.documents {
		if d.Kind == definition.KindFlow {
			b.awaitFlow(d.Name)
		}
	}
	return b
}

// awaitFlow waits until a flow takes rows.
func (b *bed) awaitFlow(flow string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		s, err := b.client.Stream(ctx, flow)
		if err == nil {
			_ = s.Close()
			return
		}
		if ctx.Err() != nil {
			b.t.Fatalf("flow %s does not run: %v", flow, err)
		}
		time.Sleep(20 * time.Millisecond) // the other processes give no signal when the flow runs
	}
}

// load is what a client sends in one point of a series.
type load struct {
	streams  []string        // the flow of each stream
	batches  []batch.Columns // sent in turn
	underWay int             // the most batches without an answer, of all streams together
	noOutput bool
	dead     bool // rows may die
}

// send sends the load for a third of growthPeriod to warm up, and then for growthPeriod, in which it measures.
func (b *bed) send(l load) *measured {
	b.t.Helper()
	if l.underWay == 0 {
		l.underWay = underWay
	}
	var rows atomic.Int64
	var mu sync.Mutex
	var latency []time.Duration
	ctx, stop := context.WithCancel(b.t.Context())
	defer stop()
	var options []client.SubmitOption
	if l.noOutput {
		options = append(options, client.NoOutput())
	}
	slots := make(chan struct{}, l.underWay)
	var next atomic.Int64
	var all errgroup.Group
	type sent struct {
		pending *client.Pending
		at      time.Time
	}
	for _, flow := range l.streams {
		s, err := b.client.Stream(b.t.Context(), flow)
		if err != nil {
			b.t.Fatal(err)
		}
		pending := make(chan sent, l.underWay)
		all.Go(func() error {
			defer close(pending)
			for {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				at := time.Now()
				p, err := s.Send(b.t.Context(), client.Pack(l.batches[int(next.Add(1))%len(l.batches)]), options...)
				if err != nil {
					return err
				}
				pending <- sent{p, at} // there is room: each has a slot
			}
		})
		all.Go(func() error {
			defer stop()
			for p := range pending {
				r, err := p.pending.Wait(b.t.Context())
				<-slots
				if err != nil {
					return err
				}
				if len(r.NotDone) > 0 && !l.dead {
					return fmt.Errorf("a row is not done: %+v", r.NotDone[0])
				}
				rows.Add(int64(r.Rows))
				mu.Lock()
				latency = append(latency, time.Since(p.at))
				mu.Unlock()
			}
			return s.Close()
		})
	}
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	pause(*growthPeriod / 3)
	mu.Lock()
	latency = nil
	mu.Unlock()
	m := &measured{}
	began, rowsBefore, callsBefore, before := time.Now(), rows.Load(), b.redisCalls(), b.cpuOfAll()
	pause(*growthPeriod)
	after := b.cpuOfAll()
	m.rows, m.took, m.redisCalls = rows.Load()-rowsBefore, time.Since(began), b.redisCalls()-callsBefore
	m.cpu, m.peak = map[string]time.Duration{}, b.peaks()
	for role, used := range after {
		m.cpu[role] = used - before[role]
	}
	mu.Lock()
	m.latency = slices.Clone(latency)
	mu.Unlock()
	slices.Sort(m.latency)
	stop()
	if err := all.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		b.t.Fatal(err)
	}
	return m
}

// peaks returns the most memory that the largest process of each role has had so far, in bytes.
func (b *bed) peaks() map[string]int64 {
	all := map[string]int64{}
	for _, r := range b.roles {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.process), "status"))
		if err != nil {
			continue // only Linux has it
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
				kib, _ := strconv.ParseInt(fields[1], 10, 64)
				all[r.role] = max(all[r.role], kib<<10)
			}
		}
	}
	return all
}

// flowDocument is the document of a flow that is split by stu_id and calls functions one after the other.
func flowDocument(name string, functions ...string) definition.Document {
	var steps []string
	for _, f := range functions {
		steps = append(steps, "{fname: "+f+"}")
	}
	return testgrid.Document(definition.KindFlow, name, "status: 1\nshard_key: stu_id\nflows: ["+strings.Join(steps, ", ")+"]\n")
}

//go:build linux

// Package chaos runs a cluster of real processes under load, does to it what happens to clusters, and checks what KisGrid promises:
// each row has one outcome, no row of a key is skipped or overtaken, and no row waits for long.
package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// The defaults are those of the test suite, which shares two processors with other packages and runs with the race detector; `make
// chaos` sets larger ones.
var (
	durationFlag = flag.Duration("chaos.duration", 30*time.Second, "for how long things happen")
	gapFlag      = flag.Duration("chaos.gap", 3*time.Second, "time from one event to the next")
	rateFlag     = flag.Float64("chaos.rate", 1000, "rows per second, of all clients together")
	openFlag     = flag.Int("chaos.open", 100, "batches of a client that may be unanswered, so that a slow machine is sent less; 0: any number")
	workFlag     = flag.Duration("chaos.work", 500*time.Microsecond, "how long the function takes for every fourth row of a key, beside what the clock adds")
	clientsFlag  = flag.Int("chaos.clients", 4, "clients, each with a stream")
	workersFlag  = flag.Int("chaos.workers", 4, "workers at the start")
	seedFlag     = flag.Uint64("chaos.seed", 1, "what is drawn follows from it; 0: from the time")
	leaseFlag    = flag.Duration("chaos.lease", 2*time.Second, "the leases of coordinators and workers")
	patienceFlag = flag.Duration("chaos.patience", 30*time.Second, "the longest that a batch may take")
	memoryFlag   = flag.Int64("chaos.memory", 256, "MiB that a coordinator or a worker may have resident")
	onlyFlag     = flag.String("chaos.only", "", "comma list of the kinds of events; empty: all")
	dirFlag      = flag.String("chaos.dir", "", "folder for logs and records; empty: one that is removed")
)

// roleVariable is an environment variable. Where it is "worker", this test binary is a worker, with a worker's command line.
const roleVariable = "KISGRID_CHAOS_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "worker" {
		worker.Main(register)
	}
	os.Exit(testprocess.Main(m, "../../cmd/coordinator"))
}

func TestChaos(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: make chaos CHAOS_SEED=%[1]d draws the same again", seed)
	g := startGrid(t, *clientsFlag)
	clientLog, err := os.Create(g.dir + "/clients.log")
	if err != nil {
		t.Fatal(err)
	}
	defer clientLog.Close()
	logger := hclog.New(&hclog.LoggerOptions{Output: clientLog})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	producers := make([]*producer, *clientsFlag)
	for i := range producers {
		var addresses []string
		for j := range g.coordinators { // each client has another coordinator first
			addresses = append(addresses, g.coordinators[(i+j)%len(g.coordinators)].proxies[i].address())
		}
		producers[i] = startProducer(ctx, t, i, seed, strings.Join(addresses, ","), logger)
	}
	stop, calm := make(chan struct{}), make(chan struct{})
	var producing, background sync.WaitGroup
	for _, p := range producers {
		producing.Go(func() { p.produce(ctx, stop, *rateFlag/float64(len(producers))) })
	}
	background.Go(func() { g.weigh(calm) })
	timer := time.AfterFunc(*durationFlag, func() { close(stop) })
	defer timer.Stop()

	c := &chaos{grid: g, random: rand.New(rand.NewPCG(seed, 1<<32)), version: 1, underWay: map[string]bool{}}
	c.run(stop, *gapFlag)

	answered := make(chan struct{})
	go func() {
		defer close(answered)
		producing.Wait()
	}()
	select {
	case <-answered:
	case <-time.After(2 * *patienceFlag):
		t.Errorf("batches are still unanswered %s after everything was whole again", 2**patienceFlag)
		cancel() // the verifier reports them
		<-answered
	}
	close(calm)
	background.Wait()
	for _, p := range producers {
		if err := p.stream.Close(); err != nil && !errors.Is(err, context.Canceled) {
			p.breach("%v", err)
		}
	}
	c.conclude(t, seed, producers)
}

// conclude runs the verifier and prints its figures.
func (c *chaos) conclude(t *testing.T, seed uint64, producers []*producer) {
	t.Helper()
	g := c.grid
	v := &verifier{workers: g.all, events: c.events}
	v.breaches = append(v.breaches, c.breaches...)
	var executions []execution
	for i, name := range g.all {
		recorded, err := readExecutions(recordPath(g.dir, name), i)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a worker that was killed early has no record
			t.Fatal(err)
		}
		executions = append(executions, recorded...)
	}
	var ledgers [][]*sent
	resent := map[string]int{}
	batches := 0
	for _, p := range producers {
		ledgers = append(ledgers, p.ledger)
		batches += len(p.ledger)
		v.breaches = append(v.breaches, p.breaches...)
		for code, n := range p.resent {
			resent[code] += n
		}
	}
	v.load(ledgers, executions)
	v.check()
	for _, s := range v.late {
		if d := s.answer.Sub(s.at); d > *patienceFlag {
			v.breach("batch %s of client %d, sent %s, took %s", s.batch.ID(), s.rows[0].Client, clock(s.at), d)
		}
	}
	for kind, bytes := range g.peak {
		if bytes > *memoryFlag<<20 {
			v.breach("a %s had %d MiB resident", kind, bytes>>20)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d: %d rows in %d batches, %d executions run again, longest answer %s, resent %v\n",
		seed, v.rows, batches, v.reruns, v.late[0].answer.Sub(v.late[0].at).Round(time.Millisecond), resent)
	fmt.Fprintf(&text, "resident at most: coordinator %d MiB, worker %d MiB\n", g.peak["coordinator"]>>20, g.peak["worker"]>>20)
	v.report(&text)
	t.Log(text.String())
	for i, breach := range v.breaches {
		if i == 10 {
			t.Errorf("and %d more breaches", len(v.breaches)-i)
			break
		}
		t.Errorf("breach (seed %d): %s", seed, breach)
	}
}

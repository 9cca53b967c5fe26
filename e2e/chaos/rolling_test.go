//go:build linux

package chaos

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestRollingRestarts restarts all workers, one after the other, and then all coordinators, as a rollout does, while clients
// send: no row fails, no client sees an error, and the order of each key holds.
func TestRollingRestarts(t *testing.T) {
	const clients = 2
	g := startGrid(t, clients)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var producers []*producer
	stop := make(chan struct{})
	var producing sync.WaitGroup
	for i := range clients {
		var addresses []string
		for j := range g.coordinators { // each prefers another
			addresses = append(addresses, g.coordinators[(i+j)%len(g.coordinators)].address)
		}
		p := startProducer(ctx, t, i, *seedFlag, strings.Join(addresses, ","), hclog.NewNullLogger())
		producers = append(producers, p)
		producing.Go(func() { p.produce(ctx, stop, *rateFlag/clients) })
	}
	c := &chaos{grid: g, underWay: map[string]bool{}}
	gone := func(p *process) {
		t.Helper()
		p.signal(syscall.SIGTERM)
		select {
		case <-p.exited:
			if p.code != 0 {
				t.Errorf("%s ended with %d when it was drained", p.name, p.code)
			}
		case <-time.After(2 * *patienceFlag):
			t.Fatalf("%s was still there %s after SIGTERM", p.name, 2**patienceFlag)
		}
	}
	for _, w := range append([]*workerProcess(nil), g.workers...) {
		e := c.begin("restart worker", w.name, -1)
		again := g.startWorker("")
		until(t, "its successor serves", func() bool { return again.logged(servingWorker) != nil })
		gone(w.process)
		g.remove(w)
		e.until = time.Now()
	}
	for _, k := range g.coordinators {
		e := c.begin("restart coordinator", k.name, -1)
		gone(k.process)
		g.startCoordinator(k)
		until(t, "it is ready again", func() bool { return k.logged(readyCoordinator) != nil })
		time.Sleep(*leaseFlag / 2) // as a rollout's minimum time between two
		e.until = time.Now()
	}
	close(stop)
	producing.Wait()
	for _, p := range producers {
		p.waiting.Wait()
		for code, n := range p.resent {
			t.Errorf("client %d was told %s %d times", p.id, code, n)
		}
		if err := p.stream.Close(); err != nil {
			t.Error(err)
		}
	}
	c.conclude(t, *seedFlag, producers)
}

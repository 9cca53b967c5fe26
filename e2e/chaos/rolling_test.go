//go:build linux

package chaos

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestRollingRestarts restarts all workers one after the other, and then all coordinators, as a rollout does, while clients send
// rows. No row may fail, no client may see an error, and the rows of each key must stay in order.
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
		for j := range g.coordinators { // each client has another coordinator first
			addresses = append(addresses, g.coordinators[(i+j)%len(g.coordinators)].Address)
		}
		p := startProducer(ctx, t, i, *seedFlag, strings.Join(addresses, ","), hclog.NewNullLogger())
		producers = append(producers, p)
		producing.Go(func() { p.produce(ctx, stop, *rateFlag/clients) })
	}
	c := &chaos{grid: g, underWay: map[string]bool{}}
	for _, w := range g.workers {
		w.Await(`session began`) // before that, SIGTERM would end the process without a drain
	}
	for _, w := range append([]*workerProcess(nil), g.workers...) {
		e := c.begin("restart worker", w.Name(), -1)
		again := g.startWorker("")
		again.Await(`session began`)
		w.Stop()
		g.remove(w)
		e.until = time.Now()
	}
	for _, k := range g.coordinators {
		e := c.begin("restart coordinator", k.Name(), -1)
		k.Stop()
		g.startCoordinator(k)
		k.Await(`ready: id=`)
		time.Sleep(*leaseFlag / 2) // a rollout waits between two coordinators, too
		e.until = time.Now()
	}
	close(stop)
	producing.Wait()
	for _, p := range producers {
		for code, n := range p.resent {
			t.Errorf("client %d was told %s %d times", p.id, code, n)
		}
		if err := p.stream.Close(); err != nil {
			t.Error(err)
		}
	}
	c.conclude(t, *seedFlag, producers)
}

package figures

import (
	"context"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Gatherer brings the rows of this coordinator, and of the other ones, into a Book. Run may be called once.
type Gatherer struct {
	Book *Book
	// Count reads this coordinator's own counts into the Book.
	Count func(context.Context)
	// Coordinators returns the addresses of all registered coordinators, by id; nil until they are known.
	Coordinators func() map[string]string
	// Ask asks the coordinator with the id, at the address, for the counts that have changed since the mark.
	Ask func(ctx context.Context, id, address string, after uint64) (*pb.ShareFiguresResponse, error)

	asking sync.Map       // id → true, while a coordinator is asked
	pauses sync.Map       // id → time.Time: when a coordinator that has refused is asked again
	asks   sync.WaitGroup // the goroutines that ask
}

const (
	// ownEvery is how often this coordinator's own counts are read.
	ownEvery = time.Second
	// askEvery is how often each other coordinator is asked, and askFor how long its answer is waited for.
	askEvery = 2 * time.Second
	askFor   = 2 * time.Second
	// refusedFor is how long a coordinator is not asked again that has refused to answer.
	refusedFor = time.Minute
)

// Run gathers until ctx is done. Then it waits for the goroutines that it has started.
func (g *Gatherer) Run(ctx context.Context) {
	defer g.asks.Wait()
	every := time.NewTicker(ownEvery)
	defer every.Stop()
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := time.Now()
		g.Count(ctx)
		g.Book.Tick(now)
		if now.Sub(asked) >= askEvery-ownEvery/2 {
			asked = now
			g.askAll(ctx, now)
		}
	}
}

// askAll asks each other coordinator that is not being asked, in goroutines.
func (g *Gatherer) askAll(ctx context.Context, now time.Time) {
	all := g.Coordinators()
	if all == nil {
		return
	}
	ids := make([]string, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	g.Book.Registered(now, ids)
	for id, address := range all {
		if id == g.Book.id {
			continue
		}
		if until, paused := g.pauses.Load(id); paused && now.Before(until.(time.Time)) { //nolint:forcetypeassert // see pauses
			continue
		}
		if _, busy := g.asking.LoadOrStore(id, true); busy {
			continue
		}
		g.asks.Go(func() {
			defer g.asking.Delete(id)
			g.ask(ctx, id, address)
		})
	}
	g.pauses.Range(func(id, _ any) bool {
		if _, there := all[id.(string)]; !there { //nolint:forcetypeassert // see pauses
			g.pauses.Delete(id)
		}
		return true
	})
}

// ask asks one coordinator.
func (g *Gatherer) ask(ctx context.Context, id, address string) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answer, err := g.Ask(ctx, id, address, g.Book.After(id))
	if err == nil {
		g.pauses.Delete(id)
		g.Book.Answered(time.Now(), id, answer)
		return
	}
	switch batch.CodeOf(err) {
	case batch.CodeUnauthenticated, batch.CodePermissionDenied, batch.CodeOverloaded, batch.CodeProtocolMismatch:
		g.pauses.Store(id, time.Now().Add(refusedFor))
	}
	g.Book.Missed(id, err.Error())
}

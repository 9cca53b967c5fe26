package flowexec

import "context"

// Rows wait in two ways: rows with keys park, and runs without keys rest.
//
//   - A row with a key is copied out of its part and set aside (parkedRows), and with it later rows of its key; rows of other keys go on.
//   - A run without keys may be inside a function that sees all of its rows at once, so it can't be taken apart. It keeps its goroutine,
//     with all that it has done so far, and another goroutine takes over the lane (restingRun).
//
// One way for both would cost more: a goroutine for each row that waits, or a copy of each run's state. Decision record 0012 says so at
// length. Both ways have the same meaning, and the rest of the lane sees them through two interfaces: waitingRows and waiter.

// waitingRows is what a lane has set aside: *parkedRows or *restingRuns. Its methods are called with lane.mu held.
type waitingRows interface {
	// release takes out the rows that a Release asks for, for the caller to give back. Resting runs are told to give back their rows
	// themselves, and are not among the result.
	release(c releaseRequest) []*group
	// isEmpty reports whether nothing is set aside.
	isEmpty() bool
}

// waiter waits for something: it is a *group of parked rows, or a *restingRun. Its methods do not block.
type waiter interface {
	// happened tells the waiter that its wait is over: its key was saved, or its connector has answered. A resting run that waits for
	// several keys is told of each.
	happened()
	// connectorSaved tells the waiter, which knows no key, that something was saved through its connector: it may look again.
	connectorSaved()
}

// waitSources is what parked rows and resting runs can wait for, in all lanes of a flow: a time, the Save of a key, any Save through
// a connector, or the answer of a call to a connector, which is an ask.
type waitSources struct {
	clock *clock
	keys  *keyWatches
	saves *Saves
}

func newWaitSources(c *clock, config LanesConfig) *waitSources {
	return &waitSources{c, newKeyWatches(config), config.Saves}
}

// await has parked groups told when what they wait for happens. The lane's parkedRows sees to their times. ctx bounds the wait for
// a connection; where there is none, the group goes on at once, to find the error by itself. The caller does not hold lane.mu.
func (s *waitSources) await(ctx context.Context, groups []group) {
	for i := range groups {
		g := &groups[i]
		if w, ok := g.parcel.saveWaits[g]; ok {
			s.saves.add(g.connector().Name, w.saves, g)
			s.forgetIfOver(g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.add(g)
			s.forgetIfOver(g)
		}
		if g.wantedKey == "" {
			continue
		}
		err := s.keys.use(ctx, g.connector(), func(w *keyWatch) { w.add(g) })
		if err != nil {
			g.happened()
		} else {
			s.forgetIfOver(g)
		}
	}
}

// forgetIfOver forgets a group whose wait was over before it was added.
func (s *waitSources) forgetIfOver(g *group) {
	if g.parcel.home.waitEnded(g) {
		s.forget([]*group{g})
	}
}

// forget has groups told nothing any more. It may be called for groups that were told, and for those that were never added. The caller does
// not hold lane.mu.
func (s *waitSources) forget(groups []*group) {
	for _, g := range groups {
		if _, ok := g.parcel.saveWaits[g]; ok {
			s.saves.remove(g.connector().Name, g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.remove(g)
		}
		if g.wantedKey == "" {
			continue
		}
		if w := s.keys.of(g.connector()); w != nil {
			w.remove(g.wantedKey, g, nil)
		}
	}
}

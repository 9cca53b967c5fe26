package flowexec

import (
	"context"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// keyWatch is what the parked rows of all lanes wait for in one connector.
type keyWatch struct {
	conn    connector.Connection // held
	watcher connector.Watcher

	// registering is held while a key is added to the watcher or taken from it, so that the two stay in step with what waits.
	registering sync.Mutex
	closed      bool // guarded by registering

	mu      sync.Mutex               // taken last
	groups  map[string]*group        // by key, linked by also; guarded by mu
	resting map[string][]*restingRun // by key; guarded by mu
}

// watched finds or makes the watch of a connector, and adds to it.
func (l *Lanes) watched(ctx context.Context, c *definition.Connector, add func(*keyWatch)) error {
	for {
		w := l.watchOf(c)
		if w == nil {
			var err error
			if w, err = l.newWatch(ctx, c); err != nil {
				return err
			}
		}
		w.registering.Lock()
		closed := w.closed
		if !closed {
			add(w)
		}
		w.registering.Unlock()
		if !closed {
			return nil
		}
	}
}

// newWatch makes the watch of a connector, unless another lane was faster. Those of other versions with which nobody waits
// any more are closed.
func (l *Lanes) newWatch(ctx context.Context, c *definition.Connector) (*keyWatch, error) {
	conn, err := l.connection(ctx, c)
	if err != nil {
		return nil, err
	}
	w := &keyWatch{conn: conn, groups: make(map[string]*group), resting: make(map[string][]*restingRun)}
	w.watcher = conn.Watch(w.saved)
	var idle []*keyWatch
	l.watching.Lock()
	for of, other := range l.watches {
		if of != c && of.Name == c.Name && other.end(false) {
			delete(l.watches, of)
			idle = append(idle, other)
		}
	}
	if other := l.watches[c]; other != nil {
		idle = append(idle, w)
		w = other
	} else {
		l.watches[c] = w
	}
	l.watching.Unlock()
	l.closeWatches(idle)
	return w, nil
}

// endWatches ends all watches.
func (l *Lanes) endWatches() {
	var all []*keyWatch
	l.watching.Lock()
	for _, w := range l.watches {
		w.end(true)
		all = append(all, w)
	}
	clear(l.watches)
	l.watching.Unlock()
	l.closeWatches(all)
}

func (l *Lanes) closeWatches(all []*keyWatch) {
	for _, w := range all {
		if err := w.conn.Close(); err != nil {
			l.config.Logger.Warn("closing a connection that is no longer needed", "flow", l.config.Flow, "error", err)
		}
	}
}

// end lets nobody wait any more; unless all is true, only if nobody does.
func (w *keyWatch) end(all bool) bool {
	w.registering.Lock()
	defer w.registering.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if all || len(w.groups)+len(w.resting) == 0 {
		w.closed = true
	}
	return w.closed
}

// saved is told of a key that may be there.
func (w *keyWatch) saved(key string) {
	w.mu.Lock()
	groups, rests := w.groups[key], w.resting[key]
	delete(w.groups, key)
	delete(w.resting, key)
	w.mu.Unlock()
	for g := groups; g != nil; {
		next := g.nextWaiting
		g.nextWaiting = nil
		g.parcel.lane.waitOver(g)
		g = next
	}
	for _, r := range rests {
		r.keySaved()
	}
}

// add has a group go on when its key is saved. The caller holds registering.
func (w *keyWatch) add(g *group) {
	w.mu.Lock()
	known := w.known(g.wantedKey)
	g.nextWaiting, w.groups[g.wantedKey] = w.groups[g.wantedKey], g
	w.mu.Unlock()
	if !known {
		w.watcher.Add(g.wantedKey)
	}
}

// addRest has a resting run told of keys. The caller holds registering.
func (w *keyWatch) addRest(r *restingRun, keys []string) {
	var unknown []string
	w.mu.Lock()
	for _, key := range keys {
		if !w.known(key) {
			unknown = append(unknown, key)
		}
		w.resting[key] = append(w.resting[key], r)
	}
	w.mu.Unlock()
	w.watcher.Add(unknown...)
}

// known reports whether somebody waits for a key. It must be called with mu held.
func (w *keyWatch) known(key string) bool { return w.groups[key] != nil || len(w.resting[key]) > 0 }

// remove takes a group off, or a resting run. It may have been told.
func (w *keyWatch) remove(key string, g *group, r *restingRun) {
	w.registering.Lock()
	defer w.registering.Unlock()
	w.mu.Lock()
	known := w.known(key)
	for before, at := (*group)(nil), w.groups[key]; at != nil; before, at = at, at.nextWaiting {
		switch {
		case at != g:
			continue
		case before != nil:
			before.nextWaiting = g.nextWaiting
		case g.nextWaiting != nil:
			w.groups[key] = g.nextWaiting
		default:
			delete(w.groups, key)
		}
		break
	}
	if rests := slices.DeleteFunc(w.resting[key], func(o *restingRun) bool { return o == r }); len(rests) > 0 {
		w.resting[key] = rests
	} else {
		delete(w.resting, key)
	}
	last := known && !w.known(key)
	w.mu.Unlock()
	if last {
		w.watcher.Remove(key)
	}
}

// await has parked groups told of the keys that they wait for. One that can't be goes on in a while, to see for itself.
func (l *Lanes) await(ctx context.Context, groups []group) {
	for i := range groups {
		g := &groups[i]
		if h, ok := g.parcel.saveWaits[g]; ok {
			l.config.Saves.add(g.connector().Name, h.saves, g)
			if g.parcel.lane.waitEnded(g) {
				l.forget([]*group{g})
			}
		}
		if a := g.parcel.asks[g]; a != nil {
			a.add(g)
			if g.parcel.lane.waitEnded(g) {
				l.forget([]*group{g})
			}
		}
		if g.wantedKey == "" {
			continue
		}
		err := l.watched(ctx, g.connector(), func(w *keyWatch) { w.add(g) })
		if err != nil {
			g.parcel.lane.waitOver(g)
		} else if g.parcel.lane.waitEnded(g) {
			l.forget([]*group{g})
		}
	}
}

// forget takes groups off that do not wait any more.
func (l *Lanes) forget(groups []*group) {
	for _, g := range groups {
		if _, ok := g.parcel.saveWaits[g]; ok {
			l.config.Saves.remove(g.connector().Name, g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.remove(g)
		}
		if g.wantedKey == "" {
			continue
		}
		if w := l.watchOf(g.connector()); w != nil {
			w.remove(g.wantedKey, g, nil)
		}
	}
}

func (l *Lanes) watchOf(c *definition.Connector) *keyWatch {
	l.watching.Lock()
	defer l.watching.Unlock()
	return l.watches[c]
}

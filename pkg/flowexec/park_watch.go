package flowexec

import (
	"context"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// watch is what the parked rows of all lanes wait for in one connector.
type watch struct {
	conn    connector.Connection // held
	watcher connector.Watcher

	// registering is held while a key is added to the watcher or taken from it, so that the two stay in step with what waits.
	registering sync.Mutex
	closed      bool // guarded by registering

	mu     sync.Mutex         // taken last
	groups map[string]*group  // by key, linked by also; guarded by mu
	rests  map[string][]*rest // by key; guarded by mu
}

// watched finds or makes the watch of a connector, and adds to it.
func (l *Lanes) watched(ctx context.Context, c *definition.Connector, add func(*watch)) error {
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
func (l *Lanes) newWatch(ctx context.Context, c *definition.Connector) (*watch, error) {
	conn, err := l.connection(ctx, c)
	if err != nil {
		return nil, err
	}
	w := &watch{conn: conn, groups: make(map[string]*group), rests: make(map[string][]*rest)}
	w.watcher = conn.Watch(w.wake)
	var idle []*watch
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
	var all []*watch
	l.watching.Lock()
	for _, w := range l.watches {
		w.end(true)
		all = append(all, w)
	}
	clear(l.watches)
	l.watching.Unlock()
	l.closeWatches(all)
}

func (l *Lanes) closeWatches(all []*watch) {
	for _, w := range all {
		if err := w.conn.Close(); err != nil {
			l.config.Logger.Warn("closing a connection that is no longer needed", "flow", l.config.Flow, "error", err)
		}
	}
}

// end lets nobody wait any more; unless all is true, only if nobody does.
func (w *watch) end(all bool) bool {
	w.registering.Lock()
	defer w.registering.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if all || len(w.groups)+len(w.rests) == 0 {
		w.closed = true
	}
	return w.closed
}

// wake is told of a key that may be there.
func (w *watch) wake(key string) {
	w.mu.Lock()
	groups, rests := w.groups[key], w.rests[key]
	delete(w.groups, key)
	delete(w.rests, key)
	w.mu.Unlock()
	for g := groups; g != nil; {
		next := g.also
		g.also = nil
		g.parcel.lane.happened(g)
		g = next
	}
	for _, r := range rests {
		r.happened()
	}
}

// add has a group go on when its key is saved. The caller holds registering.
func (w *watch) add(g *group) {
	w.mu.Lock()
	known := w.known(g.want)
	g.also, w.groups[g.want] = w.groups[g.want], g
	w.mu.Unlock()
	if !known {
		w.watcher.Add(g.want)
	}
}

// addRest has a resting run told of keys. The caller holds registering.
func (w *watch) addRest(r *rest, keys []string) {
	var unknown []string
	w.mu.Lock()
	for _, key := range keys {
		if !w.known(key) {
			unknown = append(unknown, key)
		}
		w.rests[key] = append(w.rests[key], r)
	}
	w.mu.Unlock()
	w.watcher.Add(unknown...)
}

// known reports whether somebody waits for a key. It must be called with mu held.
func (w *watch) known(key string) bool { return w.groups[key] != nil || len(w.rests[key]) > 0 }

// remove takes a group off, or a resting run. It may have been told.
func (w *watch) remove(key string, g *group, r *rest) {
	w.registering.Lock()
	defer w.registering.Unlock()
	w.mu.Lock()
	known := w.known(key)
	for before, at := (*group)(nil), w.groups[key]; at != nil; before, at = at, at.also {
		switch {
		case at != g:
			continue
		case before != nil:
			before.also = g.also
		case g.also != nil:
			w.groups[key] = g.also
		default:
			delete(w.groups, key)
		}
		break
	}
	if rests := slices.DeleteFunc(w.rests[key], func(o *rest) bool { return o == r }); len(rests) > 0 {
		w.rests[key] = rests
	} else {
		delete(w.rests, key)
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
		if h, ok := g.parcel.hear[g]; ok {
			l.config.Saves.add(g.from().Name, h.saves, g)
			if g.parcel.lane.gone(g) {
				l.forget([]*group{g})
			}
		}
		if a := g.parcel.asks[g]; a != nil {
			a.add(g)
			if g.parcel.lane.gone(g) {
				l.forget([]*group{g})
			}
		}
		if g.want == "" {
			continue
		}
		err := l.watched(ctx, g.from(), func(w *watch) { w.add(g) })
		if err != nil {
			g.parcel.lane.happened(g)
		} else if g.parcel.lane.gone(g) {
			l.forget([]*group{g})
		}
	}
}

// forget takes groups off that do not wait any more.
func (l *Lanes) forget(groups []*group) {
	for _, g := range groups {
		if _, ok := g.parcel.hear[g]; ok {
			l.config.Saves.remove(g.from().Name, g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.remove(g)
		}
		if g.want == "" {
			continue
		}
		if w := l.watchOf(g.from()); w != nil {
			w.remove(g.want, g, nil)
		}
	}
}

func (l *Lanes) watchOf(c *definition.Connector) *watch {
	l.watching.Lock()
	defer l.watching.Unlock()
	return l.watches[c]
}

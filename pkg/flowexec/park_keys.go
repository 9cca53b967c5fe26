package flowexec

import (
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// keyWatches has the keyWatch of each connector that rows of a flow wait for. It is safe for concurrent use.
type keyWatches struct {
	connectors Connectors
	logger     hclog.Logger
	flow       string // the flow's name, for the log

	mu          sync.Mutex
	byConnector map[*definition.Connector]*keyWatch // guarded by mu
}

// newKeyWatches makes the keyWatches of a flow. No watch is open at first.
func newKeyWatches(c LanesConfig) *keyWatches {
	return &keyWatches{connectors: c.Connectors, logger: c.Logger, flow: c.Flow, byConnector: make(map[*definition.Connector]*keyWatch)}
}

// keyWatch tells the parked rows and resting runs of all lanes of a flow when the keys that they wait for were saved, in one connector. A
// watcher of the connection gives the news; the keyWatch keeps in the watcher exactly the keys that somebody waits for.
//
// Locks: registering is taken before mu. No other lock is taken while mu is held.
type keyWatch struct {
	conn    connector.Connection // a hold on the connector's connection; keyWatches closes it
	watcher connector.Watcher

	// registering is held while keys are added to the watcher or taken from it, so that the watcher and the lists below agree.
	registering sync.Mutex
	closed      bool // nothing can be added any more; guarded by registering

	mu sync.Mutex
	// groups are the parked groups by the key that they wait for. Those of one key are linked by group.nextWaiting. Guarded by mu.
	groups map[string]*group
	// resting are the resting runs by key. Guarded by mu.
	resting map[string][]*restingRun
}

// of returns the watch of a connector; nil means that none is open.
func (ws *keyWatches) of(c *definition.Connector) *keyWatch {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.byConnector[c]
}

// use calls add with the watch of a connector, and opens the watch before if there is none. add adds a group or resting run to the watch;
// registering is held meanwhile. If the connection can't be opened, use returns the reason, and add is not called.
func (ws *keyWatches) use(ctx context.Context, c *definition.Connector, add func(*keyWatch)) error {
	for {
		w := ws.of(c)
		if w == nil {
			var err error
			if w, err = ws.open(ctx, c); err != nil {
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

// open opens the watch of a connector, or returns the one that another lane has opened meanwhile. It closes watches of other versions of the
// connector's document that nobody uses any more.
func (ws *keyWatches) open(ctx context.Context, c *definition.Connector) (*keyWatch, error) {
	conn, err := connect(ctx, ws.connectors, c)
	if err != nil {
		return nil, err
	}
	w := &keyWatch{conn: conn, groups: make(map[string]*group), resting: make(map[string][]*restingRun)}
	w.watcher = conn.Watch(w.saved)
	var unused []*keyWatch
	ws.mu.Lock()
	for of, other := range ws.byConnector {
		if of != c && of.Name == c.Name && other.end(false) {
			delete(ws.byConnector, of)
			unused = append(unused, other)
		}
	}
	if other := ws.byConnector[c]; other != nil {
		unused = append(unused, w)
		w = other
	} else {
		ws.byConnector[c] = w
	}
	ws.mu.Unlock()
	ws.disconnect(unused)
	return w, nil
}

// close closes all watches, when the lanes have stopped.
func (ws *keyWatches) close() {
	var all []*keyWatch
	ws.mu.Lock()
	for _, w := range ws.byConnector {
		w.end(true)
		all = append(all, w)
	}
	clear(ws.byConnector)
	ws.mu.Unlock()
	ws.disconnect(all)
}

// disconnect closes the connections of watches that nothing can be added to any more.
func (ws *keyWatches) disconnect(all []*keyWatch) {
	for _, w := range all {
		if err := w.conn.Close(); err != nil {
			ws.logger.Warn("closing the connection that told of saved keys failed; nothing waits for it any more", "flow", ws.flow, "error", err)
		}
	}
}

// end closes the watch, so that nothing can be added to it any more, and reports whether it is closed. If all is false, it does so only if
// nothing waits in the watch.
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

// saved is called by the connection when a key may have been saved. It calls happened of each group and resting run that waits for the key,
// and takes them off the key.
func (w *keyWatch) saved(key string) {
	w.mu.Lock()
	groups, resting := w.groups[key], w.resting[key]
	delete(w.groups, key)
	delete(w.resting, key)
	w.mu.Unlock()
	for g := groups; g != nil; {
		next := g.nextWaiting
		g.nextWaiting = nil
		waiter(g).happened()
		g = next
	}
	for _, r := range resting {
		pointRestSaved.Hit()
		waiter(r).happened()
	}
}

// add adds a parked group, which is told when its wantedKey is saved. The caller holds registering.
func (w *keyWatch) add(g *group) {
	w.mu.Lock()
	known := w.known(g.wantedKey)
	g.nextWaiting, w.groups[g.wantedKey] = w.groups[g.wantedKey], g
	w.mu.Unlock()
	if !known {
		w.watcher.Add(g.wantedKey)
	}
}

// addResting adds a resting run, which is told when each of the keys is saved. The caller holds registering.
func (w *keyWatch) addResting(r *restingRun, keys []string) {
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

// known reports whether something waits for a key, which the watcher then watches. The caller holds mu.
func (w *keyWatch) known(key string) bool { return w.groups[key] != nil || len(w.resting[key]) > 0 }

// remove takes a group or a resting run off a key, so that it is not told of the key any more. One of g and r is nil. If g or r was told
// already, nothing changes.
func (w *keyWatch) remove(key string, g *group, r *restingRun) {
	w.registering.Lock()
	defer w.registering.Unlock()
	w.mu.Lock()
	known := w.known(key)
	w.unlink(key, g)
	if resting := slices.DeleteFunc(w.resting[key], func(o *restingRun) bool { return o == r }); len(resting) > 0 {
		w.resting[key] = resting
	} else {
		delete(w.resting, key)
	}
	last := known && !w.known(key)
	w.mu.Unlock()
	if last {
		w.watcher.Remove(key)
	}
}

// unlink takes a group out of the linked list of a key, if it is there. The caller holds mu.
func (w *keyWatch) unlink(key string, g *group) {
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
		return
	}
}

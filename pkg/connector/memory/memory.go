package memory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Store has the data of connectors, by the connector's name. All connections to one name share its data. A Store is safe for
// concurrent use.
type Store struct {
	mu     sync.Mutex
	tables map[string]*table // by connector name; guarded by mu
}

// New makes an empty store.
func New() *Store { return &Store{tables: map[string]*table{}} }

// Open is a connector.Opener: it connects to the data of the connector's name. A document of type memory needs no addrs and takes
// no params.
func (s *Store) Open(_ context.Context, c *definition.Connector) (connector.Connection, error) {
	if len(c.Params) > 0 {
		return nil, batch.Errorf(batch.CodeBadDocument, "connector %s (%s): a connector of type memory takes no params: remove %s",
			c.Name, c.Document, strings.Join(slices.Sorted(maps.Keys(c.Params)), ", "))
	}
	return &connection{name: c.Name, prefix: c.Key, guard: connector.NewGuard(c), table: s.table(c.Name), closed: make(chan struct{})}, nil
}

// table finds or makes the data of a connector.
func (s *Store) table(name string) *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[name]
	if t == nil {
		t = &table{entries: map[string]*entry{}, records: map[recordKey]*record{}, logs: map[logKey]*positionRecord{}, watchers: map[string][]*watcher{}}
		s.tables[name] = t
	}
	return t
}

// Data returns copies of the lists and the hashes that the connections of a connector have saved, by whole key, with the connector's
// prefix: for tests that look at the outcome of flows.
func (s *Store) Data(name string) (lists map[string][]string, hashes map[string]map[string]string) {
	return s.table(name).data()
}

// table is the data of one connector.
type table struct {
	mu       sync.Mutex
	entries  map[string]*entry          // by key with prefix; guarded by mu
	records  map[recordKey]*record      // guarded by mu, with everything in them
	logs     map[logKey]*positionRecord // guarded by mu, with everything in them
	watchers map[string][]*watcher      // the Watchers that wait for a key that is not there; guarded by mu
}

// entry is the value of a key: a hash, or a list.
type entry struct {
	fields map[string]string // nil means that it is a list
	list   []string
}

// watcher is the connector.Watcher of this package.
type watcher struct {
	tell func(key string) // the caller's; key is without the connector's prefix
	conn *connection
}

// wake tells the watcher of a key. Call it without a lock.
func (w *watcher) wake(key string) { w.tell(strings.TrimPrefix(key, w.conn.prefix)) }

// connection is the connector.Connection of this package.
type connection struct {
	name, prefix string
	guard        connector.Guard
	table        *table
	closed       chan struct{}
	closing      sync.Once
}

// usable returns an error if the connection is closed or ctx is over. doing describes the call in the error, such as "saving".
func (c *connection) usable(ctx context.Context, doing string) error {
	select {
	case <-c.closed:
		return connector.Closed(c.name)
	default:
	}
	if ctx.Err() != nil {
		return connector.Ended(ctx, c.name, doing)
	}
	return nil
}

// Save implements connector.Connection.
func (c *connection) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	return c.guard.Save(effects, func(effects []connector.Effect) ([]error, error) { return c.save(ctx, cause, effects) })
}

// save is Save without the check for KisGrid's own keys.
func (c *connection) save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if err := c.usable(ctx, "saving"); err != nil {
		return nil, err
	}
	now := time.Now()
	if cause.Age(now) > connector.OnceWindow {
		return nil, connector.TooOld(c.name, &cause, connector.OnceWindow)
	}
	verdicts, woken, err := c.apply(&cause, effects, now)
	if err != nil {
		return nil, err
	}
	for key, watchers := range woken {
		for _, w := range watchers {
			w.wake(key)
		}
	}
	return verdicts, nil
}

// apply carries effects out. verdicts are those that Save returns. woken are the watchers of the keys, by whole key; apply takes
// them off the table, and the caller wakes them. The error says that the batch lies below the floor of its stream, or that its log has a later term.
func (c *connection) apply(cause *connector.Cause, effects []connector.Effect, now time.Time) (verdicts []error, woken map[string][]*watcher, err error) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	var done effectIDs
	var log *positionRecord
	if cause.Log != nil {
		if log = c.table.positions(cause, now); log == nil {
			return nil, nil, connector.Superseded(c.name, cause.Log)
		}
	} else if ids, ok := c.table.done(cause, now); ok {
		done = ids
	} else {
		return nil, nil, connector.GivenUp(c.name, cause)
	}
	for i := range effects {
		key, id, settled := c.prefix+effects[i].Key, idOf(&effects[i]), false
		if log != nil {
			done, settled = log.at(effects[i].Position)
		}
		if settled || done.has(id) {
			continue
		}
		if err := c.table.apply(key, &effects[i]); err != nil {
			if verdicts == nil {
				verdicts = make([]error, len(effects))
			}
			verdicts[i] = batch.Errorf(batch.CodeSaveFailed, "connector %s: save to %q: %w", c.name, key, err)
			continue
		}
		done.add(id)
		if watchers := c.table.watchers[key]; len(watchers) > 0 {
			if woken == nil {
				woken = make(map[string][]*watcher)
			}
			woken[key] = watchers
			delete(c.table.watchers, key)
		}
	}
	return verdicts, woken, nil
}

// apply carries one effect out. key is the connector's prefix and the effect's key together. It returns an error if the effect
// does not fit the value that is stored under the key. The caller holds t.mu.
func (t *table) apply(key string, e *connector.Effect) error {
	if e.Op == connector.Delete {
		delete(t.entries, key)
		return nil
	}
	old := t.entries[key]
	if old != nil && (old.fields == nil) != (e.Op == connector.Append) {
		return errors.New("the key holds another type: use another key, or delete it first")
	}
	var sum string
	if e.Op == connector.Incr {
		var err error
		if sum, err = add(old, e.Field, e.Value); err != nil {
			return err
		}
	}
	if old == nil {
		old = &entry{}
		t.entries[key] = old
	}
	if e.Op == connector.Append {
		old.list = append(old.list, e.Value)
		return nil
	}
	if old.fields == nil {
		old.fields = map[string]string{}
	}
	switch e.Op {
	case connector.Set:
		old.fields[e.Field] = e.Value
	case connector.Incr:
		old.fields[e.Field] = sum
	}
	return nil
}

// add returns the text that a field of an entry has after Incr of value. A nil entry stands for a key that is not there.
func add(e *entry, field, value string) (string, error) {
	held := "0"
	if e != nil {
		if text, ok := e.fields[field]; ok {
			held = text
		}
	}
	return connector.Add(held, value)
}

// Load implements connector.Connection.
func (c *connection) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	return c.guard.Load(keys, func(keys []string) ([]connector.Value, error) { return c.load(ctx, keys) })
}

// load is Load without the check for KisGrid's own keys.
func (c *connection) load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if err := c.usable(ctx, "loading"); err != nil || len(keys) == 0 {
		return nil, err
	}
	values := make([]connector.Value, len(keys))
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for i, key := range keys {
		e := c.table.entries[c.prefix+key]
		switch {
		case e == nil:
		case e.fields == nil:
			values[i].Err = batch.Errorf(batch.CodeConversionFailed, "connector %s: load %q: the key holds a list, not a hash: use another key", c.name, c.prefix+key)
		default:
			for _, name := range slices.Sorted(maps.Keys(e.fields)) {
				values[i].Fields = append(values[i].Fields, connector.Field{Name: name, Value: e.fields[name]})
			}
		}
	}
	return values, nil
}

// join registers a watcher for keys. If it finds a key that is there, it stops and returns true; else it returns false.
func (c *connection) join(w *watcher, keys []string) (there bool) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for _, key := range keys {
		if c.table.entries[c.prefix+key] != nil {
			return true
		}
		c.table.watchers[c.prefix+key] = append(c.table.watchers[c.prefix+key], w)
	}
	return false
}

// Watch implements connector.Connection.
func (c *connection) Watch(wake func(key string)) connector.Watcher {
	return &watcher{tell: wake, conn: c}
}

// Add implements connector.Watcher.
func (w *watcher) Add(keys ...string) {
	for _, key := range keys {
		if w.conn.join(w, []string{key}) {
			w.tell(key)
		}
	}
}

// Remove implements connector.Watcher.
func (w *watcher) Remove(keys ...string) { w.conn.leave(w, keys) }

// leave takes a Watcher off keys.
func (c *connection) leave(w *watcher, keys []string) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for _, key := range keys {
		rest := slices.DeleteFunc(c.table.watchers[c.prefix+key], func(o *watcher) bool { return o == w })
		if len(rest) == 0 {
			delete(c.table.watchers, c.prefix+key)
		} else {
			c.table.watchers[c.prefix+key] = rest
		}
	}
}

// data is Store.Data for one connector.
func (t *table) data() (lists map[string][]string, hashes map[string]map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lists, hashes = map[string][]string{}, map[string]map[string]string{}
	for key, e := range t.entries {
		if e.fields == nil {
			lists[key] = slices.Clone(e.list)
		} else {
			hashes[key] = maps.Clone(e.fields)
		}
	}
	return lists, hashes
}

// Data returns the data that the connection's connector holds, as Store.Data does. It may be called after Close.
func (c *connection) Data() (lists map[string][]string, hashes map[string]map[string]string) {
	return c.table.data()
}

// Ping implements connector.Connection: it returns an error only if the connection is closed or ctx is over.
func (c *connection) Ping(ctx context.Context) error {
	return c.usable(ctx, "asking whether it is there")
}

// Close implements connector.Connection. The data stays in the Store.
func (c *connection) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return nil
}

package kis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Function is KisFlow's view of a function in its place in a flow: package function has it under KisFlow's own name. It
// is safe for concurrent use. The links between functions are for looking at: a flow runs its functions in the order in
// which they were added.
type Function interface {
	// Call calls what is registered under the function's name.
	Call(ctx context.Context, flow Flow) error
	SetConfig(c *FuncConfig) error
	GetConfig() *FuncConfig
	// GetFlow is, while the function runs, the flow that it runs in.
	SetFlow(f Flow) error
	GetFlow() Flow
	AddConnector(c Connector) error
	GetConnector() Connector
	// CreateId gives the function a new id.
	CreateId()
	GetID() string
	// GetPrevId and GetNextId are FirstVirtual and LastVirtual at the ends.
	GetPrevId() string
	GetNextId() string
	Next() Function
	Prev() Function
	SetN(f Function)
	SetP(f Function)
	// GetMetaData and SetMetaData keep values with this function of this copy of the flow; nil: nothing kept.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
}

// The ids beside those of a flow's first and last functions.
const (
	FirstVirtual = "FunctionIDFirstVirtual"
	LastVirtual  = "FunctionIDLastVirtual"
)

// NewID is a random id behind prefixes, joined by dashes.
func NewID(prefixes ...string) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return strings.Join(append(slices.Clip(prefixes), hex.EncodeToString(id[:])), "-")
}

// NewFunction is a function that is in no flow's chain.
func NewFunction(r *Registry, c *FuncConfig) Function {
	return &chainEntry{registry: r, id: NewID("func"), config: c}
}

// chainEntry is a function in a chain.
type chainEntry struct {
	registry *Registry
	own      FParam // the flow's parameters for it
	params   FParam // those over the function's own
	meta     metadata

	mu        sync.RWMutex
	id        string      // guarded by mu
	config    *FuncConfig // guarded by mu
	flow      Flow        // guarded by mu
	connector Connector   // guarded by mu
	prev      Function    // guarded by mu
	next      Function    // guarded by mu
}

// get reads a field of the entry.
func get[T any](e *chainEntry, field *T) T {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return *field
}

// set writes a field of the entry.
func set[T any](e *chainEntry, field *T, value T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*field = value
}

func (e *chainEntry) Call(ctx context.Context, flow Flow) error {
	return e.registry.CallFunction(ctx, e.GetConfig().FName, flow)
}

func (e *chainEntry) SetConfig(c *FuncConfig) error {
	if c == nil {
		return errors.New("configure a function: the configuration is nil")
	}
	set(e, &e.config, c)
	return nil
}

func (e *chainEntry) SetFlow(f Flow) error {
	if f == nil {
		return errors.New("give a function its flow: it is nil")
	}
	set(e, &e.flow, f)
	return nil
}

func (e *chainEntry) AddConnector(c Connector) error {
	if c == nil {
		return errors.New("give a function its connector: it is nil")
	}
	set(e, &e.connector, c)
	return nil
}

func (e *chainEntry) GetConfig() *FuncConfig            { return get(e, &e.config) }
func (e *chainEntry) GetFlow() Flow                     { return get(e, &e.flow) }
func (e *chainEntry) GetConnector() Connector           { return get(e, &e.connector) }
func (e *chainEntry) CreateId()                         { set(e, &e.id, NewID("func")) }
func (e *chainEntry) GetID() string                     { return get(e, &e.id) }
func (e *chainEntry) Next() Function                    { return get(e, &e.next) }
func (e *chainEntry) Prev() Function                    { return get(e, &e.prev) }
func (e *chainEntry) SetN(f Function)                   { set(e, &e.next, f) }
func (e *chainEntry) SetP(f Function)                   { set(e, &e.prev, f) }
func (e *chainEntry) GetMetaData(key string) any        { return e.meta.get(key) }
func (e *chainEntry) SetMetaData(key string, value any) { e.meta.set(key, value) }

func (e *chainEntry) GetPrevId() string {
	if prev := e.Prev(); prev != nil {
		return prev.GetID()
	}
	return FirstVirtual
}

func (e *chainEntry) GetNextId() string {
	if next := e.Next(); next != nil {
		return next.GetID()
	}
	return LastVirtual
}

// runningFunction is a function while it runs: its flow is the run.
type runningFunction struct {
	*chainEntry
	run *flowRun
}

func (f runningFunction) GetFlow() Flow { return f.run }

func (f runningFunction) GetConnector() Connector {
	c, err := f.run.GetConnector()
	if err != nil {
		return nil
	}
	return c
}

// Chain is the functions of a flow with their configurations, as KisFlow's interface shows them. It is safe for concurrent
// use.
type Chain struct {
	registry *Registry
	id       string
	config   *FlowConfig
	flow     Flow               // nil in a cluster
	bundle   *definition.Bundle // what it was made of; nil: of configurations

	mu      sync.RWMutex
	entries []*chainEntry // guarded by mu
}

// NewChain makes an empty chain for a flow that calls what is registered in r.
func NewChain(r *Registry, flow Flow, c *FlowConfig) *Chain {
	return &Chain{registry: r, id: NewID("flow"), config: c, flow: flow}
}

// chainOf makes the chain of a flow's documents. What functions of the same names kept in the chain before it is kept.
func chainOf(b *definition.Bundle, r *Registry, before *Chain) *Chain {
	c := &Chain{registry: r, id: NewID("flow"), config: FlowConfigOf(b.Flow), bundle: b}
	kept := make(map[string][]*chainEntry)
	if before != nil {
		c.id = before.id
		for _, e := range before.all() {
			kept[e.config.FName] = append(kept[e.config.FName], e)
		}
	}
	connectors := make(map[string]*ConnConfig)
	for name, connector := range b.Connectors {
		connectors[name] = ConnConfigOf(connector)
	}
	for _, function := range b.Flow.Functions {
		doc := b.Functions[function.Name]
		e := c.add(FuncConfigOf(doc, connectors[doc.Connector]), function.Params)
		if old := kept[function.Name]; len(old) > 0 {
			old[0].meta.copyTo(&e.meta)
			kept[function.Name] = old[1:]
		}
	}
	return c
}

// ID is the flow's random id.
func (c *Chain) ID() string { return c.id }

// Config is the flow's configuration.
func (c *Chain) Config() *FlowConfig { return c.config }

// Append adds a function with the flow's parameters for it. With an error it is not added, unless that has code
// CONNECTOR_UNAVAILABLE: the connector could not be opened, which is tried again when the function asks for it.
func (c *Chain) Append(function *FuncConfig, params FParam) error {
	if function == nil {
		return batch.Errorf(batch.CodeBadDocument, "flow %s: the function to add is nil", c.config.FlowName)
	}
	if _, err := function.Document(); err != nil {
		return fmt.Errorf("add function %q to flow %s: %w", function.FName, c.config.FlowName, err)
	}
	var connector Connector
	var unavailable error
	if function.Option.CName != "" {
		config, err := function.GetConnConfig()
		if err == nil {
			_, err = config.Document()
		}
		if err != nil {
			return fmt.Errorf("add function %q to flow %s: %w", function.FName, c.config.FlowName, err)
		}
		if c.registry.hasInit(config.CName) {
			if connector, _, err = c.registry.connect(context.Background(), config); err != nil {
				unavailable = batch.Errorf(batch.CodeConnectorUnavailable, "add function %q to flow %s: %w", function.FName, c.config.FlowName, err)
			}
		}
	}
	e := c.add(function, params)
	if connector != nil {
		set(e, &e.connector, connector)
	}
	return unavailable
}

func (c *Chain) add(function *FuncConfig, params FParam) *chainEntry {
	e := &chainEntry{registry: c.registry, id: NewID("func"), config: function, own: maps.Clone(params), params: maps.Clone(function.Option.Params), flow: c.flow}
	if e.params == nil {
		e.params = make(FParam)
	}
	maps.Copy(e.params, params)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.entries); n > 0 {
		e.prev = c.entries[n-1]
		set(c.entries[n-1], &c.entries[n-1].next, Function(e))
	}
	c.entries = append(c.entries, e)
	return e
}

func (c *Chain) all() []*chainEntry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clip(c.entries)
}

// Fork makes the same chain for another flow, with functions of its own, and the same connectors.
func (c *Chain) Fork(flow Flow) *Chain {
	config := *c.config
	config.Flows = slices.Clone(config.Flows)
	fork := NewChain(c.registry, flow, &config)
	for _, e := range c.all() {
		forked := fork.add(e.GetConfig(), e.own)
		forked.connector = e.GetConnector()
	}
	return fork
}

// Len is how many functions there are.
func (c *Chain) Len() int { return len(c.all()) }

// Function is the function in a place, from 0; nil if there is none.
func (c *Chain) Function(place int) Function {
	if entries := c.all(); place >= 0 && place < len(entries) {
		return entries[place]
	}
	return nil
}

// FuncConfig is the configuration of a function by its name; nil if there is none.
func (c *Chain) FuncConfig(name string) *FuncConfig {
	for _, e := range c.all() {
		if config := e.GetConfig(); config.FName == name {
			return config
		}
	}
	return nil
}

// Params are a copy of the parameters of each function, by the function's id.
func (c *Chain) Params() map[string]FParam {
	all := make(map[string]FParam)
	for _, e := range c.all() {
		all[e.GetID()] = maps.Clone(e.params)
	}
	return all
}

// Documents describe the flow, each function and each connector once, sorted as a bundle is. The error has all mistakes.
func (c *Chain) Documents() ([]definition.Document, error) {
	var errs []error
	flow, entries := *c.config, c.all()
	flow.Flows = nil
	seen := make(map[string]definition.Document)
	var docs []definition.Document
	add := func(d definition.Document, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		key := string(d.Kind) + "/" + d.Name
		switch other, twice := seen[key]; {
		case !twice:
			seen[key] = d
			docs = append(docs, d)
		case string(other.YAML) != string(d.YAML):
			errs = append(errs, batch.Errorf(batch.CodeBadDocument, "flow %s has two %ss named %s that differ: give them different names", flow.FlowName, d.Kind, d.Name))
		}
	}
	for _, e := range entries {
		config := e.GetConfig()
		flow.Flows = append(flow.Flows, FlowFunctionParam{config.FName, e.own})
		add(config.Document())
		if config.connector != nil && config.Option.CName != "" {
			add(config.connector.Document())
		}
	}
	add(flow.Document())
	slices.SortFunc(docs, func(a, b definition.Document) int {
		return strings.Compare(kindOrder[a.Kind]+a.Name, kindOrder[b.Kind]+b.Name)
	})
	return docs, errors.Join(errs...)
}

var kindOrder = map[definition.Kind]string{definition.KindFlow: "1", definition.KindFunc: "2", definition.KindConn: "3"}

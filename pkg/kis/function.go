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
	return &link{registry: r, id: NewID("func"), config: c}
}

// link is a function in a chain.
type link struct {
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

// get reads a field of the link.
func get[T any](l *link, field *T) T {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return *field
}

// set writes a field of the link.
func set[T any](l *link, field *T, value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*field = value
}

func (l *link) Call(ctx context.Context, flow Flow) error {
	return l.registry.CallFunction(ctx, l.GetConfig().FName, flow)
}

func (l *link) SetConfig(c *FuncConfig) error {
	if c == nil {
		return errors.New("configure a function: the configuration is nil")
	}
	set(l, &l.config, c)
	return nil
}

func (l *link) SetFlow(f Flow) error {
	if f == nil {
		return errors.New("give a function its flow: it is nil")
	}
	set(l, &l.flow, f)
	return nil
}

func (l *link) AddConnector(c Connector) error {
	if c == nil {
		return errors.New("give a function its connector: it is nil")
	}
	set(l, &l.connector, c)
	return nil
}

func (l *link) GetConfig() *FuncConfig            { return get(l, &l.config) }
func (l *link) GetFlow() Flow                     { return get(l, &l.flow) }
func (l *link) GetConnector() Connector           { return get(l, &l.connector) }
func (l *link) CreateId()                         { set(l, &l.id, NewID("func")) }
func (l *link) GetID() string                     { return get(l, &l.id) }
func (l *link) Next() Function                    { return get(l, &l.next) }
func (l *link) Prev() Function                    { return get(l, &l.prev) }
func (l *link) SetN(f Function)                   { set(l, &l.next, f) }
func (l *link) SetP(f Function)                   { set(l, &l.prev, f) }
func (l *link) GetMetaData(key string) any        { return l.meta.get(key) }
func (l *link) SetMetaData(key string, value any) { l.meta.set(key, value) }

func (l *link) GetPrevId() string {
	if prev := l.Prev(); prev != nil {
		return prev.GetID()
	}
	return FirstVirtual
}

func (l *link) GetNextId() string {
	if next := l.Next(); next != nil {
		return next.GetID()
	}
	return LastVirtual
}

// runningFunction is a function while it runs: its flow is the run.
type runningFunction struct {
	*link
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

	mu    sync.RWMutex
	links []*link // guarded by mu
}

// NewChain makes an empty chain for a flow that calls what is registered in r.
func NewChain(r *Registry, flow Flow, c *FlowConfig) *Chain {
	return &Chain{registry: r, id: NewID("flow"), config: c, flow: flow}
}

// chainOf makes the chain of a flow's documents. What functions of the same names kept in the chain before it is kept.
func chainOf(b *definition.Bundle, r *Registry, before *Chain) *Chain {
	c := &Chain{registry: r, id: NewID("flow"), config: FlowConfigOf(b.Flow), bundle: b}
	kept := make(map[string][]*link)
	if before != nil {
		c.id = before.id
		for _, l := range before.all() {
			kept[l.config.FName] = append(kept[l.config.FName], l)
		}
	}
	connectors := make(map[string]*ConnConfig)
	for name, connector := range b.Connectors {
		connectors[name] = ConnConfigOf(connector)
	}
	for _, function := range b.Flow.Functions {
		doc := b.Functions[function.Name]
		l := c.add(FuncConfigOf(doc, connectors[doc.Connector]), function.Params)
		if old := kept[function.Name]; len(old) > 0 {
			old[0].meta.copyTo(&l.meta)
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
	l := c.add(function, params)
	if connector != nil {
		set(l, &l.connector, connector)
	}
	return unavailable
}

func (c *Chain) add(function *FuncConfig, params FParam) *link {
	l := &link{registry: c.registry, id: NewID("func"), config: function, own: maps.Clone(params), params: maps.Clone(function.Option.Params), flow: c.flow}
	if l.params == nil {
		l.params = make(FParam)
	}
	maps.Copy(l.params, params)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.links); n > 0 {
		l.prev = c.links[n-1]
		set(c.links[n-1], &c.links[n-1].next, Function(l))
	}
	c.links = append(c.links, l)
	return l
}

func (c *Chain) all() []*link {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clip(c.links)
}

// Fork makes the same chain for another flow, with functions of its own, and the same connectors.
func (c *Chain) Fork(flow Flow) *Chain {
	config := *c.config
	config.Flows = slices.Clone(config.Flows)
	fork := NewChain(c.registry, flow, &config)
	for _, l := range c.all() {
		forked := fork.add(l.GetConfig(), l.own)
		forked.connector = l.GetConnector()
	}
	return fork
}

// Len is how many functions there are.
func (c *Chain) Len() int { return len(c.all()) }

// Function is the function in a place, from 0; nil if there is none.
func (c *Chain) Function(place int) Function {
	if links := c.all(); place >= 0 && place < len(links) {
		return links[place]
	}
	return nil
}

// FuncConfig is the configuration of a function by its name; nil if there is none.
func (c *Chain) FuncConfig(name string) *FuncConfig {
	for _, l := range c.all() {
		if config := l.GetConfig(); config.FName == name {
			return config
		}
	}
	return nil
}

// Params are a copy of the parameters of each function, by the function's id.
func (c *Chain) Params() map[string]FParam {
	all := make(map[string]FParam)
	for _, l := range c.all() {
		all[l.GetID()] = maps.Clone(l.params)
	}
	return all
}

// Documents describe the flow, each function and each connector once, sorted as a bundle is. The error has all mistakes.
func (c *Chain) Documents() ([]definition.Document, error) {
	var errs []error
	flow, links := *c.config, c.all()
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
	for _, l := range links {
		config := l.GetConfig()
		flow.Flows = append(flow.Flows, FlowFunctionParam{config.FName, l.own})
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

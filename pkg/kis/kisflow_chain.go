package kis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Chain is the list of a flow's functions with their configurations, as KisFlow's interface shows them. Package flow makes one
// for each flow that a program builds; in a cluster it is made from the flow's documents. It is safe for concurrent use.
type Chain struct {
	registry *KisFlowRegistry
	id       string
	config   *FlowConfig
	flow     Flow               // that the program made; nil in a cluster
	bundle   *definition.Bundle // the documents that it was made from; nil if a program made it from configurations

	mu      sync.RWMutex
	entries []*chainEntry // guarded by mu
}

// NewChain makes an empty chain for a flow that calls the functions registered with r.
func NewChain(r *Registry, flow Flow, c *FlowConfig) *Chain {
	return newChain(&r.KisFlowRegistry, flow, c)
}

// newChain does the same as NewChain. r is the part of the registry that a chain needs.
func newChain(r *KisFlowRegistry, flow Flow, c *FlowConfig) *Chain {
	return &Chain{registry: r, id: NewID("flow"), config: c, flow: flow}
}

// chainOf makes a chain from the documents in b. before is the chain that was made from an earlier revision of the documents; nil
// means that there is none. The new chain takes over its id, and the metadata of each function that has the same name.
func chainOf(b *definition.Bundle, r *KisFlowRegistry, before *Chain) *Chain {
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

// ID returns the random id of this copy of the flow.
func (c *Chain) ID() string { return c.id }

// Config returns the flow's configuration.
func (c *Chain) Config() *FlowConfig { return c.config }

// Append adds a function to the end of the chain; params are the flow's parameters for it. The flow's configuration does not
// change. An error means that the function was not added, unless the error has code CONNECTOR_UNAVAILABLE: then the function was
// added, its connector could not be opened, and opening is tried again when the function asks for the connector.
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

// add adds a function to the end of the chain, links it to the function before, and returns its entry.
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

// all returns the chain's entries, in the order of the flow. The caller must not change the elements of the slice.
func (c *Chain) all() []*chainEntry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clip(c.entries)
}

// Fork makes a chain with the same functions, parameters and connectors for another flow. Its entries are new, with new ids and
// without metadata.
func (c *Chain) Fork(flow Flow) *Chain {
	config := *c.config
	config.Flows = slices.Clone(config.Flows)
	fork := newChain(c.registry, flow, &config)
	for _, e := range c.all() {
		forked := fork.add(e.GetConfig(), e.own)
		forked.connector = e.GetConnector()
	}
	return fork
}

// Len returns the number of functions.
func (c *Chain) Len() int { return len(c.all()) }

// Function returns the function at a place, from 0, or nil if there is none.
func (c *Chain) Function(place int) Function {
	if entries := c.all(); place >= 0 && place < len(entries) {
		return entries[place]
	}
	return nil
}

// FuncConfig returns the configuration of the first function with the given name, or nil if there is none.
func (c *Chain) FuncConfig(name string) *FuncConfig {
	for _, e := range c.all() {
		if config := e.GetConfig(); config.FName == name {
			return config
		}
	}
	return nil
}

// Params returns a copy of the parameters of each function, by the function's id.
func (c *Chain) Params() map[string]FParam {
	all := make(map[string]FParam)
	for _, e := range c.all() {
		all[e.GetID()] = maps.Clone(e.params)
	}
	return all
}

// Documents returns documents that describe the flow: the flow, then each function and each connector once, sorted by name. The
// error joins all mistakes, such as two functions with the same name and different configurations; a document with a mistake is
// left out.
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

// kindOrder has a digit for each kind of document. Documents are sorted by this digit, and then by name.
var kindOrder = map[definition.Kind]string{definition.KindFlow: "1", definition.KindFunc: "2", definition.KindConn: "3"}

package kis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
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
	return &chainEntry{registry: &r.KisFlowRegistry, id: NewID("func"), config: c}
}

// chainEntry is a function in a chain.
type chainEntry struct {
	registry *KisFlowRegistry
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

package kis

import (
	"context"
	"errors"
	"sync"
)

// Function is KisFlow's view of a function in its place in a flow. It is safe for concurrent use. The links to the functions
// beside it are for reading only: a flow runs its functions in the order in which they were added to it, whatever SetN and SetP
// say.
type Function interface {
	// Call calls the FaaS function that is registered under the function's name.
	Call(ctx context.Context, flow Flow) error
	// SetConfig sets the function's configuration, GetConfig returns it.
	SetConfig(c *FuncConfig) error
	GetConfig() *FuncConfig
	// SetFlow sets the flow that the function belongs to. GetFlow returns it; while the function runs, it returns the Flow of the
	// call.
	SetFlow(f Flow) error
	GetFlow() Flow
	// AddConnector sets the function's connector. GetConnector returns it, or nil.
	AddConnector(c Connector) error
	GetConnector() Connector
	// CreateId gives the function a new random id. GetID returns the id.
	CreateId()
	GetID() string
	// GetPrevId and GetNextId return the ids of the functions before and after this one: FirstVirtual and LastVirtual at the
	// flow's ends.
	GetPrevId() string
	GetNextId() string
	// Next and Prev return the functions after and before this one, or nil at the flow's ends. SetN and SetP set them.
	Next() Function
	Prev() Function
	SetN(f Function)
	SetP(f Function)
	// GetMetaData returns a value that SetMetaData keeps with this function of this copy of the flow, or nil.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
}

// FirstVirtual is the GetPrevId of a flow's first function, and LastVirtual the GetNextId of its last one.
const (
	FirstVirtual = "FunctionIDFirstVirtual"
	LastVirtual  = "FunctionIDLastVirtual"
)

// NewFunction makes a Function that belongs to no flow. Its method Call calls the FaaS function registered with r under the name
// in c.
func NewFunction(r *Registry, c *FuncConfig) Function {
	return &chainEntry{registry: &r.KisFlowRegistry, id: NewID("func"), config: c}
}

// chainEntry implements Function for one place of a flow. A function that stands at two places of the flow has two entries.
type chainEntry struct {
	registry *KisFlowRegistry
	own      FParam // the flow's parameters for it
	params   FParam // own over the function's default parameters
	meta     metadata

	mu        sync.RWMutex
	id        string      // guarded by mu
	config    *FuncConfig // guarded by mu
	flow      Flow        // guarded by mu
	connector Connector   // guarded by mu
	prev      Function    // guarded by mu
	next      Function    // guarded by mu
}

// get reads a field of a chainEntry under the entry's lock.
func get[T any](e *chainEntry, field *T) T {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return *field
}

// set writes a field of a chainEntry under the entry's lock.
func set[T any](e *chainEntry, field *T, value T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*field = value
}

func (e *chainEntry) Call(ctx context.Context, flow Flow) error {
	return e.registry.CallFunction(ctx, e.GetConfig().FName, flow)
}

// SetConfig implements Function. A nil configuration is an error.
func (e *chainEntry) SetConfig(c *FuncConfig) error {
	if c == nil {
		return errors.New("configure a function: the configuration is nil")
	}
	set(e, &e.config, c)
	return nil
}

// SetFlow implements Function. A nil flow is an error.
func (e *chainEntry) SetFlow(f Flow) error {
	if f == nil {
		return errors.New("give a function its flow: it is nil")
	}
	set(e, &e.flow, f)
	return nil
}

// AddConnector implements Function. A nil connector is an error.
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

// GetPrevId returns the id of the function before this one in the flow, or FirstVirtual if there is none.
func (e *chainEntry) GetPrevId() string {
	if prev := e.Prev(); prev != nil {
		return prev.GetID()
	}
	return FirstVirtual
}

// GetNextId returns the id of the function after this one in the flow, or LastVirtual if there is none.
func (e *chainEntry) GetNextId() string {
	if next := e.Next(); next != nil {
		return next.GetID()
	}
	return LastVirtual
}

// runningFunction is the Function that a FaaS function gets from its Flow: the chainEntry of its place, except that GetFlow
// returns the Flow of the call and GetConnector opens the connector.
type runningFunction struct {
	*chainEntry
	run *flowRun
}

func (f runningFunction) GetFlow() Flow { return f.run }

// GetConnector opens the function's connector if it is not open, and returns nil if that fails.
func (f runningFunction) GetConnector() Connector {
	c, err := f.run.GetConnector()
	if err != nil {
		return nil
	}
	return c
}

package kis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// KisPool is KisFlow's name of Registry.
type KisPool = Registry

var pool = sync.OnceValue(NewRegistry)

// Pool is the default Registry: what KisFlow's programs register with, and flows made in code or imported call.
func Pool() *Registry { return pool() }

// kisflowState is what a Registry holds for KisFlow's programs beside functions.
type kisflowState struct {
	mu      sync.RWMutex
	flows   map[string]Flow             // guarded by mu
	inits   map[string]ConnInit         // by connector; guarded by mu
	calls   map[connectorCall]CaaS      // guarded by mu
	closers []func() error              // guarded by mu
	lookup  func(string) (string, bool) // guarded by mu; nil: os.LookupEnv
}

// connectorCall names what CaaS registers.
type connectorCall struct {
	connector, function string
	mode                definition.Mode
}

// AddFlow makes a flow known under a name, in place of one that was known before.
func (r *Registry) AddFlow(name string, flow Flow) {
	r.kisflow.mu.Lock()
	defer r.kisflow.mu.Unlock()
	if r.kisflow.flows == nil {
		r.kisflow.flows = make(map[string]Flow)
	}
	r.kisflow.flows[name] = flow
}

// GetFlow finds a flow that AddFlow, or an import, made known; nil if there is none.
func (r *Registry) GetFlow(name string) Flow {
	r.kisflow.mu.RLock()
	defer r.kisflow.mu.RUnlock()
	return r.kisflow.flows[name]
}

// GetFlows are all flows, by their names.
func (r *Registry) GetFlows() []Flow {
	r.kisflow.mu.RLock()
	defer r.kisflow.mu.RUnlock()
	var flows []Flow
	for _, name := range slices.Sorted(maps.Keys(r.kisflow.flows)) {
		flows = append(flows, r.kisflow.flows[name])
	}
	return flows
}

// CaaSInit registers what opens a connector, by its name. It is called when the connector is first used, again after an
// error, and under no lock. A name used twice and a nil function are mistakes, which Err reports.
func (r *Registry) CaaSInit(connector string, open ConnInit) {
	place := callerPlace()
	r.kisflow.mu.Lock()
	_, twice := r.kisflow.inits[connector]
	if r.kisflow.inits == nil {
		r.kisflow.inits = make(map[string]ConnInit)
	}
	if !twice && open != nil {
		r.kisflow.inits[connector] = open
	}
	r.kisflow.mu.Unlock()
	r.refuse(place, fmt.Sprintf("register how connector %q opens", connector), open == nil, twice)
}

// CaaS registers what Connector.Call calls for a connector in a Save or Load function. What is registered twice and a nil
// function are mistakes, which Err reports.
func (r *Registry) CaaS(connector, function string, mode Mode, call CaaS) {
	place, key := callerPlace(), connectorCall{connector, function, definition.Mode(mode)}
	r.kisflow.mu.Lock()
	_, twice := r.kisflow.calls[key]
	if r.kisflow.calls == nil {
		r.kisflow.calls = make(map[connectorCall]CaaS)
	}
	if !twice && call != nil {
		r.kisflow.calls[key] = call
	}
	r.kisflow.mu.Unlock()
	r.refuse(place, fmt.Sprintf("register calls of connector %q by the %s %q", connector, mode, function), call == nil, twice)
}

// Mode is what a function is for, as its configuration's FMode has it.
type Mode string

// refuse notes a mistake of registration.
func (r *Registry) refuse(place, what string, missing, twice bool) {
	var problem string
	switch {
	case missing:
		problem = "there is no function (nil)"
	case twice:
		problem = "it is registered already: remove one of the two"
	default:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mistakes = append(r.mistakes, mistake(place, what+": "+problem))
}

// callerPlace is the line that called who calls it.
func callerPlace() string {
	if _, file, line, ok := runtime.Caller(2); ok {
		return fmt.Sprintf("%s:%d", filepath.Base(file), line)
	}
	return "unknown place"
}

func (r *Registry) hasInit(connector string) bool {
	r.kisflow.mu.RLock()
	defer r.kisflow.mu.RUnlock()
	return r.kisflow.inits[connector] != nil
}

// CallConnInit calls what CaaSInit registered for the connector.
func (r *Registry) CallConnInit(c Connector) error {
	r.kisflow.mu.RLock()
	open := r.kisflow.inits[c.GetName()]
	r.kisflow.mu.RUnlock()
	if open == nil {
		return batch.Errorf(batch.CodeUnknownConnector, "nothing is registered to open connector %s: register it with CaaSInit", c.GetName())
	}
	return open(c)
}

// CallConnector calls what CaaS registered for the connector and the function that the flow is in.
func (r *Registry) CallConnector(ctx context.Context, flow Flow, c Connector, args any) (any, error) {
	fn := flow.GetThisFunction()
	if fn == nil {
		return nil, errors.New("call a connector: the flow is in no function: call it from one")
	}
	key := connectorCall{c.GetName(), fn.GetConfig().FName, definition.Mode(fn.GetConfig().FMode)}
	r.kisflow.mu.RLock()
	call := r.kisflow.calls[key]
	r.kisflow.mu.RUnlock()
	if call == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "nothing is registered for calls of connector %s by the %s %s: register it with CaaS",
			key.connector, key.mode, key.function)
	}
	return call(ctx, c, fn, flow, args)
}

// CallFunction calls the FaaS function of that name with the flow's input: its rows, read as the types that it takes, or an
// error if one can't be. What it commits, it commits to the flow.
func (r *Registry) CallFunction(ctx context.Context, name string, flow Flow) error {
	code, ok := r.Lookup(name)
	if !ok {
		return batch.Errorf(batch.CodeUnknownFunction, "no function %q is registered here: register it with FaaS", name)
	}
	fn, ok := code.(*faas)
	if !ok {
		return batch.Errorf(batch.CodeUnknownFunction, "function %q is registered as kis.%s: only FaaS functions can be called so", name, code.Form())
	}
	return fn.callWith(ctx, flow)
}

// SetEnvironment says where the ${NAME} of connectors' configurations are looked up. Default os.LookupEnv, without
// KISGRID_* and OTEL_*.
func (r *Registry) SetEnvironment(lookup func(name string) (string, bool)) {
	r.kisflow.mu.Lock()
	defer r.kisflow.mu.Unlock()
	r.kisflow.lookup = lookup
}

func (r *Registry) environment() func(string) (string, bool) {
	r.kisflow.mu.RLock()
	defer r.kisflow.mu.RUnlock()
	if r.kisflow.lookup == nil {
		return definition.Access{}.Environment(os.LookupEnv)
	}
	return r.kisflow.lookup
}

// OnClose has Close call a function, before those of earlier calls.
func (r *Registry) OnClose(closer func() error) {
	r.kisflow.mu.Lock()
	defer r.kisflow.mu.Unlock()
	r.kisflow.closers = append(r.kisflow.closers, closer)
}

// Close closes the connectors that functions got from flows: of what they keep with SetMetaData all that has a Close. Call
// it when no flow runs any more; a function that asks for its connector after that opens it anew. Workers and Local do it when
// they end. It is safe to call twice.
func (r *Registry) Close() error {
	r.kisflow.mu.Lock()
	closers := r.kisflow.closers
	r.kisflow.closers = nil
	r.kisflow.mu.Unlock()
	var errs []error
	for _, closer := range slices.Backward(closers) {
		errs = append(errs, closer())
	}
	return errors.Join(append(errs, r.connectors.close())...)
}

package kis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// KisPool is KisFlow's name for a Registry.
type KisPool = Registry

// pool is the Registry that Pool returns.
var pool = sync.OnceValue(func() *Registry { return new(Registry) })

// Pool returns the process's default Registry. KisFlow's programs register their functions with it, and flows that are built in code
// or imported from files call the functions registered there.
func Pool() *Registry { return pool() }

// KisFlowRegistry is the part of a Registry that programs written for KisFlow use: flows by name, and connectors whose client the
// program itself opens. Use it as the methods of a Registry, such as kis.Pool().AddFlow. It is safe for concurrent use.
type KisFlowRegistry struct {
	functions  registrations  // of Registry.Func and Registry.FaaS
	connectors connectorTable // that functions got from their flows

	mu      sync.RWMutex
	flows   map[string]Flow             // by name; guarded by mu
	inits   map[string]ConnInit         // by the connector's name; guarded by mu
	calls   map[connectorCall]CaaS      // guarded by mu
	closers []func() error              // of OnClose, in the order of its calls; guarded by mu
	lookup  func(string) (string, bool) // of SetEnvironment; nil means the process's environment; guarded by mu
}

// connectorCall is the key in the table of functions that CaaS registers: the names of connector and function, and the function's
// mode.
type connectorCall struct {
	connector, function string
	mode                definition.Mode
}

// AddFlow registers a flow under a name, for GetFlow. It replaces the flow that had the name before.
func (r *KisFlowRegistry) AddFlow(name string, flow Flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flows == nil {
		r.flows = make(map[string]Flow)
	}
	r.flows[name] = flow
}

// GetFlow returns the flow that AddFlow, or an import of documents, registered under a name. It returns nil if there is none.
func (r *KisFlowRegistry) GetFlow(name string) Flow {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.flows[name]
}

// GetFlows returns all registered flows, sorted by the name under which they were registered.
func (r *KisFlowRegistry) GetFlows() []Flow {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var flows []Flow
	for _, name := range slices.Sorted(maps.Keys(r.flows)) {
		flows = append(flows, r.flows[name])
	}
	return flows
}

// Mode is the purpose of a function, as FuncConfig.FMode has it: Verify, Save, Load, Calculate or Expand. Package common has the
// values under KisFlow's names.
type Mode string

// CaaSInit registers the function that opens the connector with the given name. It is called when a function that uses the connector
// is added to a flow, or when one asks its flow for the connector, unless the connector is open already. If it returns an error, the
// next use calls it again. A nil function, and a second one for the same connector, are mistakes, which Registry.Err reports.
func (r *KisFlowRegistry) CaaSInit(connector string, open ConnInit) {
	r.mu.Lock()
	_, taken := r.inits[connector]
	if r.inits == nil {
		r.inits = make(map[string]ConnInit)
	}
	if !taken && open != nil {
		r.inits[connector] = open
	}
	r.mu.Unlock()
	r.functions.refuse(fmt.Sprintf("register how connector %q opens", connector), open == nil, taken)
}

// CaaS registers the function that Connector.Call calls while the flow's function of the given name and mode runs. A nil function,
// and a second one for the same three arguments, are mistakes, which Registry.Err reports.
func (r *KisFlowRegistry) CaaS(connector, function string, mode Mode, call CaaS) {
	key := connectorCall{connector, function, definition.Mode(mode)}
	r.mu.Lock()
	_, taken := r.calls[key]
	if r.calls == nil {
		r.calls = make(map[connectorCall]CaaS)
	}
	if !taken && call != nil {
		r.calls[key] = call
	}
	r.mu.Unlock()
	r.functions.refuse(fmt.Sprintf("register calls of connector %q by the %s %q", connector, mode, function), call == nil, taken)
}

// hasInit reports whether CaaSInit registered a function for the connector.
func (r *KisFlowRegistry) hasInit(connector string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.inits[connector] != nil
}

// CallConnInit calls the function that CaaSInit registered for the connector, even if the connector is open; Connector.Init calls it
// only if it is not. It is an error if none is registered.
func (r *KisFlowRegistry) CallConnInit(c Connector) error {
	r.mu.RLock()
	open := r.inits[c.GetName()]
	r.mu.RUnlock()
	if open == nil {
		return batch.Errorf(batch.CodeUnknownConnector, "nothing is registered to open connector %s: register it with CaaSInit", c.GetName())
	}
	return open(c)
}

// CallConnector calls the function that CaaS registered for the connector and for the function that flow.GetThisFunction returns. It
// is an error if that is nil, or if no function is registered.
func (r *KisFlowRegistry) CallConnector(ctx context.Context, flow Flow, c Connector, args any) (any, error) {
	fn := flow.GetThisFunction()
	if fn == nil {
		return nil, errors.New("call a connector: the flow is in no function: call it from one")
	}
	key := connectorCall{c.GetName(), fn.GetConfig().FName, definition.Mode(fn.GetConfig().FMode)}
	r.mu.RLock()
	call := r.calls[key]
	r.mu.RUnlock()
	if call == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "nothing is registered for calls of connector %s by the %s %s: register it with CaaS",
			key.connector, key.mode, key.function)
	}
	return call(ctx, c, fn, flow, args)
}

// CallFunction calls a function that Registry.FaaS registered, with the rows of flow.Input read as the types that the function takes.
// The function commits its rows to flow. It is an error if a row can't be read, and if the function is not a FaaS function.
func (r *KisFlowRegistry) CallFunction(ctx context.Context, name string, flow Flow) error {
	registered, ok := r.functions.find(name)
	if !ok {
		return batch.Errorf(batch.CodeUnknownFunction, "no function %q is registered here: register it with FaaS", name)
	}
	fn, ok := registered.code.(*faas)
	if !ok {
		return batch.Errorf(batch.CodeUnknownFunction, "function %q is registered as kis.%s: only FaaS functions can be called so", name, registered.code.Form())
	}
	return fn.callWith(ctx, flow)
}

// SetEnvironment sets the function that looks up each ${NAME} in the configurations of connectors. nil restores the default:
// os.LookupEnv, except for names that begin with KISGRID_ or OTEL_, which count as not set.
func (r *KisFlowRegistry) SetEnvironment(lookup func(name string) (string, bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lookup = lookup
}

// environment returns the function that looks up each ${NAME}: the one that SetEnvironment set, or the default.
func (r *KisFlowRegistry) environment() func(string) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.lookup == nil {
		return definition.Access{}.Environment(os.LookupEnv)
	}
	return r.lookup
}

// OnClose registers a function for Close to call. Close calls them in the opposite order: the function of the last OnClose first.
func (r *KisFlowRegistry) OnClose(closer func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, closer)
}

// Close calls the functions of OnClose, and closes the connectors that functions and flows opened: of each value kept with
// Connector.SetMetaData that has a method Close() error, it calls this method. Call it when no flow runs any more. Workers and
// flowexec.Local call it when they end. A function that asks for its connector later opens it anew. Close may be called twice. The
// error joins all errors of closing.
func (r *KisFlowRegistry) Close() error {
	r.mu.Lock()
	closers := r.closers
	r.closers = nil
	r.mu.Unlock()
	var errs []error
	for _, closer := range slices.Backward(closers) {
		errs = append(errs, closer())
	}
	return errors.Join(append(errs, r.connectors.close())...)
}

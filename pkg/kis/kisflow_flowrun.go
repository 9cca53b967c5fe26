package kis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// chain returns the functions of this copy of the flow. It makes them if there are none yet, or if the flow's documents have
// changed since they were made.
func (r *flowRun) chain() *Chain {
	f := r.frame
	f.Copy.mu.Lock()
	defer f.Copy.mu.Unlock()
	if c := f.Copy.Chain; c == nil || c.bundle != nil && c.bundle != f.Bundle {
		f.Copy.Chain = chainOf(f.Bundle, &f.Registry.KisFlowRegistry, c)
	}
	return f.Copy.Chain
}

// entry returns the entry of the function that is running, or nil if the chain has no function at the frame's Place.
func (r *flowRun) entry() *chainEntry {
	entries := r.chain().all()
	if r.frame.Place < len(entries) {
		return entries[r.frame.Place]
	}
	return nil
}

func (r *flowRun) GetID() string { return r.chain().id }

// GetThisFunction returns the function that is running, or nil if the chain has none at its place. The function's GetFlow
// returns r.
func (r *flowRun) GetThisFunction() Function {
	if e := r.entry(); e != nil {
		return runningFunction{e, r}
	}
	return nil
}

// GetThisFuncConf returns the configuration of the function that is running, or nil if the chain has none at its place.
func (r *flowRun) GetThisFuncConf() *FuncConfig {
	if e := r.entry(); e != nil {
		return e.GetConfig()
	}
	return nil
}

func (r *flowRun) GetConfig() *FlowConfig { return r.chain().config }

func (r *flowRun) GetFuncConfigByName(name string) *FuncConfig { return r.chain().FuncConfig(name) }

func (r *flowRun) GetFuncParamsAllFuncs() map[string]FParam { return r.chain().Params() }

// GetConnector opens the connector if it is not open, and keeps it open until the function returns.
func (r *flowRun) GetConnector() (Connector, error) {
	if r.over.Load() {
		return nil, errors.New("ask for the connector: the function that got this flow has returned: ask for the connector, and use it, before the function returns")
	}
	if r.connector != nil {
		return r.connector, nil
	}
	e := r.entry()
	if e == nil {
		return nil, fmt.Errorf("flow %s has no function in place %d", r.GetName(), r.frame.Place)
	}
	if c := e.GetConnector(); c != nil {
		return c, nil
	}
	config, err := e.GetConfig().GetConnConfig()
	if err != nil {
		return nil, err
	}
	c, release, err := r.frame.Registry.connect(r.frame.ctx, config)
	if err != nil {
		return nil, err
	}
	r.connector, r.release = c, release
	return c, nil
}

// GetConnConf returns the configuration of the running function's connector. It is an error if the function has no connector.
func (r *flowRun) GetConnConf() (*ConnConfig, error) {
	config := r.GetThisFuncConf()
	if config == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "flow %s has no function in place %d", r.GetName(), r.frame.Place)
	}
	return config.GetConnConfig()
}

// close marks the call of the function as over, so that later uses of the Flow are errors or return nothing, and gives back the
// connector that the function asked for.
func (r *flowRun) close() {
	r.over.Store(true)
	if r.release != nil {
		r.release()
	}
}

// Run returns an error: a function can't run the flow that it is in.
func (r *flowRun) Run(context.Context) error {
	return fmt.Errorf("function %s can't run flow %s, which it is in: Fork the flow and run that", r.frame.Call.Function, r.GetName())
}

// Link returns an error: a function can't change the flow that it is in.
func (r *flowRun) Link(*FuncConfig, FParam) error {
	return fmt.Errorf("function %s can't change flow %s, which it is in: link functions before Run", r.frame.Call.Function, r.GetName())
}

func (r *flowRun) AppendNewFunction(c *FuncConfig, params FParam) error { return r.Link(c, params) }

// Fork forks the KisFlow that the program built. In a cluster there is no such KisFlow: Fork then returns a Flow whose Run, and
// whose methods that take rows, return an error.
func (r *flowRun) Fork(ctx context.Context) Flow {
	if flow := r.chain().flow; flow != nil {
		return flow.Fork(ctx)
	}
	return unforked{r}
}

// unforked is the Flow that Fork returns in a cluster. Its methods that would take or run rows return an error.
type unforked struct{ *flowRun }

// refused is the error of a method of unforked that would take or run rows.
func (f unforked) refused() error {
	return fmt.Errorf("function %s can't run a fork of flow %s on a cluster, where the fork's rows would belong to no batch: commit the rows, "+
		"with flow.From(i) for those of row i, or submit them to a flow with package client", f.frame.Call.Function, f.GetName())
}

func (f unforked) Run(context.Context) error { return f.refused() }
func (f unforked) CommitRow(any) error       { return f.refused() }
func (f unforked) CommitRowBatch(any) error  { return f.refused() }
func (f unforked) From(int) Committer        { return f }
func (f unforked) Fork(context.Context) Flow { return f }

// unknown stands in flowRun.origins for the origin of a row that was committed without Flow.From.
const unknown = ^uint32(0)

// flowRun is the Flow that a FaaS function gets for one call. It belongs to the goroutine of the call, except for over, which
// any goroutine may read.
type flowRun struct {
	frame   *Frame
	out     *Vec[any]
	named   bool     // From has named the origin of some row
	origins []uint32 // of the rows in out, if named
	action  Action
	over    atomic.Bool // the call has ended, so that out belongs to another call
	// connector is the function's connector once the function asked for it, and release ends the hold on it.
	connector Connector
	release   func()
}

func (r *flowRun) GetName() string { return r.frame.Call.Flow }

// Input returns the rows as they came, and nil once the function has returned: then the frame has the rows of another call.
func (r *flowRun) Input() []any {
	if r.over.Load() {
		return nil
	}
	return r.frame.Raw()
}

func (r *flowRun) CommitRow(row any) error { return r.commit(row, unknown) }

func (r *flowRun) CommitRowBatch(rows any) error { return r.commitBatch(rows, unknown) }

// errOver is the error of a method that is called after the function has returned.
var errOver = errors.New("the function that got this flow has returned: commit rows, and ask for actions, before it returns")

// commit adds a row to the function's output; a []byte is copied. origin is the number, from 0, of the input row that it comes
// from, or unknown. A nil row, and any row after the function has returned, is an error.
func (r *flowRun) commit(row any, origin uint32) error {
	if r.over.Load() {
		return errOver
	}
	switch v := row.(type) {
	case nil:
		return errors.New("commit a row: it is nil: commit a struct, a pointer or JSON")
	case []byte:
		row = append([]byte(nil), v...)
	default:
		if v := reflect.ValueOf(row); v.Kind() == reflect.Pointer && v.IsNil() {
			return fmt.Errorf("commit a row: it is a nil %T: commit a struct, a pointer or JSON", row)
		}
	}
	r.out.Rows = append(r.out.Rows, row)
	if r.named {
		r.origins = append(r.origins, origin)
	}
	return nil
}

// commitBatch commits each element of the slice rows, up to the first that is refused. All have the same origin, as commit
// describes it.
func (r *flowRun) commitBatch(rows any, origin uint32) error {
	list := reflect.ValueOf(rows)
	if list.Kind() != reflect.Slice {
		return fmt.Errorf("commit a batch of rows: a %T is not a slice: CommitRow takes single rows", rows)
	}
	for i := range list.Len() {
		if err := r.commit(list.Index(i).Interface(), origin); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

func (r *flowRun) From(given int) Committer { return flowOrigin{r, given} }

// flowOrigin is the Committer that Flow.From returns: all rows committed to it come from the function's input row with the
// number given.
type flowOrigin struct {
	run   *flowRun
	given int
}

// check returns an error if the function has returned, or if there is no input row with the number given. Otherwise it notes
// that this function names origins: the rows committed before count as committed without an origin.
func (o flowOrigin) check() error {
	if o.run.over.Load() {
		return errOver
	}
	if o.given < 0 || o.given >= o.run.frame.Rows {
		return fmt.Errorf("commit from row %d: %d rows were given", o.given, o.run.frame.Rows)
	}
	if !o.run.named {
		o.run.named = true
		for range o.run.out.Rows {
			o.run.origins = append(o.run.origins, unknown)
		}
	}
	return nil
}

func (o flowOrigin) CommitRow(row any) error {
	if err := o.check(); err != nil {
		return err
	}
	return o.run.commit(row, uint32(o.given))
}

func (o flowOrigin) CommitRowBatch(rows any) error {
	if err := o.check(); err != nil {
		return err
	}
	return o.run.commitBatch(rows, uint32(o.given))
}

// Next keeps the actions until the function returns: if it returns nil, finish carries them out. A second Next replaces the
// actions of the first.
func (r *flowRun) Next(actions ...ActionFunc) error {
	if r.over.Load() {
		return errOver
	}
	r.action = LoadActions(actions)
	return nil
}

// finish tells the frame which rows pass on, which input rows they come from, and which actions the function asked for. It is
// called once the function has returned nil. It returns a Signal for Abort and Jump, and an error if the function named an
// origin for only some of its rows.
func (r *flowRun) finish() error {
	f, a := r.frame, r.action
	switch {
	case a.Abort:
		return Abort("%s returned ActionAbort", f.Call.Function)
	case a.JumpFunc != "":
		return Jump(a.JumpFunc)
	}
	f.Reuse, f.Force = a.DataReuse, a.ForceEntryNext
	if f.Reuse || len(r.out.Rows) == 0 {
		return nil
	}
	passed := listOf[any](r.out.Rows)
	if r.named {
		f.Parents = f.Parents[:0]
		for i, origin := range r.origins {
			if origin == unknown {
				f.Parents, f.Lost = f.Parents[:0], true
				return fmt.Errorf("row %d was committed without an origin, others with flow.From: name it for all or for none", i)
			}
			f.Parents = append(f.Parents, origin)
		}
		return nil
	}
	if len(f.In) == 0 {
		f.trace(passed, listOf[struct{}](make([]struct{}, f.Rows)))
		return nil
	}
	// Rows given as pointers may come back in any of the slices.
	for _, in := range f.In {
		if in.Len() != f.Rows { // its serializer made more or less of them
			f.Lost = true
			return nil
		}
		if f.traceSame(r.out.Rows, in) {
			return nil
		}
		if f.Lost = false; in.Type().Kind() == reflect.Pointer {
			f.trace(passed, vectorList{in})
			if !f.Lost {
				return nil
			}
		}
	}
	f.Lost = false
	f.trace(passed, vectorList{f.In[0]})
	return nil
}

func (r *flowRun) GetFuncParam(key string) string { return r.frame.Params[key] }

func (r *flowRun) GetFuncParamAll() FParam { return maps.Clone(r.frame.Params) }

// GetCacheData returns a value from the cache of this copy of the flow, or nil.
func (r *flowRun) GetCacheData(key string) any {
	value, _ := r.frame.Copy.Cache.Get(key)
	return value
}

// SetCacheData keeps a value in the cache of this copy of the flow for the time expire; 0 means without end.
func (r *flowRun) SetCacheData(key string, value any, expire time.Duration) {
	r.frame.Copy.Cache.Set(key, value, expire)
}

func (r *flowRun) GetMetaData(key string) any { return r.frame.Copy.meta.get(key) }

func (r *flowRun) SetMetaData(key string, value any) { r.frame.Copy.meta.set(key, value) }

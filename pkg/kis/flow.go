package kis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Flow is a flow in KisFlow's manner. FaaS functions get one for the run that they are called for: it is the function's during
// the call only, and belongs to one goroutine. Programs make others with flow.NewKisFlow and file.ConfigImportYaml, to commit
// rows to and Run; these are safe for concurrent use. The methods about "the function" are for functions.
type Flow interface {
	// Run runs the flow for the rows committed to it since the last Run. A function can't run the flow that it is in.
	Run(ctx context.Context) error
	// Link adds a function, with the flow's parameters for it, to the flow and to its configuration; AppendNewFunction to the
	// flow only. A function can't change the flow that it is in.
	Link(function *FuncConfig, params FParam) error
	AppendNewFunction(function *FuncConfig, params FParam) error
	// GetName is the flow's name, GetID a random id of this copy of it.
	GetName() string
	GetID() string
	// Input is the function's rows as they came: JSON as strings, else what the function before passed on. It is nil once the call
	// that the flow was given to has returned.
	Input() []any
	// CommitRow passes a row on: a struct, a pointer to one, JSON as a string or []byte, or any value that JSON can hold.
	CommitRow(row any) error
	// CommitRowBatch passes on all rows of a slice.
	CommitRowBatch(rows any) error
	// From names the row given, from 0, that the rows committed through what it returns come from. Without it, rows that are
	// the same pointers or as many as were given name their origin themselves; otherwise all rows given stand behind each
	// row, which a flow with a shard_key refuses (LINEAGE_LOST).
	From(given int) Committer
	// Next says what happens after the function, instead of passing on what it committed: `return flow.Next(…)`.
	Next(actions ...ActionFunc) error
	// GetThisFunction is the function, GetThisFuncConf its configuration; nil outside a function.
	GetThisFunction() Function
	GetThisFuncConf() *FuncConfig
	// GetConnector is the function's connector, open; an error once the call has returned. GetConnConf is its configuration.
	GetConnector() (Connector, error)
	GetConnConf() (*ConnConfig, error)
	// GetConfig is the flow's configuration, GetFuncConfigByName that of one of its functions; nil: it has none of this name.
	GetConfig() *FlowConfig
	GetFuncConfigByName(name string) *FuncConfig
	// GetFuncParam is the function's parameter of that name: the flow's params over the function's default_params; "" if
	// neither has it. GetFuncParamAll is a copy of all of them, GetFuncParamsAllFuncs of those of all functions, by id.
	GetFuncParam(key string) string
	GetFuncParamAll() FParam
	GetFuncParamsAllFuncs() map[string]FParam
	// GetCacheData and SetCacheData use the memory of this copy of the flow; nil: nothing kept. expire 0 keeps for ever.
	GetCacheData(key string) any
	SetCacheData(key string, value any, expire time.Duration)
	// GetMetaData and SetMetaData keep values with this copy of the flow; nil: nothing kept.
	GetMetaData(key string) any
	SetMetaData(key string, value any)
	// Fork is the same flow anew: the functions, parameters and connectors, but none of the rows, cache and metadata.
	Fork(ctx context.Context) Flow
}

// Committer passes rows on.
type Committer interface {
	CommitRow(row any) error
	CommitRowBatch(rows any) error
}

// Action is what ActionFuncs ask for together.
type Action struct {
	// DataReuse passes the function's own rows on and drops what it committed.
	DataReuse bool
	// ForceEntryNext enters the next function even if no row was committed.
	ForceEntryNext bool
	// JumpFunc is the name of the function to go to; see Jump.
	JumpFunc string
	// Abort ends the flow for all rows; see Abort.
	Abort bool
}

// ActionFunc asks for an action.
type ActionFunc func(*Action)

// ActionAbort asks for Abort.
func ActionAbort(a *Action) { a.Abort = true }

// ActionDataReuse asks for DataReuse.
func ActionDataReuse(a *Action) { a.DataReuse = true }

// ActionForceEntryNext asks for ForceEntryNext.
func ActionForceEntryNext(a *Action) { a.ForceEntryNext = true }

// ActionJumpFunc asks to go to the function of that name.
func ActionJumpFunc(name string) ActionFunc { return func(a *Action) { a.JumpFunc = name } }

// LoadActions is what the functions ask for together.
func LoadActions(actions []ActionFunc) Action {
	var a Action
	for _, ask := range actions {
		if ask != nil {
			ask(&a)
		}
	}
	return a
}

// unknown is the origin of a row that From did not name.
const unknown = ^uint32(0)

// flowRun is the Flow of one call.
type flowRun struct {
	frame   *Frame
	out     *Vec[any]
	named   bool     // whether From named any origin
	origins []uint32 // of the rows in out, if it did
	action  Action
	over    atomic.Bool // the call has ended: out is another's
	// connector is the function's once it asked, release the end of the hold on it.
	connector Connector
	release   func()
}

func (r *flowRun) GetName() string { return r.frame.Call.Flow }

func (r *flowRun) Input() []any {
	if r.over.Load() {
		return nil // by now the frame has the rows of another call, or none
	}
	return r.frame.Raw()
}

func (r *flowRun) CommitRow(row any) error { return r.commit(row, unknown) }

func (r *flowRun) CommitRowBatch(rows any) error { return r.commitBatch(rows, unknown) }

var errOver = errors.New("the call that this flow was given to has returned: commit rows, and name actions, before")

func (r *flowRun) commit(row any, origin uint32) error {
	if r.over.Load() {
		return errOver
	}
	switch v := row.(type) {
	case nil:
		return errors.New("commit a row: it is nil; commit a struct, a pointer or JSON")
	case []byte:
		row = append([]byte(nil), v...)
	default:
		if v := reflect.ValueOf(row); v.Kind() == reflect.Pointer && v.IsNil() {
			return fmt.Errorf("commit a row: it is a nil %T; commit a struct, a pointer or JSON", row)
		}
	}
	r.out.Rows = append(r.out.Rows, row)
	if r.named {
		r.origins = append(r.origins, origin)
	}
	return nil
}

func (r *flowRun) commitBatch(rows any, origin uint32) error {
	list := reflect.ValueOf(rows)
	if list.Kind() != reflect.Slice {
		return fmt.Errorf("commit a batch of rows: %T is no slice; CommitRow takes single rows", rows)
	}
	for i := range list.Len() {
		if err := r.commit(list.Index(i).Interface(), origin); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

func (r *flowRun) From(given int) Committer { return flowOrigin{r, given} }

type flowOrigin struct {
	run   *flowRun
	given int
}

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

func (r *flowRun) Next(actions ...ActionFunc) error {
	if r.over.Load() {
		return errOver
	}
	r.action = LoadActions(actions)
	return nil
}

func (r *flowRun) GetFuncParam(key string) string { return r.frame.Params[key] }

func (r *flowRun) GetFuncParamAll() FParam { return maps.Clone(r.frame.Params) }

func (r *flowRun) GetCacheData(key string) any {
	value, _ := r.frame.Copy.Cache.Get(key)
	return value
}

func (r *flowRun) SetCacheData(key string, value any, expire time.Duration) {
	r.frame.Copy.Cache.Set(key, value, expire)
}

func (r *flowRun) GetMetaData(key string) any { return r.frame.Copy.meta.get(key) }

func (r *flowRun) SetMetaData(key string, value any) { r.frame.Copy.meta.set(key, value) }

// metadata is values by key; the zero value is ready for use.
type metadata struct {
	mu     sync.Mutex
	values map[string]any // guarded by mu
}

func (m *metadata) get(key string) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key]
}

// take empties m.
func (m *metadata) take() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := m.values
	m.values = nil
	return values
}

// copyTo copies all values.
func (m *metadata) copyTo(other *metadata) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, value := range m.values {
		other.set(key, value)
	}
}

func (m *metadata) set(key string, value any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = make(map[string]any)
	}
	m.values[key] = value
}

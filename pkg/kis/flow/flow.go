// Package flow makes and runs flows in KisFlow's manner: rows are committed to a flow, Run takes them through its functions
// and returns when all have ended.
package flow

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
	"github.com/kisgrid/kisgrid/pkg/kis/metrics"
)

// KisFlow is one copy of a flow, with its own rows, cache and metadata. It is safe for concurrent use: its runs wait for each
// other. Rows that several goroutines commit to it run together in whichever Run comes first, which returns their errors:
// who wants to know of its own rows forks the flow.
type KisFlow struct {
	registry *kis.Registry
	chain    *kis.Chain
	copy     *kis.Copy
	stream   batch.StreamID
	turn     chan struct{} // holds a token while nobody runs
	last     atomic.Int64  // 1 + the place of the function that ran last; 0: none has

	mu     sync.Mutex
	rows   []any          // committed since the last Run; guarded by mu
	runs   uint64         // begun; guarded by mu
	plan   *flowexec.Plan // of the first planned functions; nil: not compiled; guarded by mu
	length int            // how many functions plan has; guarded by mu
	wrong  []error        // of functions that could not be added; guarded by mu
}

// NewKisFlow makes a flow without functions that calls what is registered with kis.Pool.
func NewKisFlow(conf *kis.FlowConfig) kis.Flow { return New(kis.Pool(), conf) }

// New makes a flow without functions that calls what is registered with r.
func New(r *kis.Registry, conf *kis.FlowConfig) *KisFlow {
	f := newFlow(r)
	f.use(kis.NewChain(r, f, conf))
	return f
}

func newFlow(r *kis.Registry) *KisFlow {
	f := &KisFlow{registry: r, stream: batch.NewStreamID(), turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

func (f *KisFlow) use(c *kis.Chain) { f.chain, f.copy = c, &kis.Copy{Chain: c} }

// Fork is the same flow anew: its functions, parameters and connectors, but none of its rows, cache and metadata.
func (f *KisFlow) Fork(context.Context) kis.Flow {
	fork := newFlow(f.registry)
	f.mu.Lock()
	defer f.mu.Unlock()
	fork.use(f.chain.Fork(fork))
	fork.wrong = slices.Clone(f.wrong)
	if fork.chain.Len() == f.length {
		fork.plan, fork.length = f.plan, f.length
	}
	return fork
}

// Link adds a function to the flow and to its configuration.
func (f *KisFlow) Link(function *kis.FuncConfig, params kis.FParam) error {
	err := f.AppendNewFunction(function, params)
	if err == nil || batch.CodeOf(err) == batch.CodeConnectorUnavailable {
		f.chain.Config().AppendFunctionConfig(kis.FlowFunctionParam{FuncName: function.FName, Params: params})
	}
	return err
}

// AppendNewFunction adds a function to the flow. An error that the program does not look at comes back from Run, as long as
// it is not about a connector that could not be opened: that is tried again when a function asks for it.
func (f *KisFlow) AppendNewFunction(function *kis.FuncConfig, params kis.FParam) error {
	err := f.chain.Append(function, params)
	if err != nil && batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = append(f.wrong, err)
	}
	return err
}

func (f *KisFlow) enabled() error {
	if c := f.chain.Config(); c.Status == 0 {
		return batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set its status to 1", c.FlowName)
	}
	return nil
}

// CommitRow keeps a row for the next Run. A disabled flow refuses it.
func (f *KisFlow) CommitRow(row any) error { return f.commit([]any{row}) }

// CommitRowBatch keeps all rows of a slice for the next Run, or none of them with an error.
func (f *KisFlow) CommitRowBatch(rows any) error {
	list := reflect.ValueOf(rows)
	if list.Kind() != reflect.Slice {
		return fmt.Errorf("commit a batch of rows to flow %s: %T is no slice; CommitRow takes single rows", f.GetName(), rows)
	}
	all := make([]any, list.Len())
	for i := range all {
		all[i] = list.Index(i).Interface()
	}
	return f.commit(all)
}

func (f *KisFlow) commit(rows []any) error {
	if err := f.enabled(); err != nil {
		return err
	}
	for i, row := range rows {
		v := reflect.ValueOf(row)
		if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return fmt.Errorf("commit to flow %s: row %d is a nil %T: commit a struct, a pointer or JSON", f.GetName(), i, row)
		}
		if text, ok := row.([]byte); ok {
			rows[i] = slices.Clone(text)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, rows...)
	return nil
}

// Run takes the rows committed so far through the functions, and returns when each has ended; without rows the first function
// is called all the same. It waits for a Run under way. The error is what a function returned, if no row ended for another
// reason; else it has a line for each such row, up to ten. Rows that a function drops or aborts are none. When ctx ends, the
// rows under way end with it. Whatever it returns, the rows are used up.
func (f *KisFlow) Run(ctx context.Context) error {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for flow %s, which runs: %w", f.GetName(), context.Cause(ctx))
	}
	defer func() { f.turn <- struct{}{} }()
	rows, id := f.take()
	if err := f.enabled(); err != nil {
		return err
	}
	plan, err := f.compiled(ctx)
	if err != nil {
		return err
	}
	m := metrics.Current()
	began := time.Now()
	result := plan.Once(ctx, rows, flowexec.OnceConfig{
		Copy: f.copy, Batch: id, Connectors: connectors(), Saves: &saves, Metrics: m.Lanes(),
		Observe: func(o flowexec.Observed) {
			f.last.Store(int64(o.Place) + 1)
			log.Logger().DebugFX(ctx, "flow %s: %s %s took %v for %d rows", o.Flow, o.Mode, o.Function, o.Took, o.Rows)
		},
	})
	took := time.Since(began)
	m.Ended(f.GetName(), len(rows), result.NotDone)
	log.Logger().DebugFX(ctx, "flow %s: ran %d rows in %v, %d of them not to the end", f.GetName(), len(rows), took, len(result.NotDone))
	return f.verdict(ctx, result)
}

// take uses up the rows committed so far, and names them.
func (f *KisFlow) take() ([]any, batch.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := f.rows
	f.rows = nil
	f.runs++
	return rows, batch.ID{Stream: f.stream, Sequence: f.runs}
}

// maxLines bounds the rows that an error speaks of.
const maxLines = 10

// verdict is the error of a run.
func (f *KisFlow) verdict(ctx context.Context, result flowexec.RunResult) error {
	var errs []error
	if result.Err != nil {
		errs = append(errs, result.Err)
	}
	more := 0
	for _, o := range result.NotDone {
		switch {
		case o.Outcome != batch.Dead && o.Outcome != batch.Failed, saidBy(result.Err, o):
		case len(errs) < maxLines:
			errs = append(errs, batch.Errorf(o.Code, "flow %s: row %d ended in %s: %s", f.GetName(), o.Row, o.Function, o.Reason))
		default:
			more++
		}
	}
	if more > 0 {
		errs = append(errs, fmt.Errorf("and %d rows more", more))
	}
	switch {
	case len(errs) > 0 && ctx.Err() != nil:
		return fmt.Errorf("run flow %s: %w", f.GetName(), context.Cause(ctx))
	case len(errs) == 1:
		return errs[0]
	}
	return errors.Join(errs...)
}

// saidBy reports whether an error that a function returned is why the row ended.
func saidBy(err error, o batch.RowOutcome) bool {
	if err == nil || o.Code != batch.CodeFunctionError && o.Code != batch.CodeFunctionPanic {
		return false
	}
	return strings.HasPrefix(err.Error(), strings.TrimSuffix(o.Reason, " …"))
}

// compiled is the flow's plan.
func (f *KisFlow) compiled(ctx context.Context) (*flowexec.Plan, error) {
	n := f.chain.Len()
	f.mu.Lock()
	plan, length, wrong := f.plan, f.length, errors.Join(f.wrong...)
	f.mu.Unlock()
	if err := errors.Join(wrong, f.registry.Err()); err != nil {
		return nil, err
	}
	if plan != nil && length == n {
		return plan, nil
	}
	docs, err := f.chain.Documents()
	if err != nil {
		return nil, err
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		return nil, err
	}
	bundle, err := set.Bundle(f.GetName())
	if err != nil {
		return nil, err
	}
	f.boundTimes(bundle)
	f.leaveMust(ctx, bundle)
	if plan, err = flowexec.Compile(bundle, f.registry); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.length = plan, n
	return plan, nil
}

// boundTimes takes back the timeouts that no configuration asks for: in a program, the context of Run says how long.
func (f *KisFlow) boundTimes(b *definition.Bundle) {
	const never = time.Duration(math.MaxInt64)
	if f.chain.Config().Definition().Timeout == 0 {
		b.Flow.Timeout = never
	}
	for name, function := range b.Functions {
		if f.chain.FuncConfig(name).Definition().Timeout == 0 {
			function.Timeout = never
		}
	}
}

// saves tells the Loads of this process's flows of its Saves.
var saves flowexec.Saves

// connectors are what functions made by kis.Save and kis.Load use in this process.
var connectors = sync.OnceValue(func() *connector.Pool {
	pool := connector.NewPool(map[string]connector.Opener{"redis": redis.Config{}.Open, "memory": memory.New().Open}, os.LookupEnv, nil, nil)
	kis.Pool().OnClose(pool.Close)
	return pool
})

// Documents describe the flow, with each function and connector once.
func (f *KisFlow) Documents() ([]definition.Document, error) { return f.chain.Documents() }

// GetName is the flow's name.
func (f *KisFlow) GetName() string { return f.chain.Config().FlowName }

// GetID is this copy's random id.
func (f *KisFlow) GetID() string { return f.chain.ID() }

// GetConfig is the flow's configuration.
func (f *KisFlow) GetConfig() *kis.FlowConfig { return f.chain.Config() }

// GetFuncConfigByName is the configuration of one of its functions; nil: it has none of this name.
func (f *KisFlow) GetFuncConfigByName(name string) *kis.FuncConfig { return f.chain.FuncConfig(name) }

// GetFuncParamsAllFuncs are copies of all functions' parameters, by the function's id.
func (f *KisFlow) GetFuncParamsAllFuncs() map[string]kis.FParam { return f.chain.Params() }

// GetCacheData finds what was kept with SetCacheData; nil: nothing.
func (f *KisFlow) GetCacheData(key string) any {
	value, _ := f.copy.Cache.Get(key)
	return value
}

// SetCacheData keeps a value with this copy of the flow for that long; 0: for ever.
func (f *KisFlow) SetCacheData(key string, value any, expire time.Duration) {
	f.copy.Cache.Set(key, value, expire)
}

// GetMetaData finds what was kept with SetMetaData; nil: nothing.
func (f *KisFlow) GetMetaData(key string) any { return f.copy.GetMetaData(key) }

// SetMetaData keeps a value with this copy of the flow.
func (f *KisFlow) SetMetaData(key string, value any) { f.copy.SetMetaData(key, value) }

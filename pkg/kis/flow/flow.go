package flow

import (
	"context"
	"errors"
	"fmt"
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

// KisFlow is one copy of a flow, with rows, cache and metadata that it shares with no other copy. It is safe for concurrent use:
// a Run waits until the Run before it has ended. If several goroutines commit rows, all rows run together in the next Run, and
// that Run returns their errors. A goroutine that wants only the errors of the rows that it commits makes a copy with Fork.
type KisFlow struct {
	registry *kis.Registry
	chain    *kis.Chain
	copy     *kis.Copy
	stream   batch.StreamID // the stream that the flow's batches belong to
	turn     chan struct{}  // holds a token while no Run is under way
	last     atomic.Int64   // 1 + the place of the function that ran last; 0 means none has

	mu     sync.Mutex
	rows   []any          // committed since the last Run; guarded by mu
	runs   uint64         // number of runs begun; guarded by mu
	plan   *flowexec.Plan // of the first length functions; nil means not compiled; guarded by mu
	length int            // number of functions that plan has; guarded by mu
	wrong  []error        // errors of functions that could not be added; guarded by mu
}

// NewKisFlow makes a flow without functions: Link adds them. The flow calls the Go functions that are registered with kis.Pool.
func NewKisFlow(conf *kis.FlowConfig) kis.Flow { return New(kis.Pool(), conf) }

// New makes a flow without functions: Link adds them. The flow calls the Go functions that are registered with r.
func New(r *kis.Registry, conf *kis.FlowConfig) *KisFlow {
	f := newFlow(r)
	f.use(kis.NewChain(r, f, conf))
	return f
}

// newFlow makes a KisFlow that has no chain yet: the caller gives it one with use.
func newFlow(r *kis.Registry) *KisFlow {
	f := &KisFlow{registry: r, stream: batch.NewStreamID(), turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

// use gives the flow its chain, and an empty cache.
func (f *KisFlow) use(c *kis.Chain) { f.chain, f.copy = c, &kis.Copy{Chain: c} }

// Fork makes another copy of the flow: with the same functions, parameters and connectors, but without rows, cache and metadata.
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

// Link adds a function to the end of the flow and of the flow's configuration; params are the flow's parameters for it. Errors
// are as for AppendNewFunction.
func (f *KisFlow) Link(function *kis.FuncConfig, params kis.FParam) error {
	err := f.AppendNewFunction(function, params)
	if err == nil || batch.CodeOf(err) == batch.CodeConnectorUnavailable {
		f.chain.Config().AppendFunctionConfig(kis.FlowFunctionParam{FuncName: function.FName, Params: params})
	}
	return err
}

// AppendNewFunction adds a function to the end of the flow, but not of the flow's configuration; params are the flow's parameters
// for it. After an error every Run returns the error, too, except for an error with code CONNECTOR_UNAVAILABLE: then the function
// was added, and its connector is opened when a function asks for it.
func (f *KisFlow) AppendNewFunction(function *kis.FuncConfig, params kis.FParam) error {
	err := f.chain.Append(function, params)
	if err != nil && batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = append(f.wrong, err)
	}
	return err
}

// enabled returns an error if the flow's status is off.
func (f *KisFlow) enabled() error {
	if c := f.chain.Config(); c.Status == 0 {
		return batch.Errorf(batch.CodeFlowDisabled, "flow %s is disabled: set its status to 1", c.FlowName)
	}
	return nil
}

// CommitRow keeps a row for the next Run. It returns an error if the row is nil or the flow is disabled.
func (f *KisFlow) CommitRow(row any) error { return f.commit([]any{row}) }

// CommitRowBatch keeps each element of the slice rows as a row for the next Run. If one of them is nil, or the flow is disabled,
// it returns an error and keeps none.
func (f *KisFlow) CommitRowBatch(rows any) error {
	list := reflect.ValueOf(rows)
	if list.Kind() != reflect.Slice {
		return fmt.Errorf("commit a batch of rows to flow %s: a %T is not a slice: CommitRow takes single rows", f.GetName(), rows)
	}
	all := make([]any, list.Len())
	for i := range all {
		all[i] = list.Index(i).Interface()
	}
	return f.commit(all)
}

// commit keeps rows for the next Run. If one of them is nil, or the flow is disabled, it returns an error and keeps none. A
// []byte is copied.
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

// Run takes the rows that were committed so far through the functions, and returns when each has ended. Without rows it calls the
// first function all the same. It first waits for a Run that is under way; if ctx ends meanwhile, Run returns an error and the
// rows stay for the next Run. In any other case the rows are used up, whatever Run returns. If ctx ends while rows are under way,
// these end too.
//
// The error is the error that a function returned, if no row ended for another reason. Otherwise it has a line for each row that
// died or failed, for up to ten rows. If ctx has ended, the error names only the cause of that. Rows that a function drops or
// aborts are no errors.
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

// take removes the rows that were committed so far, and returns them with a new id for them as a batch.
func (f *KisFlow) take() ([]any, batch.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := f.rows
	f.rows = nil
	f.runs++
	return rows, batch.ID{Stream: f.stream, Sequence: f.runs}
}

// maxLines is the largest number of errors that the error of Run lists one by one.
const maxLines = 10

// verdict returns the error that Run returns for a result, or nil.
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
		errs = append(errs, fmt.Errorf("and %d more rows", more))
	}
	switch {
	case len(errs) > 0 && ctx.Err() != nil:
		return fmt.Errorf("run flow %s: %w", f.GetName(), context.Cause(ctx))
	case len(errs) == 1:
		return errs[0]
	}
	return errors.Join(errs...)
}

// saidBy reports whether err, an error that a function returned, is the reason in the row's outcome o, so that one line for both
// is enough.
func saidBy(err error, o batch.RowOutcome) bool {
	if err == nil || o.Code != batch.CodeFunctionError && o.Code != batch.CodeFunctionPanic {
		return false
	}
	return strings.HasPrefix(err.Error(), strings.TrimSuffix(o.Reason, " …"))
}

// saves connects the Saves and Loads of all flows in this process: a Load that waits for a key is told when a Save has written
// it.
var saves flowexec.Saves

// connectors returns the pool of connections for functions made by kis.Save and kis.Load in this process. It makes the pool at
// the first call; closing kis.Pool closes it.
var connectors = sync.OnceValue(func() *connector.Pool {
	pool := connector.NewPool(map[string]connector.Opener{"redis": redis.Config{}.Open, "memory": memory.New().Open}, os.LookupEnv, nil, nil)
	kis.Pool().OnClose(pool.Close)
	return pool
})

// Documents returns documents that describe the flow: the flow, and each function and each connector once. The error joins all
// mistakes in them.
func (f *KisFlow) Documents() ([]definition.Document, error) { return f.chain.Documents() }

// GetName returns the flow's name.
func (f *KisFlow) GetName() string { return f.chain.Config().FlowName }

// GetID returns the random id of this copy of the flow.
func (f *KisFlow) GetID() string { return f.chain.ID() }

// GetConfig returns the flow's configuration.
func (f *KisFlow) GetConfig() *kis.FlowConfig { return f.chain.Config() }

// GetFuncConfigByName returns the configuration of the flow's first function with the given name, or nil if there is none.
func (f *KisFlow) GetFuncConfigByName(name string) *kis.FuncConfig { return f.chain.FuncConfig(name) }

// GetFuncParamsAllFuncs returns copies of the parameters of all functions, by the function's id.
func (f *KisFlow) GetFuncParamsAllFuncs() map[string]kis.FParam { return f.chain.Params() }

// GetCacheData returns the value that SetCacheData keeps under a key, or nil if there is none or it has expired.
func (f *KisFlow) GetCacheData(key string) any {
	value, _ := f.copy.Cache.Get(key)
	return value
}

// SetCacheData keeps a value under a key in the memory of this copy of the flow, for the time expire; 0 means without end.
func (f *KisFlow) SetCacheData(key string, value any, expire time.Duration) {
	f.copy.Cache.Set(key, value, expire)
}

// GetMetaData returns the value that SetMetaData keeps under a key, or nil.
func (f *KisFlow) GetMetaData(key string) any { return f.copy.GetMetaData(key) }

// SetMetaData keeps a value under a key with this copy of the flow.
func (f *KisFlow) SetMetaData(key string, value any) { f.copy.SetMetaData(key, value) }

package flowexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Local runs flows in this process. It has the Submit and Stream of a cluster's client, with the same outcomes, so that a flow can be used
// and tested without a cluster. It is safe for concurrent use.
type Local struct {
	// flows has all flows of the documents by name; it does not change.
	flows    map[string]*localFlow
	pool     *connector.Pool
	registry *kis.Registry

	// unary gives the batches of Submit their ids.
	unary producer

	mu     sync.Mutex
	closed bool // guarded by mu
}

// LocalOption is an option of NewLocal, NewLocalFS and NewLocalSet.
type LocalOption func(*localOptions)

// localOptions are the options of one Local. The function With… of an option says what it means.
type localOptions struct {
	openers    map[string]connector.Opener
	memory     *memory.Store // nil means a new one
	lookup     func(string) (string, bool)
	logger     hclog.Logger
	registerer prometheus.Registerer
	documents  definition.Access
}

// WithOpeners says how to open connectors: openers has an Opener for each type that their documents name. Default, also for nil: all
// connectors, whatever their type, share one memory store, which is empty at first and ends with the Local.
func WithOpeners(openers map[string]connector.Opener) LocalOption {
	return func(o *localOptions) { o.openers = openers }
}

// WithMemory gives the memory store that all connectors share, whatever their type, for tests that put data into it before, or look at it
// afterwards with Store.Data. Each connector has its data under its name. It means nothing beside WithOpeners. Default, also for nil: a new
// store.
func WithMemory(store *memory.Store) LocalOption {
	return func(o *localOptions) { o.memory = store }
}

// WithEnvironment sets the function that looks up environment variables, which connectors' documents name as ${NAME}. lookup returns a
// variable's value, and whether the variable is set. Default: os.LookupEnv.
func WithEnvironment(lookup func(string) (string, bool)) LocalOption {
	return func(o *localOptions) { o.lookup = lookup }
}

// WithDocuments says which variables and files of this process connectors' documents may read, as a worker's --document-env and
// --document-files do. Default: all files, and all variables but KISGRID_* and OTEL_*; a warning is logged when a document names a file.
func WithDocuments(access definition.Access) LocalOption {
	return func(o *localOptions) { o.documents = access }
}

// WithLogger sets the logger for messages about lanes and connectors. They contain no rows. Default: no messages.
func WithLogger(l hclog.Logger) LocalOption { return func(o *localOptions) { o.logger = l } }

// WithMetrics registers two kinds of metrics with r: those of functions, and those of rows, which have the names of a coordinator's
// metrics. Default, also for nil: no metrics.
func WithMetrics(r prometheus.Registerer) LocalOption {
	return func(o *localOptions) { o.registerer = r }
}

// NewLocal reads the documents in the .yml and .yaml files of a folder and the folders in it (or in one file), compiles all flows and gets
// those that are enabled ready to run. It calls register, which registers the flows' Go functions. The error has every mistake in
// documents, registration and flows. The caller ends the Local with Close.
func NewLocal(dir string, register func(*kis.Registry), options ...LocalOption) (*Local, error) {
	docs, err := definition.Read(dir)
	if err != nil {
		return nil, err
	}
	return newLocalDocuments(docs, register, options)
}

// NewLocalFS makes a Local, as NewLocal does, of the documents in a file system, such as files that are embedded in the program. It reads
// all files there, whatever their names, but test files (*_test.yml): use fs.Sub or an embed pattern to leave out files that are no documents.
func NewLocalFS(files fs.FS, register func(*kis.Registry), options ...LocalOption) (*Local, error) {
	if files == nil {
		return nil, batch.Errorf(batch.CodeBadMessage, "read the documents: the file system is nil: give one")
	}
	var docs []definition.Document
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil || definition.IsKustomization(path) || definition.IsTestFile(path) && !definition.HasKind(text) {
			return err
		}
		docs = append(docs, definition.Split(path, text)...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the documents: %w", err)
	}
	return newLocalDocuments(docs, register, options)
}

// newLocalDocuments makes a Local of the documents that NewLocal or NewLocalFS has read.
func newLocalDocuments(docs []definition.Document, register func(*kis.Registry), options []LocalOption) (*Local, error) {
	set, err := definition.NewSet(docs)
	return newLocal(set, err, register, options)
}

// NewLocalSet makes a Local, as NewLocal does, of documents that were parsed before.
func NewLocalSet(set *definition.Set, register func(*kis.Registry), options ...LocalOption) (*Local, error) {
	return newLocal(set, nil, register, options)
}

// newLocal makes a Local of a set of documents. wrong is the error that making the set returned; nil means that there was none. The error
// of newLocal has the mistakes of wrong together with those of registration and flows.
func newLocal(set *definition.Set, wrong error, register func(*kis.Registry), options []LocalOption) (*Local, error) {
	o := localOptions{lookup: os.LookupEnv, logger: hclog.NewNullLogger()}
	for i, option := range options {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "option %d of the Local is nil: leave it out", i+1)
		}
		option(&o)
	}
	if err := o.checkNil(set, register); err != nil {
		return nil, err
	}
	if err := o.documents.Valid(); err != nil {
		return nil, fmt.Errorf("check what documents may read: %w", err)
	}
	standIn := o.openers == nil
	if standIn {
		store := cmp.Or(o.memory, memory.New())
		o.openers = make(map[string]connector.Opener)
		for _, c := range set.Connectors {
			o.openers[c.Type] = store.Open
		}
	}
	registry := kis.NewRegistry()
	register(registry)
	plans, err := CompileAll(set, wrong, registry)
	if err != nil {
		return nil, err
	}
	l := &Local{flows: make(map[string]*localFlow)}
	for name, plan := range plans {
		l.flows[name] = &localFlow{name: name, plan: plan, key: batch.NewKeyField(plan.shardKey)}
	}
	var metrics *Metrics
	if o.registerer != nil {
		if metrics, err = NewMetrics(o.registerer); err != nil {
			return nil, fmt.Errorf("register the metrics of functions: %w", err)
		}
		if err := o.registerer.Register(tallies(l.flows)); err != nil {
			return nil, fmt.Errorf("register the metrics of rows: %w", err)
		}
	}
	registry.SetEnvironment(o.documents.Environment(o.lookup))
	l.registry = registry
	l.pool = connector.NewPool(o.openers, o.lookup, o.logger, nil)
	l.pool.Restrict(o.documents)
	connectors := Connectors(l.pool)
	if standIn {
		connectors = standInPool{l.pool}
	}
	saves := new(Saves)
	for name, f := range l.flows {
		if set.Flows[name].Enabled {
			f.lanes = StartLanes(LanesConfig{
				Flow: name, Copies: f.plan.copies, Connectors: connectors, Saves: saves, Logger: o.logger, Metrics: metrics,
			})
		}
	}
	return l, nil
}

// checkNil returns an error that names an argument or option which is nil and must not be, or nil if there is none.
func (o *localOptions) checkNil(set *definition.Set, register func(*kis.Registry)) error {
	what := ""
	switch {
	case set == nil:
		what = "the set of documents"
	case register == nil:
		what = "the function that registers functions"
	case o.logger == nil:
		what = "WithLogger's logger"
	case o.lookup == nil:
		what = "WithEnvironment's function"
	}
	for _, name := range slices.Sorted(maps.Keys(o.openers)) {
		if o.openers[name] == nil {
			what = fmt.Sprintf("WithOpeners' opener of %q", name)
		}
	}
	if what == "" {
		return nil
	}
	return batch.Errorf(batch.CodeBadMessage, "make a Local: %s is nil: give one, or leave the option out", what)
}

// standInPool opens memory stores in place of the stores that connectors' documents describe. It opens them with copies of the documents
// that have no addresses, parameters and secrets, because those may name files and variables that are not there.
type standInPool struct{ pool *connector.Pool }

// Get implements Connectors.
func (m standInPool) Get(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	own := *c
	own.Addrs, own.Params, own.Username, own.PasswordFile = nil, nil, "", ""
	return m.pool.Get(ctx, &own)
}

// Close stops the flows and closes their connectors. Rows that have not ended fail with SHUTDOWN: Close cancels the contexts of functions
// and waits until the functions return, but abandons one that does not return within a second. To get the answers of streams, close the
// streams first. The error says what could not be closed. Close is safe to call twice.
func (l *Local) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	var stopping sync.WaitGroup
	for _, f := range l.flows {
		if f.lanes != nil {
			stopping.Go(f.lanes.Stop)
		}
	}
	stopping.Wait()
	return errors.Join(l.pool.Close(), l.registry.Close())
}

// SubmitOption is an option of one Submit or Send.
type SubmitOption func(*submitOptions)

// submitOptions are the options of one Submit or Send.
type submitOptions struct {
	noOutput bool
	// timeout is at least a millisecond; 0 means none.
	timeout time.Duration
}

// NoOutput leaves the flow's output out of the result: the rows that its last function passes on. Default: the result has them.
func NoOutput() SubmitOption { return func(o *submitOptions) { o.noOutput = true } }

// Timeout bounds the time of a batch: rows that have no outcome after d fail with DEADLINE. The time counts from the call of Submit or
// Send: a batch that has to wait for room in its stream does not begin once d is over. The least timeout is a millisecond, and more than a
// year means none. Default: none, apart from the context's deadline.
func Timeout(d time.Duration) SubmitOption {
	return func(o *submitOptions) {
		if o.timeout = max(time.Millisecond, d); d > longestTimeout {
			o.timeout = 0
		}
	}
}

// longestTimeout bounds a batch's timeout: a longer one counts as none.
const longestTimeout = 365 * 24 * time.Hour

// Submit runs one batch. It blocks until each row has an outcome, or until ctx ends: then the error has code CANCELLED or DEADLINE, and the
// batch goes on. A row that is dead, failed, filtered or aborted is no error: it is in the result's NotDone.
//
// If the error matches batch.ErrUnanswered, the batch may have taken effect, in this call or an earlier one; submitting b again tells.
// After any other error nothing of the batch ever ran.
func (l *Local) Submit(ctx context.Context, flow string, b *batch.Batch, options ...SubmitOption) (*batch.Result, error) {
	p, err := l.submit(ctx, flow, b, options)
	if err != nil {
		return nil, b.Judge(err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.abandon(contextError(ctx))
	}
	return p.Wait(context.Background()) // it does not block: the batch has ended
}

// submit checks a batch and hands it to the lanes. It does not wait for the answer, which the Pending gets.
func (l *Local) submit(ctx context.Context, flow string, b *batch.Batch, options []SubmitOption) (*Pending, error) {
	if err := checkContext(ctx, "Submit"); err != nil {
		return nil, err
	}
	f, err := l.flow(flow)
	if err != nil {
		return nil, err
	}
	p, err := f.prepare(ctx, b, &l.unary, options)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	return p, f.start(p, func(*Pending) {})
}

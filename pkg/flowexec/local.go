package flowexec

import (
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

// Local runs flows in this process, with the Submit and Stream of a cluster's client and the same outcomes. It is safe for
// concurrent use.
type Local struct {
	flows    map[string]*localFlow
	pool     *connector.Pool
	registry *kis.Registry

	unary producer // of Submit's batches

	mu     sync.Mutex
	closed bool // guarded by mu
}

// LocalOption changes how a Local is made.
type LocalOption func(*localOptions)

type localOptions struct {
	openers    map[string]connector.Opener
	lookup     func(string) (string, bool)
	logger     hclog.Logger
	registerer prometheus.Registerer
	documents  definition.Access
}

// WithOpeners says how to open connectors, by the type in their documents. Default: every type is a memory store, which
// lives as long as the Local.
func WithOpeners(openers map[string]connector.Opener) LocalOption {
	return func(o *localOptions) { o.openers = openers }
}

// WithEnvironment is where ${NAME} in connectors' documents is looked up. Default os.LookupEnv.
func WithEnvironment(lookup func(string) (string, bool)) LocalOption {
	return func(o *localOptions) { o.lookup = lookup }
}

// WithDocuments says what of this process connectors' documents may read, as a worker's --document-env and --document-files do.
// Default: all variables but KISGRID_* and OTEL_*, and all files: what names one is only logged.
func WithDocuments(access definition.Access) LocalOption {
	return func(o *localOptions) { o.documents = access }
}

// WithLogger takes what concerns lanes and connectors, never rows. Default none.
func WithLogger(l hclog.Logger) LocalOption { return func(o *localOptions) { o.logger = l } }

// WithMetrics registers the metrics of functions, and those of rows as a coordinator has them. Default none.
func WithMetrics(r prometheus.Registerer) LocalOption {
	return func(o *localOptions) { o.registerer = r }
}

// NewLocal compiles all flows of the documents in a folder and starts their lanes. The error has all mistakes of documents,
// of registration and of flows. Close ends it.
func NewLocal(dir string, register func(*kis.Registry), options ...LocalOption) (*Local, error) {
	docs, err := definition.Read(dir)
	if err != nil {
		return nil, err
	}
	return newLocalDocuments(docs, register, options)
}

// NewLocalFS is NewLocal for documents that are no folder: those that a program has embedded.
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
		docs = append(docs, definition.Split(path, text)...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the documents: %w", err)
	}
	return newLocalDocuments(docs, register, options)
}

func newLocalDocuments(docs []definition.Document, register func(*kis.Registry), options []LocalOption) (*Local, error) {
	set, err := definition.NewSet(docs)
	return newLocal(set, err, register, options)
}

// NewLocalSet is NewLocal for documents that were read already.
func NewLocalSet(set *definition.Set, register func(*kis.Registry), options ...LocalOption) (*Local, error) {
	return newLocal(set, nil, register, options)
}

// newLocal gets the error that came with the set, nil for none, to tell it with the other mistakes.
func newLocal(set *definition.Set, wrong error, register func(*kis.Registry), options []LocalOption) (*Local, error) {
	o := localOptions{lookup: os.LookupEnv, logger: hclog.NewNullLogger()}
	for i, option := range options {
		if option == nil {
			return nil, batch.Errorf(batch.CodeBadMessage, "option %d of the Local is nil: leave it out", i+1)
		}
		option(&o)
	}
	if err := o.check(set, register); err != nil {
		return nil, err
	}
	standIn := o.openers == nil
	if standIn {
		store := memory.New()
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
	if err := o.documents.Valid(); err != nil {
		return nil, fmt.Errorf("what documents may read: %w", err)
	}
	registry.SetEnvironment(o.documents.Environment(o.lookup))
	l.registry = registry
	l.pool = connector.NewPool(o.openers, o.lookup, o.logger, nil)
	l.pool.Restrict(o.documents)
	connectors := Connectors(l.pool)
	if standIn {
		connectors = inMemory{l.pool}
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

// check says which argument is nil that may not be.
func (o *localOptions) check(set *definition.Set, register func(*kis.Registry)) error {
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

// inMemory opens stores that stand in for those of the documents: their addresses and secrets may be known elsewhere only.
type inMemory struct{ pool *connector.Pool }

// Get implements Connectors.
func (m inMemory) Get(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	own := *c
	own.Addrs, own.Params, own.Username, own.PasswordFile = nil, nil, "", ""
	return m.pool.Get(ctx, &own)
}

// Close cancels what runs, whose rows are failed with SHUTDOWN, and waits for it; then it closes the connectors. Close
// streams first to wait for their answers. It is safe to call twice.
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

// SubmitOption changes one Submit or Send.
type SubmitOption func(*submitOptions)

type submitOptions struct {
	noOutput bool
	timeout  time.Duration
}

// NoOutput leaves what the flow's last function passes on out of the result. Default: the result has it.
func NoOutput() SubmitOption { return func(o *submitOptions) { o.noOutput = true } }

// Timeout fails rows that have no outcome after d, with DEADLINE. The end is a moment: a batch for which a stream has no room until
// then does not begin. The least is a millisecond, a year counts as none. Default none, apart from the context's deadline.
func Timeout(d time.Duration) SubmitOption {
	return func(o *submitOptions) {
		if o.timeout = max(time.Millisecond, d); d > longestTimeout {
			o.timeout = 0
		}
	}
}

const longestTimeout = 365 * 24 * time.Hour

// Submit runs one batch and blocks until each of its rows has an outcome, or ctx is over: the batch then goes on, and the
// error has code CANCELLED or DEADLINE. Rows that are not done are in the result, not in the error. An error that matches
// batch.ErrUnanswered means that the batch may have taken effect, in this call or an earlier one, and that submitting b again
// tells; any other that nothing of it ever ran.
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
	return p.Wait(context.Background()) // which does not block
}

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

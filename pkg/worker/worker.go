package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// closeTimeout bounds how long the end waits until connections have taken their last word.
const closeTimeout = time.Second

// Config says what a worker runs and where. Only Registry must be set.
type Config struct {
	// Registry has the functions that this worker can run. Its mistakes make New fail.
	Registry *kis.Registry
	// Name outlives the process: rows are shared out by it. Default: the address that is advertised. No two workers have the same:
	// a worker waits for a lease at most until another one of its name is gone, and Run fails where that one has sessions still.
	Name string
	// Listen is where coordinators dial, host:port. Default ":7701"; port 0 takes any free one.
	Listen string
	// Advertise is the host:port that coordinators are told to dial. Default: Listen, with 127.0.0.1 for its host where it
	// has none and etcd is on this machine, else with this machine's first address.
	Advertise string
	// HTTP is where metrics and health are served, host:port. Default: nowhere.
	HTTP string
	// ListenElsewhere and HTTPElsewhere take any free port, and log it, where the one asked for is in use.
	ListenElsewhere, HTTPElsewhere bool
	// Etcd says where the cluster keeps its records. Default: etcd at 127.0.0.1:2379.
	Etcd cluster.Config
	// Lease is how long the cluster waits for a worker that says nothing, and the worker for a coordinator, before the other
	// is given up. Whole seconds. Default 10 s.
	Lease time.Duration
	// MemoryBudget bounds, in bytes, the rows and results that the worker holds for its coordinators and has let them send;
	// budget.go says how strictly. Default 64 MiB, at least 1 MiB.
	MemoryBudget int64
	// RowBudget bounds the same in rows. Default 262,144, at least 1,024.
	RowBudget int64
	// Limits are what one part may measure. Default: those of batch.Limits.
	Limits batch.Limits
	// Transport secures what the worker listens on.
	Transport transport.Config
	// Connectors open connections by the type that a connector's document names. Default: redis, and memory, a store of
	// this worker's own.
	Connectors map[string]connector.Opener
	// Environment resolves ${NAME} in connectors' documents. Default os.LookupEnv.
	Environment func(string) (string, bool)
	// Documents says what of this process connectors' documents may read: names of Environment, and files. Default: all names
	// but KISGRID_* and OTEL_*, and no files; documents that a cluster accepted before are only warned of.
	Documents definition.Access
	// Tracing takes spans of parts, runs, functions and connectors; functions find theirs in their context. Default: nobody
	// traces, which costs nothing.
	Tracing trace.TracerProvider
	// Build says which build of the program this is; any text.
	Build string
	// Logger is told what happens, never row by row. Default: nobody is.
	Logger hclog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if err := c.Documents.Valid(); err != nil {
		return c, fmt.Errorf("configure the worker: what documents may read: %w", err)
	}
	if c.Registry == nil {
		return c, errors.New("configure the worker: it has no registry: give it one with the functions that it is to run")
	}
	if err := c.Registry.Err(); err != nil {
		return c, fmt.Errorf("configure the worker: %w", err)
	}
	if strings.ContainsAny(c.Name, "/ \t\n") {
		return c, fmt.Errorf("configure the worker: its name %q must have no slash and no space", c.Name)
	}
	if c.Listen == "" {
		c.Listen = ":7701"
	}
	if len(c.Etcd.Endpoints) == 0 {
		c.Etcd.Endpoints = []string{"127.0.0.1:2379"}
	}
	if c.Lease <= 0 {
		c.Lease = cluster.DefaultTTL
	}
	if c.MemoryBudget == 0 {
		c.MemoryBudget = 64 << 20
	}
	if c.RowBudget == 0 {
		c.RowBudget = 256 << 10
	}
	if c.MemoryBudget < 1<<20 || c.RowBudget < 1<<10 {
		return c, fmt.Errorf("configure the worker: a budget of %d bytes and %d rows is too small to work with: give it at least 1 MiB and 1024 rows", c.MemoryBudget, c.RowBudget)
	}
	c.Limits = c.Limits.WithDefaults()
	c.Transport.BatchBytes, c.Transport.BatchRows = c.Limits.BatchBytes, c.Limits.BatchRows
	if c.Environment == nil {
		c.Environment = os.LookupEnv
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Etcd.Logger == nil {
		c.Etcd.Logger = c.Logger.Named("etcd")
	}
	if c.Transport.Logger == nil {
		c.Transport.Logger = c.Logger.Named("transport")
	}
	return c, nil
}

// Worker is one worker. Run it once.
type Worker struct {
	config     Config
	log        hclog.Logger
	registry   *prometheus.Registry
	connectors *connector.Pool
	server     *server
	member     *membership

	// ctx ends what Run started; cut ends it at once, also while it drains.
	ctx context.Context
	cut context.CancelFunc

	drain  chan struct{} // closed when the worker is to drain
	ended  chan struct{} // closed when Run has returned, or never will run
	mu     sync.Mutex
	ran    bool  // Run was called, or will not be; guarded by mu
	asked  bool  // drain is closed; guarded by mu
	result error // how the drain went; written before ended is closed
}

// New checks the configuration and makes a Worker. Nothing is opened yet.
func New(c Config) (*Worker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		config: c, log: c.Logger, registry: prometheus.NewRegistry(),
		drain: make(chan struct{}), ended: make(chan struct{}),
	}
	w.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := connector.NewMetrics(w.registry)
	if c.Connectors == nil {
		c.Connectors = map[string]connector.Opener{
			"redis":  redis.Config{Logger: c.Logger.Named("redis"), Metrics: metrics}.Open,
			"memory": memory.New().Open,
		}
	}
	c.Registry.SetEnvironment(c.Environment)
	if c.Documents.Env != nil { // else the pool tells documents apart, which were checked before functions get connectors
		c.Registry.SetEnvironment(c.Documents.Environment(c.Environment))
	}
	w.connectors = connector.NewPool(c.Connectors, c.Environment, c.Logger.Named("connector"), metrics)
	w.connectors.Restrict(c.Documents)
	w.server, err = newServer(serverConfig{
		Registry: c.Registry, Connectors: w.connectors, Limits: c.Limits, ResultBytes: wire.SplitBytes,
		Budget: amount{c.RowBudget, c.MemoryBudget}, Lease: c.Lease, Logger: c.Logger.Named("session"), Metrics: w.registry,
		Tracer: tracing.Tracer(c.Tracing),
	})
	if err != nil {
		return nil, fmt.Errorf("configure the worker: %w", err)
	}
	w.ctx, w.cut = context.WithCancel(context.Background())
	return w, nil
}

// ID is the worker's id at the moment: drawn when it registers, and anew when it was given up by the cluster. "" before.
func (w *Worker) ID() string { return w.server.workerID() }

// Metrics are the worker's metrics, for programs that serve them themselves.
func (w *Worker) Metrics() prometheus.Gatherer { return w.registry }

// Run serves coordinators until ctx is done, or until Drain is through. It waits for etcd where etcd is away, as long as it
// takes. When ctx is done, running functions are cancelled; what that leaves undone, the cluster runs elsewhere. The error
// says why the worker could not start, or could not go on; an end that somebody asked for is none. Call it once.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.ran {
		w.mu.Unlock()
		return errors.New("run the worker: it has run, or was drained, already: make another one with New")
	}
	w.ran = true
	w.mu.Unlock()
	defer close(w.ended)
	defer w.cut()
	stop := context.AfterFunc(ctx, w.cut)
	defer stop()
	err := w.serve()
	if closed := errors.Join(w.connectors.Close(), w.config.Registry.Close()); closed != nil && err == nil {
		err = fmt.Errorf("close connectors: %w", closed)
	}
	return err
}

// serve opens everything, waits, and closes everything.
func (w *Worker) serve() error {
	listener, err := serve.ListenNear(w.ctx, w.config.Listen, w.config.ListenElsewhere, w.log)
	if err != nil {
		return err
	}
	defer listener.Close()
	address, err := w.config.advertised(listener.Addr())
	if err != nil {
		return err
	}
	calls, err := serve.NewServer(w.config.Transport)
	if err != nil {
		return err
	}
	pb.RegisterWorkerServer(calls, w.server)
	store, err := cluster.Open(w.config.Etcd)
	if err != nil {
		return err
	}
	defer store.Close()
	name := w.config.Name
	if name == "" {
		name = address
	}
	w.member = newMembership(w, store, name, address, calls.SetReady)
	pages, err := w.servePages()
	if err != nil {
		return err
	}
	defer pages.Close()

	failed := make(chan error, 2)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if err := calls.Serve(listener); err != nil {
			failed <- fmt.Errorf("serve coordinators on %s: %w", listener.Addr(), err)
		}
	})
	belonging, leave := context.WithCancel(w.ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if err := w.member.run(belonging, w.drain); err != nil {
			failed <- fmt.Errorf("register: %w", err)
		}
	}()
	running.Go(func() { w.member.warnOfAddress(belonging) })
	w.log.Info("worker started", "name", name, "listen", listener.Addr().String(), "advertise", address, "functions", len(w.config.Registry.Functions()))

	select {
	case <-w.drain:
		w.log.Info("draining")
		w.result = w.server.drain(w.ctx)
	case <-w.ctx.Done():
	case err = <-failed:
	}
	// First the record, so that nobody dials any more; then sessions, which frees their calls; then the port, once
	// coordinators have been told why.
	leave()
	<-left
	w.server.close()
	closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if cut := calls.Drain(closing); cut != nil {
		w.log.Debug("connections had to be cut", "error", cut)
	}
	w.log.Info("worker ended")
	return err
}

// Drain asks the worker to end in good order: it takes nothing new, hands back what it has not begun, finishes what runs,
// and waits until coordinators have the results. It returns when Run is about to return. When ctx is done first, what is
// left is cut off, and the error says how much that was. Safe to call twice, before Run, and after it.
func (w *Worker) Drain(ctx context.Context) error {
	w.mu.Lock()
	if !w.asked {
		w.asked = true
		close(w.drain)
	}
	if !w.ran {
		w.ran = true
		w.cut()
		close(w.ended)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-ctx.Done():
		w.cut()
		<-w.ended
	}
	return w.result
}

// servePages serves metrics and health where that is asked for.
func (w *Worker) servePages() (*httpServer, error) {
	p := &httpServer{}
	if w.config.HTTP == "" {
		return p, nil
	}
	server, err := serve.NewHTTPServer(serve.HTTPConfig{
		Transport: w.config.Transport, Metrics: w.registry, Ready: w.member.ready,
		Handlers: map[string]http.Handler{"GET /healthz": http.HandlerFunc(w.member.health)},
	})
	if err != nil {
		return nil, err
	}
	listener, err := serve.ListenNear(w.ctx, w.config.HTTP, w.config.HTTPElsewhere, w.log)
	if err != nil {
		return nil, fmt.Errorf("%w, or serve no metrics with an empty --http", err)
	}
	p.server = server
	p.serving.Go(func() {
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("metrics and health are served no more", "listen", listener.Addr().String(), "error", err)
		}
	})
	w.log.Info("serving metrics and health", "listen", listener.Addr().String())
	return p, nil
}

// pages is the HTTP server, if there is one.
type httpServer struct {
	server  *http.Server
	serving sync.WaitGroup
}

// Close cuts off what is served and waits.
func (p *httpServer) Close() {
	if p.server != nil {
		_ = p.server.Close() // of its listener, which may be closed
		p.serving.Wait()
	}
}

// record is what the worker tells of itself.
func (w *Worker) record(id, name, address string) cluster.Worker {
	r := cluster.Worker{
		ID: id, Name: name, Address: address, Lanes: runtime.GOMAXPROCS(0), Build: w.config.Build, Started: time.Now(), Session: cluster.SessionNone,
	}
	for _, f := range w.config.Registry.Functions() {
		r.Functions = append(r.Functions, cluster.Function{Name: f.Name, Mode: f.Mode, In: f.In, Out: f.Out})
	}
	return r
}

// advertised is where coordinators are to dial a worker that listens on an address.
func (c *Config) advertised(listening net.Addr) (string, error) {
	return serve.Advertised(c.Advertise, c.Listen, listening, c.Etcd.Endpoints)
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/network"
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

// closeTimeout limits how long the end of a worker waits for open connections. In this time coordinators receive the last
// message of their sessions; then the connections are cut.
const closeTimeout = time.Second

// Config says which functions a worker has, and where it listens and registers. Only Registry must be set.
type Config struct {
	// Registry has the functions that this worker can run. New fails when the registry has noted an error, such as a function
	// that was registered twice.
	Registry *kis.Registry
	// Name is the worker's name, which stays the same when the process is started again. Slots, and so rows, are assigned to
	// workers by name. Two workers of one cluster can't have the same name: Run waits at most for the time of a lease until an
	// earlier worker of this name is gone, and fails when that worker still has sessions. Default: the address that the worker
	// advertises.
	Name string
	// Listen is the address, host:port, on which the worker accepts connections of coordinators. Port 0 takes any free port.
	// Default ":7701".
	Listen string
	// Advertise is the address, host:port, that the worker registers in etcd for coordinators to dial. Default: the address of
	// Listen. Where Listen has no host, the default host is 127.0.0.1 if etcd is on this machine, and else the first address
	// of this machine.
	Advertise string
	// HTTP is the address, host:port, on which the worker serves metrics and health. Default: it serves neither.
	HTTP string
	// ListenElsewhere and HTTPElsewhere allow another port: when the port of Listen or HTTP is in use, the worker takes any
	// free port and logs it. Default: a port that is in use is an error.
	ListenElsewhere, HTTPElsewhere bool
	// Etcd says how to reach the etcd of the cluster. Default: etcd at 127.0.0.1:2379.
	Etcd cluster.Config
	// Profiles adds the pages below /debug/pprof/ to the HTTP port. They slow the process down for every client that can reach the port.
	Profiles bool
	// Lease is how long the cluster keeps a worker that it doesn't hear from before it counts the worker as dead. For the same
	// time the worker keeps the parts and results of a coordinator that has no session. Whole seconds. Default 10 s.
	Lease time.Duration
	// MemoryBudget limits the rows and results that the worker holds for all coordinators together, and the rows that it has
	// allowed them to send, in bytes. budget.go says how strictly. Default 64 MiB, at least 1 MiB.
	MemoryBudget int64
	// RowBudget limits the same as MemoryBudget, counted in rows. Default 262,144, at least 1,024.
	RowBudget int64
	// Limits are the largest size of one part, in rows and in bytes. Default: the defaults of batch.Limits.
	Limits batch.Limits
	// Transport has the TLS files and connection limits of the ports on which the worker listens.
	Transport transport.Config
	// AccessFile is the path of the file that says which certificates are those of coordinators; it is the file that coordinators have,
	// too. The worker then takes sessions from no other processes. It needs TLS with an authority. The file is read again when it changes.
	// Default: none; every process that can connect may open a session.
	AccessFile string
	// Network is the network in which the worker listens, dials, and looks names up, also for Etcd, Transport and the default Connectors
	// that have none. Default: the network of the machine. Tests give one in memory.
	Network network.Network
	// Connectors has the function that opens a connection, for each type that a connector's document can name. Default:
	// "redis", and "memory", which is a store in this worker's memory.
	Connectors map[string]connector.Opener
	// Environment returns the value for ${NAME} in the documents of connectors. Default os.LookupEnv.
	Environment func(string) (string, bool)
	// Documents says which names of Environment, and which files, the documents of connectors may read. Default: all names
	// except KISGRID_* and OTEL_*, and no files. A document that the cluster accepted before this rule existed still runs; the
	// worker logs a warning.
	Documents definition.Access
	// Tracing receives the spans of parts, runs, functions and connectors. A function finds its span in its context. Default
	// nil: no spans are made, which costs nothing.
	Tracing trace.TracerProvider
	// Build is a text that says which build of the program this is. It stands in the worker's record in etcd.
	Build string
	// Logger receives the log, in which no line belongs to a single row. Default: nothing is logged.
	Logger hclog.Logger
}

// withDefaults returns the configuration with its defaults filled in, or an error that says which setting is wrong.
func (c Config) withDefaults() (Config, error) {
	if err := c.Documents.Valid(); err != nil {
		return c, fmt.Errorf("configure the worker: the rules for what documents may read are wrong: %w", err)
	}
	if c.Registry == nil {
		return c, errors.New("configure the worker: Config.Registry is nil: set it to a registry with the functions that the worker runs")
	}
	if err := c.Registry.Err(); err != nil {
		return c, fmt.Errorf("configure the worker: %w", err)
	}
	if strings.ContainsAny(c.Name, "/ \t\n") {
		return c, fmt.Errorf("configure the worker: the name %q has a slash or a space: choose a name without", c.Name)
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
		return c, fmt.Errorf("configure the worker: the budget of %d bytes and %d rows is too small: give at least 1 MiB and 1024 rows", c.MemoryBudget, c.RowBudget)
	}
	c.Limits = c.Limits.WithDefaults()
	c.Transport.BatchBytes, c.Transport.BatchRows = c.Limits.BatchBytes, c.Limits.BatchRows
	if c.Environment == nil {
		c.Environment = os.LookupEnv
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Etcd.Network == nil {
		c.Etcd.Network = c.Network
	}
	if c.Transport.Network == nil {
		c.Transport.Network = c.Network
	}
	if c.Etcd.Logger == nil {
		c.Etcd.Logger = c.Logger.Named("etcd")
	}
	if c.Transport.Logger == nil {
		c.Transport.Logger = c.Logger.Named("transport")
	}
	return c, nil
}

// Worker is one worker process, apart from its command line. New makes it, Run runs it once, and Drain ends it in good order.
//
//	New ──► Run: open port ─► register in etcd ─► serve ─┬─ Drain ──► draining ──► ended
//	                                                     └─ ctx done, Drain's ctx done ──► cut off ──► ended
type Worker struct {
	config     Config
	log        hclog.Logger
	registry   *prometheus.Registry
	connectors *connector.Pool
	server     *server
	pages      string      // the address of metrics and health, for the record; empty if none are served. Set by serve, before member runs
	member     *membership // the record in etcd; set by serve, before the goroutines that use it start

	// ctx is the context of everything that Run started. cut ends it at once, also while the worker drains.
	ctx context.Context
	cut context.CancelFunc

	drain  chan struct{} // closed when the worker is to drain
	ended  chan struct{} // closed when Run has returned, and by a Drain that comes before Run
	mu     sync.Mutex
	ran    bool  // Run was called, or must not be called any more; guarded by mu
	asked  bool  // drain is closed; guarded by mu
	result error // the error of the drain, nil when it went well; written before ended is closed
}

// New checks the configuration and makes a Worker. It opens no port and no connection.
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
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kisgrid_worker_build", Help: "1, with the build of the worker's program."}, []string{"build"})
	build.WithLabelValues(c.Build).Set(1)
	w.registry.MustRegister(build)
	metrics := connector.NewMetrics(w.registry)
	if c.Connectors == nil {
		c.Connectors = map[string]connector.Opener{
			"redis":  redis.Config{Logger: c.Logger.Named("redis"), Metrics: metrics, Network: c.Network}.Open,
			"memory": memory.New().Open,
		}
	}
	c.Registry.SetEnvironment(c.Environment)
	if c.Documents.Env != nil { // without a list of names the pool checks each document when it is opened
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

// coordinatorsOnly returns the options of a server that takes sessions from coordinators only. It returns none if there is no access file,
// and an error if the file can't be used, or the transport asks callers for no proof.
func (c *Config) coordinatorsOnly() ([]grpc.ServerOption, error) {
	if c.AccessFile == "" {
		return nil, nil
	}
	if c.Transport.TLSCert == "" || c.Transport.TLSCA == "" {
		return nil, errors.New("configure the worker: an access file needs TLS (--tls-cert, --tls-key and --tls-ca): without it coordinators can't prove what they are")
	}
	guard, err := access.Open(c.AccessFile, c.Logger.Named("access"))
	if err == nil {
		err = guard.NeedProcesses()
	}
	if err != nil {
		return nil, fmt.Errorf("configure the worker: %w", err)
	}
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(guard.CoordinatorsOnly())}, nil
}

// ID returns the worker's current id, or "" before the worker has registered. The worker takes a new id each time it
// registers, also when the cluster has counted it as dead and it registers again.
func (w *Worker) ID() string { return w.server.workerID() }

// Metrics returns the worker's metrics, for programs that serve them themselves.
func (w *Worker) Metrics() prometheus.Gatherer { return w.registry }

// Run serves coordinators until ctx is done, or until Drain has finished. While etcd can't be reached, Run waits for it
// without a limit. When ctx is done, running functions are cancelled, and other workers run the rows that had not ended. The
// error says why the worker could not start or could not continue, or that a connector or a function of the registry could
// not be closed. It is nil when ctx or Drain ended the worker and everything was closed. Run can be called once; a second
// call returns an error.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.ran {
		w.mu.Unlock()
		return errors.New("run the worker: Run or Drain was called before: make another worker with New")
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

// serve opens the ports, registers the worker, and waits for the end. Then it closes everything in this order: the record in
// etcd, the sessions, the port.
func (w *Worker) serve() error {
	listener, err := serve.ListenNear(w.ctx, w.config.Network, w.config.Listen, w.config.ListenElsewhere, w.log)
	if err != nil {
		return err
	}
	defer listener.Close()
	address, err := w.config.advertised(listener.Addr())
	if err != nil {
		return err
	}
	only, err := w.config.coordinatorsOnly()
	if err != nil {
		return err
	}
	calls, err := serve.NewServer(w.config.Transport, only...)
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
	pages, err := w.servePages(address)
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
			failed <- fmt.Errorf("register the worker in etcd: %w", err)
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
	// The record goes first, so that no coordinator dials any more. Then the sessions end, which frees their calls. The port is
	// closed last, when coordinators have received the reason.
	leave()
	<-left
	w.server.close()
	closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if cut := calls.Drain(closing); cut != nil {
		w.log.Debug("some connections had to be cut", "error", cut)
	}
	w.log.Info("worker ended")
	return err
}

// Drain ends the worker in good order. The worker takes no new rows, hands back the rows that have not begun, finishes the
// rows that run, and waits until coordinators have acknowledged the results. Drain blocks until Run is about to return. When
// ctx is done first, the rest is cut off, and the error says how much that was. Drain can be called twice, and after Run has
// returned. A Run that is called after Drain returns an error.
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

// servePages starts the HTTP server for metrics and health, and notes its address for the worker's record. If Config.HTTP is empty it starts
// nothing, and Close of the result does nothing. known is the address by which others know the worker.
func (w *Worker) servePages(known string) (*httpServer, error) {
	p := &httpServer{}
	if w.config.HTTP == "" {
		return p, nil
	}
	server, err := serve.NewHTTPServer(serve.HTTPConfig{
		Transport: w.config.Transport, Metrics: w.registry, Ready: w.member.ready, Profiles: w.config.Profiles,
		Handlers: map[string]http.Handler{"GET /healthz": http.HandlerFunc(w.member.health)},
	})
	if err != nil {
		return nil, err
	}
	listener, err := serve.ListenNear(w.ctx, w.config.Network, w.config.HTTP, w.config.HTTPElsewhere, w.log)
	if err != nil {
		return nil, fmt.Errorf("%w, or turn the metrics off with an empty --http", err)
	}
	w.pages = serve.HTTPAddress(listener.Addr(), known)
	p.server = server
	p.serving.Go(func() {
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("the server of metrics and health has failed", "listen", listener.Addr().String(), "error", err)
		}
	})
	w.log.Info("serving metrics and health", "listen", listener.Addr().String())
	return p, nil
}

// httpServer is the worker's HTTP server, together with the goroutine that serves. server is nil when the worker has no HTTP
// address.
type httpServer struct {
	server  *http.Server
	serving sync.WaitGroup // the goroutine that serves
}

// Close ends the HTTP server, cuts off open requests, and waits for the server's goroutine.
func (p *httpServer) Close() {
	if p.server != nil {
		_ = p.server.Close() // an error says only that the listener is closed already
		p.serving.Wait()
	}
}

// advertised returns the address that coordinators are to dial. listening is the address of the open listener.
func (c *Config) advertised(listening net.Addr) (string, error) {
	return serve.Advertised(c.Network, c.Advertise, c.Listen, listening, c.Etcd.Endpoints)
}

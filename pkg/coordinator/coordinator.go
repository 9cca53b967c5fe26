package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/console"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/figures"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/httpapi"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// DefaultMaxSteps is the default of Config.MaxSteps.
const DefaultMaxSteps = definition.MaxSteps

// Config says how a coordinator runs. Store and Listener must be given; a zero value of any other field means its default.
type Config struct {
	// Store is the connection to etcd. The caller closes it after Run.
	Store *cluster.Store
	// Listener accepts the connections of clients and of the command line. Run closes it.
	Listener net.Listener
	// Advertise is the address of this coordinator that clients and other coordinators are told, as host:port. They must be able to dial
	// it. Default: the listener's.
	Advertise string
	// HTTP accepts requests of the HTTP API, and for metrics and health. Run closes it. Default: nil, which serves none of them.
	HTTP net.Listener
	// HTTPHosts are further names of this coordinator that the Host header of an HTTP request may have. Addresses, names without a dot, and
	// names that nobody can buy are allowed in any case. "*" allows all names. Default: none.
	HTTPHosts []string
	// HTTPBase is a path, such as /a/b, below which HTTP serves its pages, too. Default: none. New returns an error for a text that is no such
	// path.
	HTTPBase string
	// Transport secures both listeners and the connections to workers. Default: no TLS.
	Transport transport.Config
	// AccessFile is the path of the file that says who may do what, and which processes are coordinators and workers. It is read again when
	// it changes. Default: none, which means that everybody who can connect may do everything.
	AccessFile string
	// AccessPlaintext allows an access file without TLS also where other machines can reach the listener, because something else encrypts the
	// connections. Workers and coordinators then prove nothing to each other.
	AccessPlaintext bool
	// RefuseDirect makes this coordinator, when it leads, refuse documents that were written into etcd, and deletions of flows, past all
	// coordinators, for example with etcdctl. Give all coordinators the same value.
	RefuseDirect bool
	// DialWorker makes the network connection to a worker, over which TLS runs if Transport has it. Default: TCP to the worker's address.
	DialWorker func(context.Context, cluster.Worker) (net.Conn, error)
	// DialCoordinator makes the network connection to another coordinator, over which TLS runs if Transport has it. Default: TCP to the
	// coordinator's address.
	DialCoordinator func(context.Context, cluster.Coordinator) (net.Conn, error)
	// Profiles adds the pages below /debug/pprof/ to the HTTP port. They slow the process down for every client that can reach the port.
	Profiles bool
	// Lease is how long a worker that can't be reached is waited for, and how long this coordinator's keys in etcd outlive it. Default:
	// 10 s.
	Lease time.Duration
	// NoWorker bounds how long rows wait while no worker is ready for their flow. After that they fail. Default: 10 s.
	NoWorker time.Duration
	// Limits bound one batch: its rows, its bytes, and the bytes of a row.
	Limits batch.Limits
	// MaxSteps is the most steps that a new flow document may have. A flow that was accepted with more steps goes on running. Default:
	// DefaultMaxSteps.
	MaxSteps int
	// Budget is the most bytes of rows that all clients together may have under way; one batch may overdraw it. A stream takes at least 512
	// KiB of it, so the budget bounds the number of streams. Two things come on top: each stream may hold one message that waits for its
	// place, and answers that clients have not read may use up to half of the budget again. Default: 96 MiB.
	Budget int64
	// DeadLetters is the store that keeps dead rows. The caller closes it after Run. Default: nil, which means that dead rows are only
	// reported to their clients.
	DeadLetters *deadletter.Store
	// Build says which build of the program this is: its version, followed by "+" and the commit if that is known.
	Build string
	// Logger gets messages for the operator. Default: they are dropped.
	Logger hclog.Logger
	// Tracing gets spans of batches and parts. Default: nil, which means that nothing is traced.
	Tracing trace.TracerProvider
	// Registry gets the metrics. Default: a new registry, with metrics of the process and of the Go runtime.
	Registry *prometheus.Registry

	historyAge time.Duration // how long a revision stays in the history after it was replaced; 0 means cluster.HistoryAge
}

// Coordinator is one coordinator process. Its methods may be called by several goroutines at the same time.
type Coordinator struct {
	config     Config
	id         string
	log        hclog.Logger
	loop       *schedulerLoop
	board      *flowstate.Board
	fleet      *fleet
	lookups    *etcdLookups
	ingest     *ingest
	letters    *letterKeeper
	rejections *prometheus.CounterVec // counts revisions that this coordinator, as the leader, has rejected, by flow
	server     *serve.Server
	api        *httpapi.API         // the HTTP API
	pages      *console.Console     // the web console
	book       *figures.Book        // what the whole cluster has counted
	counting   singleflight.Group   // reads this coordinator's own counts into book
	auditor    *admin.Auditor       // notes who changes something, or reads rows
	guard      *access.Guard        // nil means that there is no access file
	intercept  *access.Interceptors // find the caller of each call, and refuse calls for which it lacks the right

	leading           atomic.Bool
	leadershipChanged chan struct{} // holds a token when leading has changed and the record in etcd does not say so yet
	ready             chan struct{} // closed when the flows are listed

	draining  chan struct{} // closed when no batch is taken any more
	drainOnce sync.Once
	stopOnce  sync.Once
	stop      chan struct{} // closed to end Run
	done      chan struct{} // closed when Run has returned
}

// New checks the configuration and makes a coordinator. It starts no goroutines and serves nothing; Run does.
func New(c Config) (*Coordinator, error) {
	if c.Store == nil || c.Listener == nil {
		return nil, errors.New("make a coordinator: Store and Listener must be given")
	}
	if err := serve.CheckBase(c.HTTPBase); err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	if c.Advertise == "" {
		c.Advertise = c.Listener.Addr().String()
	}
	if c.Lease <= 0 {
		c.Lease = cluster.DefaultTTL
	}
	if c.MaxSteps <= 0 {
		c.MaxSteps = DefaultMaxSteps
	}
	if c.historyAge <= 0 {
		c.historyAge = cluster.HistoryAge
	}
	if c.DialWorker == nil {
		c.DialWorker = func(ctx context.Context, w cluster.Worker) (net.Conn, error) {
			return c.Transport.DialTCP(ctx, w.Address)
		}
	}
	if c.DialCoordinator == nil {
		c.DialCoordinator = func(ctx context.Context, other cluster.Coordinator) (net.Conn, error) {
			return c.Transport.DialTCP(ctx, other.Address)
		}
	}
	if c.Budget <= 0 {
		c.Budget = 96 << 20
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
		c.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	c.Limits = c.Limits.WithDefaults()
	if need := max(firstWindowBytes, callCost(c.Limits.BatchRows, c.Limits.BatchBytes)); c.Budget < need {
		return nil, fmt.Errorf("make a coordinator: a budget of %d bytes does not hold one batch: raise it to %d, or lower the limits of a batch", c.Budget, need)
	}
	c.Transport.BatchBytes, c.Transport.BatchRows = c.Limits.BatchBytes, c.Limits.BatchRows
	guard, err := openAccess(&c)
	if err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	intercept := access.Intercept(guard, accessRules).ForCoordinators(pb.Admin_ShareFigures_FullMethodName)
	server, err := serve.NewServer(c.Transport, grpc.ChainUnaryInterceptor(intercept.Unary), grpc.ChainStreamInterceptor(intercept.Stream))
	if err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	k := &Coordinator{
		config: c, id: newID(), log: c.Logger, server: server, guard: guard, intercept: intercept,
		loop: newSchedulerLoop(scheduler.Config{NoWorker: c.NoWorker}), board: flowstate.NewBoard(), lookups: newEtcdLookups(c.Store),
		leadershipChanged: make(chan struct{}, 1), ready: make(chan struct{}), draining: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kisgrid_revisions_rejected_total",
			Help: "Revisions that this coordinator, leading, rejected; the revision before runs on.",
		}, []string{"flow"}),
	}
	k.book = figures.New(k.id, time.Now())
	tracer := tracing.Tracer(c.Tracing)
	fleetLog := c.Logger.Named("fleet")
	k.fleet = newFleet(&peerSettings{
		coordinator: k.id, transport: c.Transport, guard: guard, dial: c.DialWorker, tracer: tracer, lease: c.Lease, limits: c.Limits, untaken: c.Budget / 2,
		board: k.board, book: k.book, loop: k.loop, log: fleetLog.Named("session"),
	}, c.Store, fleetLog)
	k.auditor = admin.NewAuditor(c.Store, k.id, c.Logger.Named("audit"))
	k.letters = newLetterKeeper(c.DeadLetters, c.Logger.Named("dead-letters"))
	k.fleet.flows.onFlowDeleted = []func(string){k.letters.forget, func(flow string) { k.rejections.DeleteLabelValues(flow) }, func(flow string) { k.ingest.took.DeleteLabelValues(flow) }}
	k.ingest = &ingest{
		id: k.id, loop: k.loop, board: k.board, store: c.Store, revisions: &revisionFinder{board: k.board, fleet: k.fleet, lookups: k.lookups},
		coordinators: k.fleet.Coordinators, tracer: tracer, letters: k.letters, limits: c.Limits, maxMessage: c.Transport.MessageBytes(),
		budget: newBudget(c.Budget), ready: k.ready, draining: k.draining, streams: map[streamKey]*stream{}, took: newBatchTimes(),
	}
	pb.RegisterIngestServer(server, k.ingest)
	var identify func(context.Context) (*access.Identity, error)
	if k.guard != nil {
		identify = k.guard.Identify
	}
	calls := admin.New(admin.Config{
		ID: k.id, Address: c.Advertise, Build: c.Build, Started: processStart, Store: c.Store, Letters: c.DeadLetters, Board: k.board,
		Fleet: k.fleet, Rows: k.loop, Budget: k.ingest.budget, Limits: c.Limits, MaxSteps: c.MaxSteps, RefuseDirect: c.RefuseDirect, Draining: k.draining,
		Auditor: k.auditor, Book: k.book, CountOwn: k.countOwn, Identify: identify, Carriers: &k.ingest.carriers,
		Runner: &letterRunner{loop: k.loop, board: k.board, letters: k.letters, budget: k.ingest.budget, limits: c.Limits},
	})
	pb.RegisterAdminServer(server, calls)
	if k.api, err = httpapi.New(httpapi.Config{
		Ingest: k.ingest, Admin: calls, Unary: intercept.Unary, Stream: intercept.Stream, Caller: callerName, Viewer: viewerOf, Limits: c.Limits, MessageBytes: c.Transport.MessageBytes(),
		Budget: k.ingest.budget, Requests: c.Store.Requests(), Hosts: append(ownHosts(c.Advertise), c.HTTPHosts...), RequireCert: c.Transport.RequireClientCert, Draining: k.draining, Types: k.rowTypes,
	}); err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	if k.pages, err = console.New(k.httpAddresses); err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	c.Registry.MustRegister(&collector{coordinator: k}, k.rejections, k.letters.kept, k.letters.notKept, k.letters.redriven, k.ingest.took)
	c.Registry.MustRegister(append(k.api.Collectors(), k.auditor.Collectors()...)...)
	return k, nil
}

// newID draws a random id for a coordinator, such as coordinator-92990e0c4377.
func newID() string {
	var random [6]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return "coordinator-" + hex.EncodeToString(random[:])
}

// ID returns the coordinator's id, which New has drawn at random.
func (c *Coordinator) ID() string { return c.id }

// Budgets returns how many bytes clients can make the coordinator hold: Config.Budget, for rows and for answers that clients have not read,
// and the messages that are being received.
func (c *Coordinator) Budgets() int64 {
	return c.config.Budget + serve.ReceiveLimit(c.config.Transport)
}

// Ready returns a channel that is closed once the coordinator knows the flows and takes batches. It stays closed.
func (c *Coordinator) Ready() <-chan struct{} { return c.ready }

// AwaitWorkers blocks until sessions with at least n workers are up, and then returns nil. It returns an error if ctx is done or Run has
// returned before.
func (c *Coordinator) AwaitWorkers(ctx context.Context, n int) error {
	for {
		now, changed := c.board.Watch()
		if now.Sessions >= n {
			return nil
		}
		select {
		case <-changed:
		case <-c.done:
			return refuse.Stopped()
		case <-ctx.Done():
			return fmt.Errorf("wait for sessions with %d workers; %d are up: %w", n, now.Sessions, ctx.Err())
		}
	}
}

// Run serves until ctx is done or Drain is over, and then returns nil. It returns an error if something fails that it can't do without,
// such as a listener. It blocks; while etcd is away it waits for etcd. When ctx is done before Drain is over, batches under way are cut
// off, and their clients are told to submit them to another coordinator. Run may be called once.
func (c *Coordinator) Run(ctx context.Context) error {
	defer close(c.done)
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loopCtx, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	loops.Go(func() { c.loop.run(loopCtx) })
	defer loops.Wait()
	defer stopLoop()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { c.fleet.run(ctx); return nil })
	g.Go(func() error { c.lookups.run(ctx); return nil })
	g.Go(func() error { return c.follow(ctx) })
	g.Go(func() error { c.letters.checkStore(ctx); return nil })
	g.Go(func() error { c.auditor.Run(ctx); return nil })
	g.Go(func() error { c.gatherFigures(ctx); return nil })
	g.Go(func() error { return c.register(ctx) })
	g.Go(func() error { return c.campaign(ctx) })
	g.Go(func() error { c.ingest.balanceStreams(ctx); return nil })
	g.Go(func() error {
		if err := c.server.Serve(c.config.Listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve %s: %w", c.config.Listener.Addr(), err)
		}
		return nil
	})
	if c.config.HTTP != nil {
		g.Go(func() error { return c.serveHTTP(ctx) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-c.stop:
			cancel()
		}
		stopLoop() // ends the calls that wait for rows
		c.server.Stop()
		c.ingest.carriers.Wait()
		return nil
	})
	err := g.Wait()
	c.api.Wait()
	if asked.Err() != nil || isClosed(c.stop) {
		return nil // the goroutines ended because they were told to
	}
	return err
}

// Drain makes the coordinator take no new batches, waits until each row under way has its outcome, and ends Run. If ctx is done first, it
// cuts off the batches that are left and returns ctx's error. It blocks until Run has returned, so Run must have been called. It may be
// called more than once.
func (c *Coordinator) Drain(ctx context.Context) error {
	c.drainOnce.Do(func() {
		pointDraining.Hit()
		c.log.Info("draining: no new batches are taken", "id", c.id)
		c.server.SetReady(false)
		close(c.draining)
	})
	err := c.server.Drain(ctx)
	c.api.Drain(ctx)
	c.stopOnce.Do(func() { close(c.stop) })
	<-c.done
	return err
}

// follow keeps the fleet up to date with etcd until ctx is done: which workers and coordinators are registered, the statuses of flows, and
// what is paused or cordoned. It closes c.ready when it has the last two for the first time.
func (c *Coordinator) follow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	s, f := c.config.Store, c.fleet
	g.Go(func() error {
		return s.Wait(ctx, func(err error) { c.log.Warn("waiting for etcd", "error", err) })
	})
	g.Go(func() error {
		return s.FollowWorkers(ctx, func(workers map[string]cluster.Worker) { f.ask(ctx, func() { f.setWorkers(ctx, workers) }) })
	})
	g.Go(func() error {
		return s.FollowCoordinators(ctx, func(all map[string]cluster.Coordinator) { f.roster.coordinatorsByID.Store(&all) })
	})
	var flowsListed, controlsListed bool // the fleet's goroutine owns these two
	listed := func(what *bool) {
		if *what = true; flowsListed && controlsListed && !isClosed(c.ready) {
			close(c.ready)
			c.log.Info("ready", "id", c.id, "address", c.config.Advertise)
		}
	}
	g.Go(func() error {
		return s.FollowControls(ctx, func(controls cluster.Controls) {
			f.wait(ctx, func() {
				f.setControls(ctx, controls)
				listed(&controlsListed)
			})
		})
	})
	g.Go(func() error {
		return s.FollowState(ctx, func(state cluster.State) {
			f.followed.Store(&state)
			// While the fleet takes this over, further changes gather and come as one.
			f.wait(ctx, func() {
				f.setFlows(ctx, state)
				listed(&flowsListed)
			})
		})
	})
	g.Go(func() error { return c.tellReady(ctx) })
	return g.Wait()
}

// tellReady keeps the gRPC health service up to date until ctx is done, so that probes and load balancers know whether this coordinator
// takes batches.
func (c *Coordinator) tellReady(ctx context.Context) error {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil
	}
	for {
		now, changed := c.board.Watch()
		c.server.SetReady(!now.CutOff && !isClosed(c.draining))
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Package coordinator is the process between clients and workers. A batch comes in by a client's call (ingest.go, stream.go),
// is checked and given its keys (submission.go), is split and placed by the scheduler, which one goroutine owns (loop.go),
// leaves in parts by the sessions with workers (link.go, sender.go), and its results go back as answers (submission.go).
// Beside that path the fleet (fleet.go) knows workers and flows, and one coordinator of all, the leader (leader.go), decides
// which revision of a flow is active.
//
// It is exported for the project's own programs and changes with them: see docs/stability.md.
package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// DefaultMaxSteps is the default of Config.MaxSteps.
const DefaultMaxSteps = definition.MaxSteps

// Config says how a coordinator runs. Store and Listener must be given; zero fields mean the defaults.
type Config struct {
	// Store is the connection to etcd. The caller closes it after Run.
	Store *cluster.Store
	// Listener takes clients and the command line. Run closes it.
	Listener net.Listener
	// Advertise is the address that clients and peers are told: one that they can dial. Default: the listener's.
	Advertise string
	// HTTP takes requests for metrics and health. Run closes it. Default: none.
	HTTP net.Listener
	// Transport secures both listeners and the connections to workers.
	Transport transport.Config
	// DialWorker makes the connections to workers, before TLS. Default: TCP to their addresses.
	DialWorker func(context.Context, cluster.Worker) (net.Conn, error)
	// Lease is how long a worker that can't be reached is waited for, and how long this coordinator's own keys outlive it.
	// Default 10 s.
	Lease time.Duration
	// NoWorker bounds how long rows wait while no worker is ready for their flow. Default 10 s.
	NoWorker time.Duration
	// Limits of a batch.
	Limits batch.Limits
	// MaxSteps is how many steps a flow's document may have to be taken in. One that was accepted earlier goes on. Default
	// DefaultMaxSteps.
	MaxSteps int
	// Budget is how many bytes of rows clients may have under way together; one batch may overdraw it. Beside it each stream
	// may hold one message that waits for its place, and a stream takes at least 512 KiB, so there are no more than Budget has
	// room for. Answers that clients have not taken may come to half of it more. Default 96 MiB.
	Budget int64
	// DeadLetters keeps dead rows. The caller closes it after Run. Default: they are only reported.
	DeadLetters *deadletter.Store
	// Build says which build of the program this is: the version, and behind a "+" the commit where it is known.
	Build string
	// Logger gets what an operator should know. Default: nobody.
	Logger hclog.Logger
	// Tracing takes spans of batches and parts. Default: nobody traces, which costs nothing.
	Tracing trace.TracerProvider
	// Registry takes the metrics. Default: one of its own, with those of the process and the Go runtime.
	Registry *prometheus.Registry

	historyAge time.Duration // default cluster.HistoryAge
}

// Coordinator is one coordinator process. Its methods may be called by several goroutines at the same time.
type Coordinator struct {
	config  Config
	id      string
	log     hclog.Logger
	loop    *schedulerLoop
	board   *flowstate.Board
	fleet   *fleet
	ingest  *ingest
	letters *letterKeeper
	server  *serve.Server

	leading           atomic.Bool
	leadershipChanged chan struct{} // holds a token when leading changed
	ready             chan struct{} // closed when the flows were listed

	draining  chan struct{} // closed when no batch is taken any more
	drainOnce sync.Once
	stopOnce  sync.Once
	stop      chan struct{} // closed to end Run
	done      chan struct{} // closed when Run returned
}

// New checks the configuration. It starts nothing.
func New(c Config) (*Coordinator, error) {
	if c.Store == nil || c.Listener == nil {
		return nil, errors.New("make a coordinator: Store and Listener must be given")
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
			return transport.DialTCP(ctx, w.Address)
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
	server, err := serve.NewServer(c.Transport)
	if err != nil {
		return nil, fmt.Errorf("make a coordinator: %w", err)
	}
	k := &Coordinator{
		config: c, id: newID(), log: c.Logger, server: server,
		loop: newSchedulerLoop(scheduler.Config{NoWorker: c.NoWorker}), board: flowstate.NewBoard(),
		leadershipChanged: make(chan struct{}, 1), ready: make(chan struct{}), draining: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{}),
	}
	tracer := tracing.Tracer(c.Tracing)
	k.fleet = &fleet{
		id: k.id, store: c.Store, loop: k.loop, board: k.board, log: c.Logger.Named("fleet"),
		transport: c.Transport, dial: c.DialWorker, tracer: tracer, lease: c.Lease, limits: c.Limits, untakenTotal: c.Budget / 2,
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kisgrid_revisions_rejected_total",
			Help: "Revisions that this coordinator, leading, rejected; what ran before runs on.",
		}, []string{"flow"}),
	}
	k.fleet.init()
	k.letters = newLetterKeeper(c.DeadLetters, c.Logger.Named("dead-letters"))
	k.fleet.onFlowDeleted = append(k.fleet.onFlowDeleted, k.letters.forget, func(flow string) { k.fleet.rejections.DeleteLabelValues(flow) })
	k.ingest = &ingest{
		id: k.id, loop: k.loop, board: k.board, fleet: k.fleet, tracer: tracer, letters: k.letters, limits: c.Limits, maxMessage: c.Transport.MessageBytes(),
		budget: newBudget(c.Budget), ready: k.ready, draining: k.draining, streams: map[batch.StreamID]*stream{},
	}
	pb.RegisterIngestServer(server, k.ingest)
	pb.RegisterAdminServer(server, admin.New(admin.Config{
		Id: k.id, Address: c.Advertise, Build: c.Build, Started: processStart, Store: c.Store, Letters: c.DeadLetters, Board: k.board,
		Fleet: k.fleet, Rows: k.loop, Budget: k.ingest.budget, Limits: c.Limits, MaxSteps: c.MaxSteps, Draining: k.draining,
		Runner: &letterRunner{loop: k.loop, board: k.board, letters: k.letters, budget: k.ingest.budget, limits: c.Limits},
	}))
	c.Registry.MustRegister(&collector{coordinator: k}, k.fleet.rejections, k.letters.kept, k.letters.notKept, k.letters.redriven)
	return k, nil
}

func newID() string {
	var random [6]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return "coordinator-" + hex.EncodeToString(random[:])
}

// newSecret draws what a worker knows a coordinator by, beside its id, which anybody may read.
func newSecret() []byte {
	secret := make([]byte, 16)
	rand.Read(secret) // never fails: see crypto/rand
	return secret
}

// ID was drawn by New.
func (c *Coordinator) ID() string { return c.id }

// Budgets are the bytes that clients can have it hold: of rows, answers that nobody takes included, and of messages on their
// way in.
func (c *Coordinator) Budgets() int64 {
	return c.config.Budget + serve.ReceiveLimit(c.config.Transport)
}

// Ready is closed once the coordinator knows the flows and takes batches.
func (c *Coordinator) Ready() <-chan struct{} { return c.ready }

// AwaitWorkers blocks until sessions with at least n workers are up, or ctx is done.
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
			return fmt.Errorf("wait for %d workers, of which %d are there: %w", n, now.Sessions, ctx.Err())
		}
	}
}

// Run serves until ctx is done or Drain is over, and returns nil then. It blocks, and waits for etcd where that is away. When
// ctx is done first, what is under way is cut off: clients are told to submit it to another coordinator. Run is called once.
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
	g.Go(func() error { c.fleet.lookups.run(ctx); return nil })
	g.Go(func() error { return c.follow(ctx) })
	g.Go(func() error { c.letters.checkStore(ctx); return nil })
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
	if asked.Err() != nil || isClosed(c.stop) {
		return nil // what ended did so because it was to
	}
	return err
}

// Drain takes no new batches, waits until each row under way has its outcome, and ends Run. When ctx is done first it cuts
// off what is left and returns ctx's error. It is safe twice, and blocks until Run has returned.
func (c *Coordinator) Drain(ctx context.Context) error {
	c.drainOnce.Do(func() {
		c.log.Info("draining: no new batches are taken", "id", c.id)
		c.server.SetReady(false)
		close(c.draining)
	})
	err := c.server.Drain(ctx)
	c.stopOnce.Do(func() { close(c.stop) })
	<-c.done
	return err
}

// follow keeps the fleet up to date with etcd.
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
		return s.FollowCoordinators(ctx, func(peers map[string]cluster.Coordinator) { f.coordinatorsByID.Store(&peers) })
	})
	listed := sync.OnceFunc(func() {
		close(c.ready)
		c.log.Info("ready", "id", c.id, "address", c.config.Advertise)
	})
	g.Go(func() error {
		return s.FollowState(ctx, func(state cluster.State) {
			f.seen.Store(&state)
			// Changes that come meanwhile come together.
			f.wait(ctx, func() {
				f.setFlows(ctx, state)
				listed()
			})
		})
	})
	g.Go(func() error { return c.tellReady(ctx) })
	return g.Wait()
}

// tellReady has probes and balancers know whether batches are taken.
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

// member keeps this coordinator's key in etcd.
func (c *Coordinator) register(ctx context.Context) error {
	record := cluster.Coordinator{ID: c.id, Address: c.config.Advertise, Build: c.config.Build, Started: time.Now().UTC()}
	if c.config.HTTP != nil {
		record.HTTP = httpAddress(c.config.HTTP.Addr(), c.config.Advertise)
	}
	for ctx.Err() == nil {
		record = c.currentRecord(record)
		registration, err := c.config.Store.RegisterCoordinator(ctx, record, c.config.Lease)
		if err == nil {
			c.keepRecord(ctx, registration, record)
		} else if ctx.Err() == nil {
			c.log.Warn("this coordinator is not registered; it is tried again", "error", err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}

// beside is a listener's address with the host by which others know this machine, where the listener's says none.
func httpAddress(listening net.Addr, known string) string {
	tcp, ok := listening.(*net.TCPAddr)
	host, _, err := net.SplitHostPort(known)
	if !ok || err != nil || !tcp.IP.IsUnspecified() {
		return listening.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// upToDate is the record with what changes.
func (c *Coordinator) currentRecord(record cluster.Coordinator) cluster.Coordinator {
	record.Leader, record.Ready, record.Streams = c.leading.Load(), c.ingest.whyClosed() == nil, c.ingest.streamCount()
	now := c.board.Load()
	record.Sessions, record.CutOff, record.Namesakes = &now.Sessions, now.CutOff, now.SharingName
	record.Missed, record.Unreachable = len(now.Unreachable), now.Unreachable[:min(len(now.Unreachable), cluster.MaxUnreachable)]
	return record
}

// hold keeps the record true until the key is lost or ctx is done, and takes it back then.
func (c *Coordinator) keepRecord(ctx context.Context, r *cluster.Registration[cluster.Coordinator], record cluster.Coordinator) {
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := r.Close(closing); err != nil {
			c.log.Warn("this coordinator's key stays until its lease is over", "error", err)
		}
	}()
	news := time.NewTicker(balanceInterval)
	defer news.Stop()
	for {
		if next := c.currentRecord(record); !reflect.DeepEqual(next, record) && r.Update(ctx, next) == nil {
			record = next // what could not be written is tried again
		}
		select {
		case <-ctx.Done():
			return
		case <-r.Lost():
			c.log.Warn("this coordinator's key was lost; it registers again", "error", r.Err())
			return
		case <-c.leadershipChanged:
		case <-news.C:
		}
	}
}

// campaign leads whenever it can, and others do not reach more workers: a leader that reaches too few would wait for
// acknowledgements that it can't get.
func (c *Coordinator) campaign(ctx context.Context) error {
	for c.board.Await(ctx, func(now *flowstate.Snapshot) bool { return !now.OthersReachMore }) && ctx.Err() == nil {
		reaching, stop := whileReaching(ctx, c.board)
		c.lead(reaching)
		stop()
	}
	return nil
}

// lead campaigns, and leads until the leadership is lost or ctx is done.
func (c *Coordinator) lead(ctx context.Context) {
	log := c.log.Named("leader")
	leads := func(leads bool) {
		c.leading.Store(leads)
		select {
		case c.leadershipChanged <- struct{}{}:
		default:
		}
	}
	leadership, err := c.config.Store.Campaign(ctx, c.id, c.config.Lease)
	if err != nil {
		if ctx.Err() == nil {
			log.Warn("the campaign ended; it is tried again", "error", err)
			sleep(ctx, time.Second)
		}
		return
	}
	log.Info("leading", "id", c.id)
	leads(true)
	err = leader.Lead(ctx, leader.Config{
		Leadership: leadership, Store: c.config.Store, Fleet: c.fleet, News: c.fleet.leaderNews, HistoryAge: c.config.historyAge,
		MaxSteps: c.config.MaxSteps, Rejections: c.fleet.rejections, Log: log,
	})
	leads(false)
	switch {
	case errors.Is(context.Cause(ctx), errOthersReachMore):
		log.Warn("leading no more", "error", errOthersReachMore)
	case err != nil && ctx.Err() == nil:
		log.Warn("leading no more", "error", err)
	}
	resigning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := leadership.Resign(resigning); err != nil {
		log.Warn("the next leader waits for the lease to be over", "error", err)
	}
}

// pause waits; false when ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c *Coordinator) serveHTTP(ctx context.Context) error {
	server, err := serve.NewHTTPServer(serve.HTTPConfig{Transport: c.config.Transport, Metrics: c.config.Registry, Ready: func(context.Context) error {
		select {
		case <-c.ready:
			return nil
		default:
			return errors.New("the flows are not listed yet: etcd is waited for")
		}
	}})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(closing) // what does not end in time is cut off below
		_ = server.Close()
	}()
	defer func() { <-ended }()
	if server.TLSConfig != nil {
		err = server.ServeTLS(c.config.HTTP, "", "")
	} else {
		err = server.Serve(c.config.HTTP)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %s: %w", c.config.HTTP.Addr(), err)
}

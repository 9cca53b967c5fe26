package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Config describes a Cluster. Addresses are host:port; an empty one means a free port of 127.0.0.1.
type Config struct {
	// Coordinators is how many coordinators run. Default: 1.
	Coordinators int
	// Workers is how many workers run. Default: none.
	Workers int
	// Build is the build of the program, which coordinators and workers report. Default: "dev".
	Build string
	// Register registers the functions of each worker.
	Register func(*kis.Registry)
	// Etcd is where the embedded etcd listens. Listen and HTTP are where the first coordinator takes clients and serves its metrics; an empty
	// HTTP means that they are not served. It is an error when an address is taken.
	Etcd, Listen, HTTP string
	// EtcdAt is the address of an etcd that runs already. Empty means that an embedded one is started, at the address Etcd.
	EtcdAt string
	// DataDir is the folder in which the embedded etcd keeps its data from one start to the next. Default: the data is deleted at the end.
	DataDir string
	// Redis is the address of a Redis that runs already. Empty means that an embedded one is started, at the address EmbeddedRedis, or at
	// a free port where that address is taken.
	Redis, EmbeddedRedis string
	// Documents says which files and environment variables the documents of connectors may name, as in worker.Config.
	Documents definition.Access
	// AccessFile is the file that says who may do what at the coordinators, as in coordinator.Config. Default: everybody may do everything.
	AccessFile string
	// HTTPBase is a path below which coordinators serve their HTTP pages, too, as in coordinator.Config. Default: none.
	HTTPBase string
	// Lease is the lease of coordinators and workers in etcd. Default: 2 s, which is short so that nobody has to wait for a death.
	Lease time.Duration
	// TLS, where its files are set, makes coordinators, workers and etcd speak TLS, all with the same certificate. Redis has no TLS.
	// Default: no TLS.
	TLS transport.Config
	// Logger takes the log of coordinators, workers and etcd. Default: the log is dropped.
	Logger hclog.Logger
	// Machine is the network in which everything but the embedded etcd and Redis listens and dials. Default: that of the machine.
	Machine network.Network
	// Network makes the connections between the parties of the cluster. Default: they are made directly.
	Network Network
	// Tracing takes the spans of coordinators and workers. Default: no spans.
	Tracing trace.TracerProvider
	// Announce is told of each server when it has started: its kind ("etcd", "redis", "coordinator", "metrics", "console", "worker"), and its address
	// or id. Default: nobody is told.
	Announce func(what, where string)
}

// Cluster is a running etcd and Redis with coordinators and workers, in this process. Its methods may be called from several goroutines.
type Cluster struct {
	config Config
	etcd   *Etcd  // nil means that Config.EtcdAt names one
	redis  *Redis // nil means that Config.Redis names one
	store  *cluster.Store
	dead   *deadletter.Store // dead letters, in the same Redis

	coordinator *Node // the first one

	mu      sync.Mutex
	nodes   []*Node // nodes that may still run, in the order of their start; guarded by mu
	started int     // how many coordinators were ever started; guarded by mu

	ctx    context.Context // the context of each node's Run
	cancel context.CancelFunc
	failed chan error // capacity 1; takes the first error of a node

	closing sync.Once
	closed  error // the result of Close; written within closing
}

// stopPatience is the longest that Close waits for rows under way.
const stopPatience = 5 * time.Second

// Start starts a cluster, and waits until each coordinator takes batches and has a session with each worker. It gives up when ctx ends;
// ctx does not bound the life of the cluster. When Start fails it stops everything that it has started.
func Start(ctx context.Context, c Config) (*Cluster, error) {
	if c.Lease <= 0 {
		c.Lease = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Build == "" {
		c.Build = "dev"
	}
	if c.Announce == nil {
		c.Announce = func(string, string) {}
	}
	c.TLS.Network = c.Machine
	k := &Cluster{config: c, failed: make(chan error, 1)}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := k.start(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// start starts everything in the order in which one needs the other: etcd, Redis, coordinators, workers.
func (k *Cluster) start(ctx context.Context) (err error) {
	c := &k.config
	if c.EtcdAt == "" {
		if k.etcd, err = StartEtcd(ctx, EtcdConfig{
			Address: c.Etcd, DataDir: c.DataDir, TLSCert: c.TLS.TLSCert, TLSKey: c.TLS.TLSKey, TLSCA: c.TLS.TLSCA, Logger: c.Logger.Named("etcd"),
		}); err != nil {
			return err
		}
		c.EtcdAt = k.etcd.Address()
	}
	c.Announce("etcd", c.EtcdAt)
	if c.Redis == "" {
		if k.redis, err = startRedisNear(c.EmbeddedRedis); err != nil {
			return err
		}
		c.Redis = k.redis.Address()
	}
	c.Announce("redis", c.Redis)
	if k.store, err = k.open(c.EtcdAt, "etcd"); err != nil {
		return err
	}
	if k.dead, err = deadletter.Open(deadletter.Config{URL: "redis://" + c.Redis, Network: c.Machine}); err != nil {
		return err
	}
	if k.coordinator, err = k.startCoordinator(ctx, c.Listen, c.HTTP); err != nil {
		return err
	}
	for range c.Coordinators - 1 {
		if _, err := k.StartCoordinator(ctx, ""); err != nil {
			return err
		}
	}
	var workers []*Node
	for i := range c.Workers {
		w, err := k.StartWorker(WorkerConfig{Name: fmt.Sprintf("worker-%d", i+1)})
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	if err := k.Await(ctx, c.Workers); err != nil {
		return err
	}
	for _, w := range workers {
		c.Announce("worker", w.worker.ID())
	}
	return nil
}

// startRedisNear starts a Redis at the address, or at a free port of 127.0.0.1 where the address is empty or taken.
func startRedisNear(address string) (*Redis, error) {
	if address != "" {
		if r, err := StartRedis(RedisConfig{Address: address}); err == nil {
			return r, nil
		}
	}
	return StartRedis(RedisConfig{})
}

// open connects to etcd at an address. name is the name of the connection's logger.
func (k *Cluster) open(address, name string) (*cluster.Store, error) {
	config, err := k.etcdAt(address)
	if err != nil {
		return nil, err
	}
	config.Logger = k.config.Logger.Named(name)
	return cluster.Open(config)
}

// etcdAt returns the configuration by which a node reaches etcd at an address.
func (k *Cluster) etcdAt(address string) (config cluster.Config, err error) {
	config.Endpoints, config.Network = []string{address}, k.config.Machine
	if k.config.TLS.TLSCert != "" {
		config.Credentials, err = k.config.TLS.Credentials()
	}
	return config, err
}

// Await waits until each coordinator has sessions with at least the given number of workers, or ctx ends.
func (k *Cluster) Await(ctx context.Context, workers int) error {
	for _, n := range k.Coordinators() {
		if err := n.coordinator.AwaitWorkers(ctx, workers); err != nil {
			return err
		}
	}
	return nil
}

// environment returns the default of WorkerConfig.Environment: a function that looks names up in the environment of the process, and
// returns redis for the name REDIS_ADDR.
func environment(redis string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "REDIS_ADDR" {
			return redis, true
		}
		return os.LookupEnv(name)
	}
}

// Coordinator returns the address (host:port) at which the first coordinator takes clients.
func (k *Cluster) Coordinator() string { return k.coordinator.address }

// Metrics returns the URL of the first coordinator's metrics; "" means that they are not served.
func (k *Cluster) Metrics() string {
	if k.coordinator.pages == "" {
		return ""
	}
	return k.coordinator.pages + "/metrics"
}

// Console returns the URL of the first coordinator's console; "" means that it is not served.
func (k *Cluster) Console() string {
	if k.coordinator.pages == "" {
		return ""
	}
	return k.coordinator.pages + "/"
}

// Coordinators returns the coordinators that have not ended, in the order of their start.
func (k *Cluster) Coordinators() []*Node {
	var all []*Node
	for _, n := range k.living() {
		if n.coordinator != nil {
			all = append(all, n)
		}
	}
	return all
}

// Etcd returns the address (host:port) of etcd.
func (k *Cluster) Etcd() string { return k.config.EtcdAt }

// Redis returns the address (host:port) of the Redis that flows share.
func (k *Cluster) Redis() string { return k.config.Redis }

// WorkerCommand returns a shell command that starts a worker in another process, which joins this cluster. It works in the top folder of
// a checkout of KisGrid.
func (k *Cluster) WorkerCommand() string {
	command := "go run ./cmd/worker"
	if k.Redis() != "127.0.0.1:6379" {
		command = "REDIS_ADDR=" + k.Redis() + " " + command
	}
	if k.Etcd() != "127.0.0.1:2379" {
		command += " --etcd " + k.Etcd()
	}
	return command
}

// Put writes documents into etcd as etcdctl does, in as few transactions as possible. It checks nothing, and does not wait until the
// documents are active. Documents that etcd has already are not written again.
func (k *Cluster) Put(ctx context.Context, docs []definition.Document) error {
	_, stored, err := k.store.Documents(ctx)
	if err != nil {
		return err
	}
	var put []definition.Document
	for _, change := range definition.Diff(stored, docs) {
		if change.After != nil {
			put = append(put, *change.After)
		}
	}
	for _, part := range k.store.Parts(put) {
		if _, err := k.store.PutDocuments(ctx, nil, part, nil); err != nil {
			return err
		}
	}
	return nil
}

// Wait blocks until ctx is done, and returns nil, or until a node of the cluster fails, and returns the node's error.
func (k *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-k.failed:
		return err
	}
}

// Close stops everything in order: coordinators, workers, Redis, etcd. It waits for rows under way, for 5 s at most. It is safe to call
// twice; the second call returns the same error.
func (k *Cluster) Close() error {
	k.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		for _, n := range k.Coordinators() {
			k.closed = errors.Join(k.closed, n.Drain(ctx))
		}
		var stops sync.WaitGroup
		for _, n := range k.living() {
			stops.Go(func() { _ = n.Drain(ctx) }) // a node that has not drained in time is cut off below
		}
		stops.Wait()
		k.cancel()
		for _, n := range k.living() {
			<-n.done
		}
		if k.store != nil {
			k.closed = errors.Join(k.closed, k.store.Close())
		}
		if k.dead != nil {
			k.closed = errors.Join(k.closed, k.dead.Close())
		}
		if k.redis != nil {
			k.closed = errors.Join(k.closed, k.redis.Close())
		}
		if k.etcd != nil {
			k.closed = errors.Join(k.closed, k.etcd.Close())
		}
	})
	return k.closed
}
